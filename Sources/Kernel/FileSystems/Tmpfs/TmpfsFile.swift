// A regular file of a tmpfs: its pages are a memory object without a store, which read, write and mmap share.

import FileSystem
import KernelCore
import LinuxABI
import Synchronization
import VirtualMemory

/// A regular file of a tmpfs.
public final class TmpfsFile: TmpfsInode {
  private let content: MemoryObject
  private var sealing: FileSeals?

  override init(_ state: State, on superblock: TmpfsSuperblock) {
    content = MemoryObject(
      store: nil, size: 0, isSwappable: superblock.options.isSwappable, quota: superblock.quota)
    super.init(state, on: superblock)
  }

  public override func attributes() throws(Errno) -> Attributes {
    var attributes = state.withLock { $0.attributes }
    attributes.size = content.size
    attributes.blocks = UInt64(content.allocatedPages) * 8
    return attributes
  }

  public override func size() throws(Errno) -> UInt64 { content.size }

  public override func setAttributes(_ change: AttributeChange) throws(Errno) {
    if let size = change.size {
      try sealing?.checkResize(from: content.size, to: size)
      content.truncate(to: size)
    }
    state.withLock { change.apply(to: &$0.attributes) }
  }

  public override var memoryObject: MemoryObject? { content }

  public override func write(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    let (end, overflow) = offset.addingReportingOverflow(UInt64(buffer.remaining))
    guard !overflow else { throw .EFBIG }
    try sealing?.checkWrite(end: end, size: content.size)
    defer {
      let now = FileTime.now()
      state.withLock { state in
        state.attributes.modifyTime = now
        state.attributes.changeTime = now
      }
    }
    return try content.write(at: offset, &buffer)
  }

  public override func allocate(_ mode: AllocationMode, offset: UInt64, length: UInt64) throws(Errno) {
    let end = offset + length
    switch mode {
    case .allocate, .allocateKeepingSize:
      let pages = (end + 4095) / 4096 - offset / 4096
      // Of the pages before the end, those that the file has may be among the wanted.
      let within = offset < content.size ? (min(end, content.size) + 4095) / 4096 - offset / 4096 : 0
      let present = min(within, UInt64(content.allocatedPages))
      if let tmpfs, pages - min(pages, present) > UInt64(tmpfs.quota.freePages) { throw .ENOSPC }
      let size = content.size
      guard mode == .allocate, end > size else { return try content.fillHoles(from: offset, to: min(end, size)) }
      try sealing?.checkResize(from: size, to: end)
      content.truncate(to: end)
      do throws(Errno) { try content.fillHoles(from: offset, to: end) } catch {
        content.truncate(to: size)
        throw error
      }
    case .punchHole, .zero, .zeroKeepingSize:
      try sealing?.checkWrite(end: min(end, content.size), size: content.size)
      let stop = min(end, content.size)
      if offset < stop { content.punchHole(from: offset, length: stop - offset) }
      if mode == .zero, end > content.size { content.truncate(to: end) }
    }
    let now = FileTime.now()
    state.withLock { state in
      state.attributes.modifyTime = now
      state.attributes.changeTime = now
    }
  }

  public override var seals: FileSeals? { sealing }

  public override func enableSeals(_ initial: UInt32) throws(Errno) {
    guard sealing == nil else { throw .EINVAL }
    sealing = FileSeals(initial)
  }
}
