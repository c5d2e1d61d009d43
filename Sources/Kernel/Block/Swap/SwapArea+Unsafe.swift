// Swap space on a block device: pages by number, the header being page 0. Its transfers are its own, so that writing out
// pages neither allocates nor waits for anybody but the device.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import VirtualMemory

/// A swap area.
public final class SwapArea {
  public let device: BlockDevice
  /// Pages, the header among them.
  public let pageCount: UInt64
  /// Those that must not be used, besides the header.
  public let badPages: [UInt64]
  private let pool: BlockIOPool

  private static var transfers: Int { 4 }
  private static var segments: Int { 64 }

  /// Reads the header.
  ///
  /// - Throws: EINVAL when the device is no swap space; EROFS; ENOMEM; the device's errors.
  @export(interface)
  public init(_ device: BlockDevice) throws(Errno) {
    if device.isReadOnly { throw .EROFS }
    guard device.byteCount >= UInt64(PhysicalMemory.pageSize) else { throw .EINVAL }
    let page = try FrameAllocator.allocate(options: .mayReclaim)
    defer { FrameAllocator.free(page) }
    let pool = BlockIOPool(count: Self.transfers, segments: min(Self.segments, device.limits.segments))
    // What programs wrote to the device (mkswap) may still be in the page cache.
    try device.content.writeBack()
    device.content.invalidate()
    let io = pool.take()
    defer { pool.give(io) }
    io.prepare(.read, sector: 0)
    io.memory.append(page)
    try device.perform(io)
    let header = try SwapHeader(page, deviceSize: device.byteCount)
    self.device = device
    self.pool = pool
    pageCount = header.pageCount
    badPages = header.badPages
  }

  /// Reads pages from `slot` on, one for each frame.
  ///
  /// - Throws: the device's errors.
  /// - Locks: sleeps.
  @export(interface)
  public func read(_ slot: UInt64, _ frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try unsafe transfer(.read, slot, frames)
  }

  /// Writes pages from `slot` on, one for each frame. Allocates nothing.
  ///
  /// - Throws: the device's errors.
  /// - Locks: sleeps.
  @export(interface)
  public func write(_ slot: UInt64, _ frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try unsafe transfer(.write, slot, frames)
  }

  private func transfer(
    _ operation: BlockIO.Operation, _ slot: UInt64, _ frames: UnsafeBufferPointer<PageFrameNumber>
  ) throws(Errno) {
    guard slot > 0, slot < pageCount, unsafe UInt64(frames.count) <= pageCount - slot else { throw .EINVAL }
    let io = pool.take()
    defer { pool.give(io) }
    let most = min(pool.segments, device.limits.bytes / PhysicalMemory.pageSize)
    var next = 0
    while next < frames.count {
      io.prepare(operation, sector: (slot + UInt64(next)) * UInt64(PhysicalMemory.pageSize / BlockIO.sectorSize))
      let end = min(frames.count, next + most)
      // SAFETY: `next` is within the buffer.
      for index in next..<end { unsafe io.memory.append(frames[index]) }
      try device.perform(io)
      next = end
    }
  }

  /// The slots are not in use any more: the device may take their space back.
  @export(interface)
  public func discard(_ slot: UInt64, count: UInt64) throws(Errno) {
    guard slot > 0, slot < pageCount, count <= pageCount - slot else { throw .EINVAL }
    let sectors = UInt64(PhysicalMemory.pageSize / BlockIO.sectorSize)
    try device.change(.discard, sector: slot * sectors, count: count * sectors)
  }
}
