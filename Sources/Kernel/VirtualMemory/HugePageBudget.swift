// How many huge pages a file system may use, and how many it is sure of (hugetlbfs's size= and min_size=).

import KernelCore
import LinuxABI
import PhysicalMemory

/// The share of one mounted hugetlbfs in the pool. Counts are in huge pages.
public final class HugePageBudget {
  private struct State {
    var used = 0
    /// Promised to the file system by the pool and not used yet; at most `minimum - used`.
    var assured: Int
  }
  public let maximum: Int
  public let minimum: Int
  private let state: SpinLock<State>

  /// - Parameters:
  ///   - maximum: `Int.max` for no limit.
  ///   - minimum: taken from the pool at once.
  /// - Throws: ENOMEM when the pool has not so many.
  @export(interface)
  public init(maximum: Int, minimum: Int) throws(Errno) {
    try HugePagePool.reserve(minimum)
    self.maximum = maximum
    self.minimum = minimum
    state = SpinLock(State(assured: minimum), rank: .hugePages)
  }

  deinit { HugePagePool.unreserve(state.withLock { $0.assured }) }

  /// Pages that may still be used.
  public var free: Int {
    @export(interface) get { maximum == .max ? 0 : max(0, maximum - state.withLock { $0.used }) }
  }

  /// Charges `count` pages; returns how many of them the pool has still to promise.
  ///
  /// - Throws: ENOMEM at the limit.
  func charge(_ count: Int) throws(Errno) -> Int {
    try state.withLock { state throws(Errno) in
      guard count <= maximum - state.used else { throw .ENOMEM }
      state.used += count
      let assured = min(count, state.assured)
      state.assured -= assured
      return count - assured
    }
  }

  /// Undoes `charge(count)`, which returned `unassured`.
  func undoCharge(_ count: Int, unassured: Int) {
    state.withLock { state in
      state.used -= count
      state.assured += count - unassured
    }
  }

  /// Takes back a charge for pages that were promised and not used; returns how many promises go back to the pool.
  func refund(_ count: Int) -> Int {
    state.withLock { state in
      state.used -= count
      let kept = max(0, min(count, minimum - state.used - state.assured))
      state.assured += kept
      return count - kept
    }
  }

  /// Takes back a charge for pages that have returned to the pool. What the file system is sure of is reserved again;
  /// while others hold a page, or the pool is promised to others meanwhile, it has less.
  func didFree(_ count: Int) {
    let kept = count - refund(count)
    do throws(Errno) { try HugePagePool.reserve(kept) } catch { state.withLock { $0.assured -= kept } }
  }
}
