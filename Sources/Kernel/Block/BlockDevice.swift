// A block device: an array of sectors that are transferred in requests. Its queue takes transfers from everywhere, joins
// neighbours, and hands requests to the driver as long as the device takes them, first come first served.

import KernelCore
import LinuxABI
import FileSystem
import PhysicalMemory
import Scheduling
import Synchronization
import VirtualMemory

/// What a device takes.
public struct BlockLimits: Sendable {
  /// Pieces of memory in a request.
  public var segments: Int
  /// Bytes of data in a request.
  public var bytes: Int
  /// The unit that programs see (BLKSSZGET): a power of two, at least 512.
  public var logicalBlockSize = 512
  public var physicalBlockSize = 4096
  /// Sectors that one discard or clear may be about; 0: the device cannot.
  public var discardSectors: UInt64 = 0
  public var clearSectors: UInt64 = 0

  public init(segments: Int, bytes: Int) {
    self.segments = segments
    self.bytes = bytes
  }
}

/// A block device. Drivers subclass it; there is no end to its life.
open class BlockDevice {
  /// The name below /dev.
  public final let name: ByteString
  public final let number: DeviceNumber
  /// The size, in sectors of 512 bytes.
  public final let sectorCount: UInt64
  public final let isReadOnly: Bool
  public final let limits: BlockLimits
  final let queue = SpinLock(BlockQueue(), rank: .device)
  /// Transfers for the page cache and for callers without a transfer of their own; they must not allocate while they hold one.
  public final let pool: BlockIOPool
  /// Transfers for direct input and output, which fault pages in while they have one: freeing memory for that may need
  /// the others.
  public final let directPool: BlockIOPool
  /// The page cache: what the device's file reads, writes and maps.
  public final private(set) var content: MemoryObject!
  /// Excludes writers of the device's file from each other.
  final let writeLock = SleepLock(.blockWrite)
  /// Open files; the last one's end brings everything to the device.
  final let openFiles = Atomic<Int>(0)

  @export(interface)
  public init(
    name: ByteString, number: DeviceNumber, sectorCount: UInt64, isReadOnly: Bool = false, limits: BlockLimits
  ) {
    self.name = name
    self.number = number
    self.sectorCount = sectorCount
    self.isReadOnly = isReadOnly
    self.limits = limits
    pool = BlockIOPool(count: 8, segments: min(limits.segments, 64))
    directPool = BlockIOPool(count: 8, segments: min(limits.segments, 64))
    content = MemoryObject(store: self, size: sectorCount * UInt64(BlockIO.sectorSize))
  }

  public final var byteCount: UInt64 { sectorCount * UInt64(BlockIO.sectorSize) }

  // MARK: For drivers

  /// Hands a request to the device: `forEachSegment` has its memory. Maybe the device has answered it, by `complete`,
  /// when this returns.
  ///
  /// - Returns: false when the device takes no more now. A request is under way then, with whose end it will be
  ///   asked again.
  /// - Locks: called with none held, maybe in an interrupt handler, never by two threads at once.
  open func start(_ request: BlockIO) -> Bool { panic("a block device without a driver") }

  /// Looks for answers of the device, for those who wait and need not be interrupted for it.
  open func poll() {}

  // MARK: For users

  /// Hands a transfer to the device; `didComplete` is called at its end, maybe before this returns.
  @export(interface)
  public final func submit(_ io: BlockIO) {
    io.begin(at: Instant.now().nanoseconds)
    if let error = check(io) { return io.finish(error) }
    queue.withLock { $0.add(io, limits) }
    run()
  }

  /// Performs a transfer: returns at its end.
  ///
  /// - Throws: EIO, also for sectors beyond the end; EROFS; EOPNOTSUPP for what the device cannot; ENOSPC.
  /// - Locks: sleeps.
  @export(interface)
  public final func perform(_ io: BlockIO) throws(Errno) {
    io.sleeper = Thread.current
    submit(io)
    try finish(io)
  }

  /// Sleeps until `io`, whose sleeper is the calling thread, is complete.
  final func finish(_ io: BlockIO) throws(Errno) {
    defer { io.sleeper = nil }
    if !io.isComplete {
      // Uninterruptible: the device may write to the memory until it has answered. Without a deadline it cannot fail.
      try? Thread.sleep(.uninterruptible) {
        poll()
        return io.isComplete
      }
    }
    if let error = io.error { throw error }
  }

  /// What was written before survives a loss of power when this returns.
  @export(interface)
  public final func flush() throws(Errno) {
    let io = pool.take()
    defer { pool.give(io) }
    io.prepare(.flush, sector: 0)
    try perform(io)
  }

  final func check(_ io: BlockIO) -> Errno? {
    switch io.operation {
    case .flush: return nil
    case .read: break
    case .write: if isReadOnly { return .EROFS }
    case .discard, .clear:
      if isReadOnly { return .EROFS }
      let most = io.operation == .discard ? limits.discardSectors : limits.clearSectors
      if io.rangeCount > most { return .EOPNOTSUPP }
    }
    if io.operation.hasData {
      if io.memory.byteCount % BlockIO.sectorSize != 0 || io.memory.byteCount == 0 { return .EINVAL }
      if io.memory.count > limits.segments || io.memory.byteCount > limits.bytes { return .EINVAL }
    }
    guard io.sector <= sectorCount, io.sectorCount <= sectorCount - io.sector else { return .EIO }
    return nil
  }

  /// What has been transferred so far.
  public final var statistics: BlockStatistics { @export(interface) get { queue.withLock { $0.currentStatistics } } }
}
