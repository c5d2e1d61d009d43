// Frames behind user memory: counting them, pinning them for devices, and lending them.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it.

import KernelCore
import LinuxABI
import PhysicalMemory

/// Neighbouring pages of guest memory behind a part of user memory.
public struct PinnedRun: Equatable, Sendable {
  public var frame: PageFrameNumber
  public var pageCount: Int
}

extension [PinnedRun] {
  /// Adds a page, to the last run if it is its neighbour.
  mutating func appendPage(_ frame: PageFrameNumber) {
    if let last, last.frame.advanced(by: last.pageCount) == frame {
      self[count - 1].pageCount += 1
    } else {
      append(PinnedRun(frame: frame, pageCount: 1))
    }
  }
}

/// A page that a walk has come to: its frame, and the part of it that belongs to the range.
struct WalkedPage {
  var frame: PageFrameNumber
  var offset: Int
  var count: Int
  /// Whether the frame was pinned; the page of zeros needs none.
  var isPinned: Bool
}

extension AddressSpace {
  /// Pages that are pinned with the table lock held once.
  private static var pinBatch: Int { 64 }
  /// More references than that are not added: the count of a frame must not overflow, however often it is pinned.
  private static var pinCeiling: Int32 { 1 << 30 }

  /// The page walker: goes over [address, address + count), makes each page present as `access` needs it, pins its frame,
  /// and hands it to `body`, which says whether it takes the page; it must not sleep. A caller that keeps a pinned frame unpins it.
  ///
  /// - Parameter access: `.write` if the device is going to write: copy-on-write is done first.
  /// - Returns: how many bytes were taken.
  /// - Throws: EFAULT, ENOMEM, EAGAIN (a page is pinned too often), each only when nothing was taken.
  func pinPages(
    _ address: UInt64, _ count: Int, for access: Access, _ body: (WalkedPage) -> Bool
  ) throws(Errno) -> Int {
    guard count >= 0, Self.isUserRange(address, UInt64(count)) else { throw .EFAULT }
    var done = 0
    while done < count {
      switch pinPresent(address, &done, count, access, body) {
      case .taken: continue
      case .refused: return done
      case .crowded:
        if done == 0 { throw .EAGAIN }
        return done
      case .absent(let wanted):
        do throws(FaultFailure) { try makeAccessible(address &+ UInt64(done), wanted, .byProgram) } catch {
          if done > 0 { return done }
          throw error == .outOfMemory ? .ENOMEM : .EFAULT
        }
      }
    }
    return done
  }

  private enum WalkOutcome {
    case taken, refused, crowded
    /// A fault of this kind brings the page.
    case absent(Access)
  }

  /// Pins the pages from `done` on that are present, a batch at most.
  private func pinPresent(
    _ address: UInt64, _ done: inout Int, _ count: Int, _ access: Access, _ body: (WalkedPage) -> Bool
  ) -> WalkOutcome {
    tables.withLock { tables in
      for _ in 0..<Self.pinBatch where done < count {
        let position = address &+ UInt64(done)
        let offset = Int(truncatingIfNeeded: position & pageMask)
        let entry = tables.entry(position & ~pageMask)
        var page = WalkedPage(
          frame: entry.frame, offset: offset, count: min(Int(pageSize) - offset, count - done), isPinned: true)
        guard entry.permits(access) else { return .absent(access) }
        if entry.isCounted {
          guard Self.pinAgain(entry.frame) else { return .crowded }
          tables.mayHavePins = true
        } else {
          // The page of zeros: it stays what it is, which is enough for a device that reads.
          guard access == .read else { return .absent(.write) }
          page.isPinned = false
        }
        guard body(page) else {
          if page.isPinned { entry.frame.frame.release(count: Frames.pinBias) }
          return .refused
        }
        done += page.count
      }
      return .taken
    }
  }

  /// Holds the frames behind [address, address + length) in memory and in place for a device that writes, until `unpin`.
  ///
  /// - Throws: as `pinPages`, for any page.
  @export(interface)
  public func pin(_ address: UInt64, _ length: UInt64) throws(Errno) -> [PinnedRun] {
    guard Self.isUserRange(address, length) else { throw .EFAULT }
    let end = (address &+ length &+ pageMask) & ~pageMask
    var runs: [PinnedRun] = []
    var position = address & ~pageMask
    do throws(Errno) {
      while position < end {
        let done = try pinPages(position, Int(end &- position), for: .write) { page in
          runs.appendPage(page.frame)
          return true
        }
        position = position &+ UInt64(done)
      }
    } catch {
      Self.unpin(runs)
      throw error
    }
    return runs
  }

  // MARK: Lending

  /// Pins the page at `address` for a reader that may keep it for long; `limit` bytes at most are wanted.
  ///
  /// A private page that another process has too, copy-on-write, must not be lent: when the other is its last owner, it
  /// writes to it in place, and the borrower would see data that it has no right to. Writing is how a page becomes this space's
  /// own; where that is not allowed, the borrower copies.
  ///
  /// - Throws: EFAULT, ENOMEM.
  func lendPage(at address: UInt64, limit: Int) throws(Errno) -> Lending {
    guard Self.isUserRange(address, 1), limit > 0 else { throw .EFAULT }
    let offset = Int(truncatingIfNeeded: address & pageMask)
    let count = min(Int(pageSize) - offset, limit)
    while true {
      var frame = PageFrameNumber(0)
      let outcome: WalkOutcome = tables.withLock { tables in
        let entry = tables.entry(address & ~pageMask)
        guard entry.permits(.read) else { return .absent(.read) }
        guard entry.isObjectPage || (entry.isCounted && entry.permits(.write)) else { return .absent(.write) }
        guard entry.isCounted, Self.pinAgain(entry.frame) else { return .crowded }
        tables.mayHavePins = true
        frame = entry.frame
        return .taken
      }
      switch outcome {
      case .taken: return .lent(frame, offset: offset, count: count)
      case .refused, .crowded: return .refused(count: count)
      case .absent(let wanted):
        do throws(FaultFailure) { try makeAccessible(address, wanted, .byProgram) } catch {
          if error == .notPermitted, wanted == .write { return .refused(count: count) }
          throw error == .outOfMemory ? .ENOMEM : .EFAULT
        }
      }
    }
  }

  /// Adds a pin to a frame that the caller has a hold of; false when it has too many.
  static func pinAgain(_ frame: PageFrameNumber) -> Bool {
    guard frame.frame.referenceCount < pinCeiling else { return false }
    frame.frame.retain(count: Frames.pinBias)
    return true
  }

  /// Ends a pin.
  @export(interface)
  public static func unpin(_ runs: [PinnedRun]) {
    for run in runs {
      for index in 0..<run.pageCount { run.frame.advanced(by: index).frame.release(count: Frames.pinBias) }
    }
  }
}
