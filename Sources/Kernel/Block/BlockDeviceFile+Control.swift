// ioctl(2) on block devices (Linux: include/uapi/linux/fs.h).

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

extension BlockDeviceFile {
  func control(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    switch request {
    case BLKGETSIZE64: try UserMemory.write(device.byteCount, to: argument)
    case BLKGETSIZE: try UserMemory.write(device.sectorCount, to: argument)
    case BLKSSZGET: try UserMemory.write(Int32(device.limits.logicalBlockSize), to: argument)
    case BLKBSZGET: try UserMemory.write(Int32(4096), to: argument)
    case BLKBSZSET:
      // The unit of caching, which is the page whatever programs prefer.
      let size = try UserMemory.read(argument, as: Int32.self)
      guard size >= 512, size <= 4096, size & (size - 1) == 0 else { throw .EINVAL }
    case BLKPBSZGET: try UserMemory.write(UInt32(device.limits.physicalBlockSize), to: argument)
    case BLKIOMIN: try UserMemory.write(UInt32(device.limits.physicalBlockSize), to: argument)
    case BLKIOOPT: try UserMemory.write(UInt32(0), to: argument)
    case BLKALIGNOFF: try UserMemory.write(Int32(0), to: argument)
    case BLKROGET: try UserMemory.write(Int32(device.isReadOnly ? 1 : 0), to: argument)
    case BLKROTATIONAL: try UserMemory.write(UInt16(0), to: argument)
    case BLKSECTGET: try UserMemory.write(UInt16(clamping: device.limits.bytes / 512), to: argument)
    case BLKDISCARDZEROES: try UserMemory.write(UInt32(0), to: argument)
    case BLKRAGET, BLKFRAGET: try UserMemory.write(UInt64(256), to: argument)
    case BLKRASET, BLKFRASET: break
    case BLKFLSBUF:
      try device.content.writeBack()
      device.content.invalidate()
    case BLKDISCARD: try changeRange(.discard, argument)
    case BLKZEROOUT: try changeRange(.clear, argument)
    default: throw .ENOTTY
    }
    return 0
  }

  /// BLKDISCARD and BLKZEROOUT: `argument` points to a start and a length in bytes.
  private func changeRange(_ operation: BlockIO.Operation, _ argument: UInt64) throws(Errno) {
    guard flags.allowsWriting else { throw .EBADF }
    let start = try UserMemory.read(argument, as: UInt64.self)
    let length = try UserMemory.read(argument &+ 8, as: UInt64.self)
    let mask = UInt64(device.limits.logicalBlockSize - 1)
    let (end, overflow) = start.addingReportingOverflow(length)
    guard start & mask == 0, length & mask == 0, !overflow, end <= device.byteCount else { throw .EINVAL }
    device.writeLock.acquire()
    defer { device.writeLock.release() }
    try device.content.writeBack(start..<end)
    try device.change(operation, sector: start / 512, count: length / 512)
    device.content.invalidate()
  }
}

extension BlockDevice {
  /// Discards or clears a range of any length.
  ///
  /// - Throws: EOPNOTSUPP when the device cannot; as `perform`.
  @export(interface)
  public final func change(_ operation: BlockIO.Operation, sector: UInt64, count: UInt64) throws(Errno) {
    let most = operation == .discard ? limits.discardSectors : limits.clearSectors
    guard most > 0 else { throw .EOPNOTSUPP }
    let io = pool.take()
    defer { pool.give(io) }
    var done: UInt64 = 0
    while done < count {
      let part = min(count - done, most)
      io.prepare(operation, sector: sector + done, count: part)
      try perform(io)
      done += part
    }
  }
}
