// The page cache of a block device: pages are read from and written to its sectors.

import KernelCore
import LinuxABI
import PhysicalMemory
import VirtualMemory

extension BlockDevice: PageStore {
  public final func readPages(
    _ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>
  ) throws(Errno) {
    try transfer(.read, index, frames)
  }

  public final func writePages(
    _ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>
  ) throws(Errno) {
    try transfer(.write, index, frames)
  }

  private final func transfer(
    _ operation: BlockIO.Operation, _ index: UInt64, _ frames: UnsafeBufferPointer<PageFrameNumber>
  ) throws(Errno) {
    let io = pool.take()
    defer { pool.give(io) }
    let pageSize = UInt64(PhysicalMemory.pageSize)
    let most = min(pool.segments, limits.bytes / PhysicalMemory.pageSize)
    var next = 0
    while next < frames.count {
      // The page cache has no pages beyond the end, but the last one may be only a part.
      let offset = (index + UInt64(next)) * pageSize
      guard offset < byteCount else { return }
      io.prepare(operation, sector: offset / UInt64(BlockIO.sectorSize))
      let end = min(frames.count, next + most)
      while next < end {
        let rest = byteCount - (index + UInt64(next)) * pageSize
        // SAFETY: `next` is within the buffer.
        unsafe io.memory.append(frames[next], length: Int(min(rest, pageSize)))
        next += 1
        if rest <= pageSize { break }
      }
      try perform(io)
      if UInt64(next) * pageSize + index * pageSize >= byteCount { return }
    }
  }
}
