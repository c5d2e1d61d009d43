// An open text file of /proc. The text is made when reading begins at offset 0 and kept for the reads that follow, so
// that a reader with a small buffer sees one consistent text; seeking back to the beginning makes it anew. A long text
// is made in pieces, of which one is kept.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An open file of /proc.
final class ProcTextFile: OpenFile {
  private let text: ProcText
  private struct Content {
    /// The piece at hand, and its offset in the text.
    var piece: [UInt8] = []
    var start: UInt64 = 0
    /// Where the next one begins; nil behind the last.
    var next: UInt64? = 0
  }
  private let content = Mutex(Content())

  init(_ inode: ProcText, path: Path, flags: OpenFlags) {
    text = inode
    super.init(path: path, flags: flags, isSeekable: true)
  }

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    if let offset { return try read(&buffer, from: offset) }
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      let count = try read(&buffer, from: position)
      position += UInt64(count)
      return count
    }
  }

  private func read(_ buffer: inout TransferBuffer, from offset: UInt64) throws(Errno) -> Int {
    let (bytes, start) = try content.withLock { content throws(Errno) in
      if offset == 0 || offset < content.start { content = Content() }
      while offset &- content.start >= UInt64(content.piece.count), let next = content.next {
        // The old piece's memory is free before the new one is made.
        content.start &+= UInt64(content.piece.count)
        content.piece = []
        let (text, following) = try self.text.source(next)
        content.piece = text.bytes
        content.next = following
      }
      return (content.piece, Int(clamping: offset &- content.start))
    }
    guard start < bytes.count else { return 0 }
    return try buffer.transfer { buffer throws(Errno) in
      let count = min(buffer.remaining, bytes.count - start)
      try buffer.copyOut(ByteString(bytes[start..<start + count]))
    }
  }

  /// Each write is one value, as with sysctl(2)'s files: what is behind 4 KiB does not belong to any of them.
  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard let sink = text.sink else { throw .EINVAL }
    let count = buffer.remaining
    guard count <= 4096 else { throw .EINVAL }
    var bytes = try KernelBuffer.take(count, from: &buffer)
    while let last = bytes.last, last == 0x0a || last == 0 { bytes.removeLast() }
    try sink(ByteString(bytes))
    return count
  }

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      let base: Int64
      switch whence {
      case SEEK_SET: base = 0
      case SEEK_CUR: base = Int64(clamping: position)
      default: throw .EINVAL
      }
      let (target, overflow) = base.addingReportingOverflow(offset)
      guard !overflow, target >= 0 else { throw .EINVAL }
      position = UInt64(target)
      return position
    }
  }
}
