// The inode and the open file of a stream of the host. The inode makes /dev/stdin and /proc/self/fd/0 open the stream
// again.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// A stream of the host as a file.
final class HostStreamInode: Inode {
  let stream: HostStream
  private let mode: UInt32
  private let special: DeviceNumber
  let accessFlags: Int32
  private let created = FileTime.now()

  init(_ stream: HostStream) throws(Errno) {
    self.stream = stream
    let host = try stream.hostAttributes()
    mode = host.mode
    accessFlags = host.flags
    special = DeviceNumber(encoded: host.device)
    let kind = FileKind(mode: host.mode) ?? .fifo
    super.init(
      superblock: AnonymousFiles.pipes.superblock, number: 0x1000_0000 + UInt64(stream.number),
      kind: kind == .directory || kind == .symbolicLink ? .fifo : kind)
  }

  override func attributes() throws(Errno) -> Attributes {
    // Readable and writable for all: the descriptor is what gives access, and a command that runs as another user may
    // open /dev/stdin, which leads here.
    var attributes = Attributes(
      number: number, kind: kind, permissions: 0o666, owner: .root, device: superblock.device)
    if kind == .regular {
      attributes.size = try stream.hostAttributes().size
      attributes.blocks = attributes.size / 512 + (attributes.size % 512 == 0 ? 0 : 1)
    }
    if kind.isDevice { attributes.specialDevice = special }
    attributes.accessTime = created
    attributes.modifyTime = created
    attributes.changeTime = created
    return attributes
  }

  override func setAttributes(_ change: AttributeChange) throws(Errno) {
    // The host's file is not the command's to truncate (O_TRUNC of /dev/stdout), and its times are not either.
    if change.size == nil { throw .EPERM }
  }

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    HostStreamFile(self, path: path, flags: flags)
  }

  override func sync() throws(Errno) { throw .EINVAL }
}

/// An open stream of the host.
final class HostStreamFile: OpenFile {
  private let stream: HostStream

  init(_ inode: HostStreamInode, path: Path, flags: OpenFlags) {
    stream = inode.stream
    stream.opened()
    super.init(path: path, flags: flags, isSeekable: false)
  }

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    if offset != nil { throw .ESPIPE }
    return try stream.read(&buffer, nonBlocking: isNonBlocking)
  }

  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    if offset != nil { throw .ESPIPE }
    return try stream.write(&buffer, nonBlocking: isNonBlocking)
  }

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    try stream.seek(offset, from: whence)
  }

  override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 { throw .ENOTTY }

  override func poll() -> PollEvents { stream.poll(flags) }
  override func pollQueues(_ add: (WaitQueue) -> Void) { stream.pollQueues(flags, add) }
  override var isPollable: Bool { inode.kind != .regular }

  override var displayName: ByteString? {
    var text = TextBuffer()
    text.append(inode.kind == .socket ? "socket:[" : inode.kind == .fifo ? "pipe:[" : "host:[")
    text.append(decimal: inode.number)
    text.append("]")
    return text.byteString
  }

  override func close() { stream.closed() }
}
