// Frames behind user memory: counting them, and pinning them for devices.
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

extension AddressSpace {
  /// Holds the frames behind [address, address + length) in memory and in place until `unpin`.
  ///
  /// - Parameter access: `.write` if the device is going to write: copy-on-write is done first.
  /// - Throws: EFAULT, ENOMEM.
  @export(interface)
  public func pin(_ address: UInt64, _ length: UInt64, for access: Access) throws(Errno) -> [PinnedRun] {
    guard Self.isUserRange(address, length) else { throw .EFAULT }
    var runs: [PinnedRun] = []
    var page = address & ~pageMask
    while page < address &+ length {
      let frame = tables.withLock { tables -> PageFrameNumber? in
        let entry = tables.entry(page)
        // The page of zeros cannot be pinned: a later write would go to another frame.
        guard entry.permits(access), entry.isCounted else { return nil }
        entry.frame.frame.retain(count: Frames.pinBias)
        tables.mayHavePins = true
        return entry.frame
      }
      guard let frame else {
        do throws(FaultFailure) {
          let isZero = tables.withLock { tables in
            let entry = tables.entry(page)
            return entry.isResident && !entry.isCounted
          }
          try handleFault(at: page, access: isZero ? .write : access)
        } catch {
          Self.unpin(runs)
          throw error == .outOfMemory ? .ENOMEM : .EFAULT
        }
        continue
      }
      if let last = runs.last, last.frame.advanced(by: last.pageCount) == frame {
        runs[runs.count - 1].pageCount += 1
      } else {
        runs.append(PinnedRun(frame: frame, pageCount: 1))
      }
      page = page &+ pageSize
    }
    return runs
  }

  /// Ends a pin.
  @export(interface)
  public static func unpin(_ runs: [PinnedRun]) {
    for run in runs {
      for index in 0..<run.pageCount { run.frame.advanced(by: index).frame.release(count: Frames.pinBias) }
    }
  }

  /// Pages of [start, end) in memory.
  func residency(_ start: UInt64, _ end: UInt64) -> (all: Int, anonymous: Int, swapped: Int) {
    tables.withLock { tables in
      var result = (all: 0, anonymous: 0, swapped: 0)
      tables.forEach(start, end) { _, entry in
        if entry.isSwapped { result.swapped += 1 }
        guard entry.isCounted else { return }
        result.all += 1
        if !entry.isObjectPage { result.anonymous += 1 }
      }
      return result
    }
  }
}
