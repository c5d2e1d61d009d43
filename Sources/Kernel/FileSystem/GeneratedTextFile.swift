// An open file whose text the kernel makes: an entry of /proc or /sys. The text is made when reading begins at offset 0 and
// kept for the reads that follow, so that a reader with a small buffer sees one consistent text; seeking back to the
// beginning makes it anew.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An open file of text that is made when it is read.
open class GeneratedTextFile: OpenFile {
  /// Makes the text.
  public typealias Source = () throws(Errno) -> TextBuffer

  private let source: Source
  private let content = Mutex<[UInt8]?>(nil)

  public init(path: Path, flags: OpenFlags, _ source: @escaping Source) {
    self.source = source
    super.init(path: path, flags: flags, isSeekable: true)
  }

  public final override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    if let offset { return try read(&buffer, from: offset) }
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      let count = try read(&buffer, from: position)
      position += UInt64(count)
      return count
    }
  }

  private final func read(_ buffer: inout TransferBuffer, from offset: UInt64) throws(Errno) -> Int {
    let bytes = try content.withLock { content throws(Errno) in
      if let content, offset != 0 { return content }
      let fresh = try source().bytes
      content = fresh
      return fresh
    }
    guard let start = Int(exactly: offset), start < bytes.count else { return 0 }
    return try buffer.transfer { buffer throws(Errno) in
      let count = min(buffer.remaining, bytes.count - start)
      try buffer.copyOut(ByteString(bytes[start..<start + count]))
    }
  }

  public final override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
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
