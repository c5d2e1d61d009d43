// Swap space on a block device: pages by number, the header being page 0. Its transfers are its own, so that writing out
// pages neither allocates nor waits for anybody but the device.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import VirtualMemory

/// A disk with swap space.
public final class SwapDisk: SwapDevice {
  public let device: BlockDevice
  public let swapName: ByteString
  public let swapPageCount: Int
  public var isSwapFile: Bool { false }
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
    swapName = Self.name(of: device)
    swapPageCount = Int(header.pageCount)
  }

  /// What a disk is called as a swap area.
  @export(interface)
  public static func name(of device: BlockDevice) -> ByteString { "/dev/" + device.name }

  public func readSwap(slot: Int, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try unsafe transfer(.read, slot, frames)
  }

  public func writeSwap(slot: Int, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try unsafe transfer(.write, slot, frames)
  }

  private func transfer(
    _ operation: BlockIO.Operation, _ slot: Int, _ frames: UnsafeBufferPointer<PageFrameNumber>
  ) throws(Errno) {
    guard slot > 0, slot < swapPageCount, frames.count <= swapPageCount - slot else { throw .EINVAL }
    let io = pool.take()
    defer { pool.give(io) }
    let most = min(pool.segments, device.limits.bytes / PhysicalMemory.pageSize)
    var next = 0
    while next < frames.count {
      io.prepare(operation, sector: UInt64(slot + next) * UInt64(PhysicalMemory.pageSize / BlockIO.sectorSize))
      let end = min(frames.count, next + most)
      // SAFETY: `next` is within the buffer.
      for index in next..<end { unsafe io.memory.append(frames[index]) }
      try device.perform(io)
      next = end
    }
  }

  /// Gives the space of the whole area, but for the header, back to the device.
  ///
  /// - Throws: EOPNOTSUPP when the device cannot; the device's errors.
  @export(interface)
  public func discard() throws(Errno) {
    let sectors = UInt64(PhysicalMemory.pageSize / BlockIO.sectorSize)
    try device.change(.discard, sector: sectors, count: UInt64(swapPageCount - 1) * sectors)
  }
}
