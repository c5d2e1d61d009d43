// Regular files of the host. Their pages are cached in a memory object; READ brings up to 128 KiB straight from the host
// into page frames. Writes go to the cache and from there to the host before the call returns: the host's file is
// always as new as the guest's, and the cache serves reads and mappings.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization
import Virtio
import VirtualMemory

/// A regular file of the host.
final class VirtioFSFile: VirtioFSInode, PageStore {
  private(set) var object: MemoryObject!
  /// Whether the server has opened the file for reading: it checks the host's permissions once.
  private let isOpenForReading = Atomic<Bool>(false)
  private let writersOnServer = Atomic<Int>(0)

  override init(on superblock: VirtioFSSuperblock, node: UInt64, _ attributes: Attributes, valid: Validity) {
    super.init(on: superblock, node: node, attributes, valid: valid)
    object = MemoryObject(store: self, size: attributes.size)
  }

  override var memoryObject: MemoryObject? { object }
  override var localSize: UInt64? { object.size }

  override func size() throws(Errno) -> UInt64 {
    // What was written here is in the object's size at once.
    _ = try accessControl()
    return object.size
  }

  override func attributes() throws(Errno) -> Attributes {
    var attributes = try super.attributes()
    attributes.size = object.size
    return attributes
  }

  override func contentDidChange(size: UInt64) {
    // What was written here and is on its way makes the file longer than the server knows.
    let isLonger = size < object.size && object.hasUnstoredPages
    object.invalidate()
    if isLonger { return }
    if size < object.size { object.truncate(to: size) } else { object.size = size }
  }

  override func didTruncate(to size: UInt64) { object.truncate(to: size) }

