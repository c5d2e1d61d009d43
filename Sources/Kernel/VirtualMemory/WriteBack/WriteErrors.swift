// Write-back fails outside of any call. Each open file of an object reports once what went wrong since it last
// asked, no matter which thread met the error (fsync(2), ERRORS; on Linux errseq_t).

import LinuxABI
import Synchronization

/// The errors of an object's store.
struct WriteErrors: ~Copyable {
  /// Twice the number of errors so far, plus 1 when the last has been observed.
  private let state = Atomic<UInt64>(1)
  private let latest = Atomic<Int32>(Errno.EIO.rawValue)

  /// How many errors there were.
  var count: UInt64 { state.load(ordering: .acquiring) >> 1 }
  var last: Errno { Errno(rawValue: latest.load(ordering: .relaxed)) }

  func note(_ error: Errno) {
    latest.store(error.rawValue, ordering: .relaxed)
    var old = state.load(ordering: .relaxed)
    while true {
      let (exchanged, seen) = state.compareExchange(
        expected: old, desired: (old | 1) &+ 1, ordering: .acquiringAndReleasing)
      if exchanged { return }
      old = seen
    }
  }

  /// The count from which a newly opened file starts: it also reports errors that no one has observed yet (errseq_t).
  func sample() -> UInt64 {
    let now = state.load(ordering: .acquiring)
    return now & 1 != 0 ? now >> 1 : (now >> 1) &- 1
  }

  /// The last error, if there were any since `seen`, which moves on.
  func take(since seen: inout UInt64) -> Errno? {
    let now = state.load(ordering: .acquiring)
    guard now >> 1 != seen else { return nil }
    let error = last
    // If another error comes just now, every file reports it.
    _ = state.compareExchange(expected: now, desired: now | 1, ordering: .acquiringAndReleasing)
    seen = now >> 1
    return error
  }
}

extension MemoryObject {
  /// From where a new open file counts errors of write-back: with one that nobody has learnt of.
  public var writeErrorSample: UInt64 { @export(interface) get { writeErrors.sample() } }

  /// The last error of write-back, if there were any since `seen`, which moves on.
  @export(interface)
  public func takeWriteError(since seen: inout UInt64) -> Errno? { writeErrors.take(since: &seen) }
}
