// O_DIRECT: the program's pages are pinned and handed to the device as they are; no byte is copied by the kernel. The page
// cache is kept in agreement: what it has changed goes to the device first, and it forgets what the device is about to receive.

import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import VirtualMemory

extension BlockDeviceFile {
  func readDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try checkAlignment(offset, buffer)
    guard offset < device.byteCount else { return 0 }
    let hidden = buffer.limit(to: Int(clamping: device.byteCount - offset))
    defer { buffer.extend(by: hidden) }
    if device.content.hasUnstoredPages { try device.content.writeBack(offset..<offset + UInt64(buffer.remaining)) }
    return try transferDirectly(.read, at: offset, &buffer)
  }

  func writeDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try checkAlignment(offset, buffer)
    device.writeLock.acquire()
    defer { device.writeLock.release() }
    forgetCache(offset, buffer.remaining)
    let count = try transferDirectly(.write, at: offset, &buffer)
    // Another thread may have read the old contents meanwhile.
    forgetCache(offset, count)
    if flags.contains(.dataSync) { try device.flush() }
    return count
  }

  private func forgetCache(_ offset: UInt64, _ count: Int) {
    let range = offset..<offset + UInt64(count)
    if device.content.hasUnstoredPages { try? device.content.writeBack(range) }
    device.content.forget(range)
  }

  /// open(2), O_DIRECT: place, length and every address are multiples of the logical block size.
  private func checkAlignment(_ offset: UInt64, _ buffer: TransferBuffer) throws(Errno) {
    let mask = UInt64(device.limits.logicalBlockSize - 1)
    guard offset & mask == 0, buffer.isAligned(to: device.limits.logicalBlockSize) else { throw .EINVAL }
  }

  private func transferDirectly(
    _ operation: BlockIO.Operation, at offset: UInt64, _ buffer: inout TransferBuffer
  ) throws(Errno) -> Int {
    let io = device.directPool.take()
    defer { device.directPool.give(io) }
    return try buffer.transfer { buffer throws(Errno) in
      var position = offset
      while buffer.remaining > 0 {
        io.prepare(operation, sector: position / UInt64(BlockIO.sectorSize))
        let pins = try buffer.pin(
          into: &io.memory, segments: device.directPool.segments, bytes: device.limits.bytes,
          for: operation == .read ? .write : .read)
        defer { pins.release() }
        let count = io.memory.byteCount
        try device.perform(io)
        let thread = Thread.current
        switch operation {
        case .read: thread.transfers.fetched &+= UInt64(count)
        case .write: thread.transfers.dirtied &+= UInt64(count)
        default: break
        }
        buffer.consume(pins)
        position += UInt64(count)
        if Thread.current.hasFatalSignal { return }
      }
    }
  }
}
