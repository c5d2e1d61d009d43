// How much memory files may take whose content has no other place: tmpfs, memfds, and the names and attributes that go with
// them. Such memory outlives the program that filled it, so killing programs does not bring it back; it has to be refused
// in time. Each file system has a quota of its own, and all together have one: five eighths of the memory, and swap.

import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization

/// A bound of the pages of one memory file system.
public final class PageQuota: Sendable {
  /// In pages; `Int.max` leaves only the bound of all.
  public let limit: Int
  private let used = Atomic<Int>(0)
  /// Bytes of names and attributes; whole pages of them are in `used`.
  private let bytes = Atomic<Int>(0)

  /// Pages of all quotas.
  private static let total = Atomic<Int>(0)
  /// Nothing is known of the memory on a host that has not set it up.
  private static let memory = MemoryStatistics.snapshot().total
  private static var totalLimit: Int { memory > 1 ? memory / 8 * 5 + SwapSpace.totalPages : .max }

  @export(interface)
  public init(limit: Int) { self.limit = limit }

  deinit { Self.total.subtract(usedPages, ordering: .relaxed) }

  /// Pages that are taken.
  public var usedPages: Int { @export(interface) get { used.load(ordering: .relaxed) } }

  /// Pages that can still be taken.
  public var freePages: Int {
    @export(interface) get {
      let rest = Self.totalLimit - Self.total.load(ordering: .relaxed)
      return max(0, min(rest, limit == .max ? .max : limit - usedPages))
    }
  }

  /// Takes pages, all or none.
  ///
  /// - Throws: ENOSPC: killing a program would not help.
  @export(interface)
  public func take(_ pages: Int) throws(Errno) {
    if pages > 0 {
      do throws(Errno) { try AllocationFailure.check() } catch { throw .ENOSPC }
    }
    let own = used.add(pages, ordering: .relaxed).newValue
    let all = Self.total.add(pages, ordering: .relaxed).newValue
    guard pages > 0, own > limit || all > Self.totalLimit else { return }
    give(pages)
    throw .ENOSPC
  }

  /// Gives pages back.
  @export(interface)
  public func give(_ pages: Int) {
    used.subtract(pages, ordering: .relaxed)
    Self.total.subtract(pages, ordering: .relaxed)
  }

  /// Takes bytes for names and attributes.
  ///
  /// - Throws: ENOSPC.
  @export(interface)
  public func takeBytes(_ count: Int) throws(Errno) {
    let taken = changeBytes(by: count)
    do throws(Errno) { try take(taken) } catch {
      // What the bytes amount to now decides: others may have added theirs meanwhile.
      give(-(taken + changeBytes(by: -count)))
      throw error
    }
  }

  /// Gives bytes back.
  @export(interface)
  public func giveBytes(_ count: Int) { give(-changeBytes(by: -count)) }

  /// - Returns: how many whole pages the bytes amount to more than before.
  private func changeBytes(by change: Int) -> Int {
    let (old, new) = bytes.add(change, ordering: .relaxed)
    return new / PhysicalMemory.pageSize - old / PhysicalMemory.pageSize
  }
}