  // MARK: Opening

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    // Close-to-open consistency: what another host process wrote before this is seen from here on.
    let permissions = try accessControl().permissions
    // Reading needs no open file on the server. It is asked once whether the host lets it read the file, unless
    // all users may: having found the file, it may then read it.
    if flags.allowsReading, permissions & 0o444 != 0o444, !isOpenForReading.load(ordering: .acquiring) {
      try sendOpen(O_RDONLY)
      isOpenForReading.store(true, ordering: .releasing)
    }
    if flags.allowsWriting {
      if writersOnServer.add(1, ordering: .relaxed).oldValue == 0 {
        do throws(Errno) { try sendOpen(O_RDWR) } catch {
          writersOnServer.subtract(1, ordering: .relaxed)
          throw error
        }
      }
    }
    return VirtioFSOpenFile(path: path, flags: flags)
  }

  private func sendOpen(_ mode: Int32) throws(Errno) {
    try session.call(LINUX_FUSE_OPEN, node, room: MemoryLayout<linux_fuse_open_out>.size) { (message) throws(Errno) in
      message.append(linux_fuse_open_in(flags: UInt32(mode), open_flags: 0))
    } reply: { (_) throws(Errno) in
      ()
    }
  }

  /// An open file that may write is closed.
  func didCloseWriter() {
    try? writeBack()
    guard writersOnServer.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
    try? session.call(LINUX_FUSE_RELEASE, node, room: 0) { (message) throws(Errno) in
      var body = linux_fuse_release_in()
      body.flags = UInt32(O_RDWR)
      message.append(body)
    } reply: { (_) throws(Errno) in
      ()
    }
  }

  // MARK: Writing

  override func write(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    let before = object.size
    return try changing { () throws(Errno) in
      let count = try object.write(at: offset, &buffer)
      guard count > 0 else { return count }
      do throws(Errno) { try object.writeBack(offset..<offset + UInt64(count), tellingErrorsTo: .caller) } catch {
        // What the host refuses does not become a part of the file.
        if object.size > before { object.truncate(to: before) }
        throw error
      }
      return count
    }
  }

  override func readDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try readPastCache(at: offset, &buffer)
  }

  override func writeDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try writePastCache(at: offset, &buffer)
  }

  override var directAlignment: UInt32? { UInt32(Self.directUnit) }

  override func writeBack() throws(Errno) {
    try object.writeBack()
  }

  override func sync() throws(Errno) {
    try object.writeBack()
    guard !superblock.isReadOnly else { return }
    try session.call(LINUX_FUSE_FSYNC, node, room: 0) { (message) throws(Errno) in
      message.append(linux_fuse_fsync_in())
    } reply: { (_) throws(Errno) in
      ()
    }
  }

  override func allocate(_ mode: AllocationMode, offset: UInt64, length: UInt64) throws(Errno) {
    try object.writeBack()
    var body = linux_fuse_fallocate_in()
    body.offset = offset
    body.length = length
    // The bits of fallocate(2): KEEP_SIZE 1, PUNCH_HOLE 2, ZERO_RANGE 0x10.
    body.mode =
      switch mode {
      case .allocate: 0
      case .allocateKeepingSize: 1
      case .punchHole: 3
      case .zero: 0x10
      case .zeroKeepingSize: 0x11
      }
    let request = body
    try session.call(LINUX_FUSE_FALLOCATE, node, room: 0) { (message) throws(Errno) in
      message.append(request)
    } reply: { (_) throws(Errno) in
      ()
    }
    object.invalidate()
    let (end, overflow) = offset.addingReportingOverflow(length)
    attributesDidChange()
    if !overflow, mode == .allocate || mode == .zero, end > object.size { object.size = end }
  }

  override func seek(_ target: SparseSeek, from offset: UInt64) throws(Errno) -> UInt64 {
    guard offset < object.size else { throw .ENXIO }
    let found = try session.call(LINUX_FUSE_LSEEK, node, room: MemoryLayout<linux_fuse_lseek_out>.size) {
      (message) throws(Errno) in
      // SEEK_DATA 3, SEEK_HOLE 4
      message.append(linux_fuse_lseek_in(handle: 0, offset: offset, whence: target == .data ? 3 : 4, padding: 0))
    } reply: { (message) throws(Errno) in
      try message.value(linux_fuse_lseek_out.self)
    }
    return found.offset
  }

  // MARK: PageStore

  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    var first = 0
    while first < frames.count {
      let count = min(frames.count - first, session.transferLimit / PhysicalMemory.pageSize)
      try unsafe readRun(index + UInt64(first), UnsafeBufferPointer(rebasing: frames[first..<first + count]))
      first += count
    }
  }

  private func readRun(_ index: UInt64, _ frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    let (offset, overflow) = index.multipliedReportingOverflow(by: UInt64(PhysicalMemory.pageSize))
    guard !overflow else { throw .EFBIG }
    let size = unsafe frames.count * PhysicalMemory.pageSize
    let target = unsafe Self.segments(frames, length: size)
    let count = try session.call(LINUX_FUSE_READ, node, room: 0, target: target) { (message) throws(Errno) in
      var body = linux_fuse_read_in()
      body.offset = offset
      body.size = UInt32(size)
      message.append(body)
    } reply: { (message) throws(Errno) in
      min(message.replyLength, size)
    }
    // The rest is beyond the end (or the file became shorter): zeros.
    var position = count
    while position < size {
      let within = position % PhysicalMemory.pageSize
      let rest = PhysicalMemory.pageSize - within
      // SAFETY: the caller gave the frames for filling, and the range lies within one of them.
      _ = unsafe (DirectMap.pointer(to: frames[position / PhysicalMemory.pageSize]) + within)
        .initializeMemory(as: UInt8.self, repeating: 0, count: rest)
      position += rest
    }
  }

  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    session.sizes.acquireShared()
    defer { session.sizes.releaseShared() }
    let most = session.transferLimit / PhysicalMemory.pageSize
    var next = 0
    while next < frames.count {
      // Pages that a truncation has taken away since they were chosen are not part of the file.
      let first = next
      while unsafe next < frames.count, next - first < most, object.shows(frames[next], at: index + UInt64(next)) {
        next += 1
      }
      if first == next {
        next += 1
      } else {
        try unsafe writeRun(
          index + UInt64(first), UnsafeBufferPointer(rebasing: frames[first..<next]), end: object.size)
      }
    }
  }

  private func writeRun(_ index: UInt64, _ frames: UnsafeBufferPointer<PageFrameNumber>, end: UInt64) throws(Errno) {
    let (offset, overflow) = index.multipliedReportingOverflow(by: UInt64(PhysicalMemory.pageSize))
    // Pages beyond the end are not part of the file.
    guard !overflow, offset < end else { return }
    let size = unsafe Int(min(UInt64(frames.count * PhysicalMemory.pageSize), end - offset))
    let written = try session.call(LINUX_FUSE_WRITE, node, room: MemoryLayout<linux_fuse_write_out>.size) {
      (message) throws(Errno) in
      var body = linux_fuse_write_in()
      body.offset = offset
      body.size = UInt32(size)
      message.append(body)
      var rest = size
      for place in 0..<frames.count where rest > 0 {
        // SAFETY: the place is within the buffer.
        unsafe message.appendData(frames[place], length: min(rest, PhysicalMemory.pageSize))
        rest -= PhysicalMemory.pageSize
      }
    } reply: { (message) throws(Errno) in
      Int(try message.value(linux_fuse_write_out.self).size)
    }
    // The host writes less only when it is out of space.
    guard written == size else { throw .ENOSPC }
    attributesDidChange()
  }

  /// The memory of frames, neighbours joined.
  private static func segments(_ frames: UnsafeBufferPointer<PageFrameNumber>, length: Int) -> [MemorySegment] {
    var list = unsafe SegmentList(capacity: frames.count)
    for index in 0..<frames.count where list.byteCount < length {
      // SAFETY: the index is within the buffer.
      unsafe list.append(frames[index], length: min(length - list.byteCount, PhysicalMemory.pageSize))
    }
    return list.segments
  }
}

/// An open file of the host; its last close lets the server close its descriptor.
final class VirtioFSOpenFile: RegularFile {
  override func close() {
    if flags.allowsWriting, let file = inode as? VirtioFSFile { file.didCloseWriter() }
  }
}
