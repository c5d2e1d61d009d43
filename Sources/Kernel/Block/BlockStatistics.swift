// What a block device has done, as /proc/diskstats and /sys/block/DEV/stat show it (Linux: Documentation/block/stat.rst).

/// A block device's counters.
public struct BlockStatistics: Sendable {
  /// Of one kind of operation.
  public struct Operation: Sendable {
    public var count: UInt64 = 0
    /// Transfers that became a part of another request.
    public var joined: UInt64 = 0
    public var sectors: UInt64 = 0
    /// From the submission to the end, over all transfers.
    public var nanoseconds: UInt64 = 0
  }

  public var reads = Operation()
  public var writes = Operation()
  public var discards = Operation()
  public var flushes = Operation()
  /// Transfers that wait or are being done.
  public var underWay = 0
  /// The time in which there were any.
  public var busyNanoseconds: UInt64 = 0
  /// The same, times their number.
  public var weightedNanoseconds: UInt64 = 0

  public init() {}

  subscript(operation: BlockIO.Operation) -> Operation {
    get {
      switch operation {
      case .read: reads
      case .write: writes
      case .discard, .clear: discards
      case .flush: flushes
      }
    }
    set {
      switch operation {
      case .read: reads = newValue
      case .write: writes = newValue
      case .discard, .clear: discards = newValue
      case .flush: flushes = newValue
      }
    }
  }
}
