// Up to where an open file has learnt of errors of write-back (WriteErrors in VirtualMemory).

import LinuxABI
import Synchronization
import VirtualMemory

/// An open file's place among the errors of its pages' store.
public struct WriteErrorCursor: ~Copyable {
  private let seen: Atomic<UInt64>

  /// For a file that is opened now; `object` has its pages, if anything has.
  @export(interface)
  public init(_ object: MemoryObject?) { seen = Atomic(object?.writeErrorSample ?? 0) }

  /// Runs `sync`, which writes pages back.
  ///
  /// - Throws: its error, or an earlier one outside of any call: each is reported once.
  @inline(__always)
  public func check(_ object: MemoryObject?, _ sync: () throws(Errno) -> Void) throws(Errno) {
    var failure: Errno?
    do throws(Errno) { try sync() } catch { failure = error }
    if let object, let error = take(object) { failure = error }
    if let failure { throw failure }
  }

  @export(interface)
  public func take(_ object: MemoryObject) -> Errno? {
    let before = seen.load(ordering: .relaxed)
    var now = before
    guard let error = object.takeWriteError(since: &now) else { return nil }
    // Two threads that ask at once share one answer.
    return seen.compareExchange(expected: before, desired: now, ordering: .relaxed).exchanged ? error : nil
  }
}
