// What a thread has read and written, for accounts (proc_pid_io(5), getrusage(2)). The file calls count what programs move, the page
// cache and direct transfers what comes from and goes to storage on the thread's behalf.

/// Bytes and calls.
public struct TransferCounts: Equatable, Sendable {
  /// Bytes that system calls have read and written, from and to whatever it was.
  public var read: UInt64 = 0
  public var written: UInt64 = 0
  /// System calls that read and write.
  public var readCalls: UInt64 = 0
  public var writeCalls: UInt64 = 0
  /// Bytes that came from storage, and bytes that are to go there.
  public var fetched: UInt64 = 0
  public var dirtied: UInt64 = 0
  /// The part of what was to go to storage that was removed before (truncation).
  public var cancelled: UInt64 = 0

  public init() {}

  @export(interface)
  public mutating func add(_ other: TransferCounts) {
    read &+= other.read
    written &+= other.written
    readCalls &+= other.readCalls
    writeCalls &+= other.writeCalls
    fetched &+= other.fetched
    dirtied &+= other.dirtied
    cancelled &+= other.cancelled
  }
}
