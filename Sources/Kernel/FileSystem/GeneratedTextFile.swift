// An open file whose text the kernel makes: an entry of /proc or /sys. The text is made when reading begins at offset 0 and
// kept for the reads that follow, so that a reader with a small buffer sees one consistent text; seeking back to the
// beginning makes it again. A long text is made in pieces, of which one is kept.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An open file of text that is made when it is read.
open class GeneratedTextFile: OpenFile {
  /// Makes the piece of the text that begins at a place, 0 at first, and tells the place of the next one; nil behind the
  /// last. Places are the source's own affair.
  public typealias Source = (_ place: UInt64) throws(Errno) -> (text: TextBuffer, next: UInt64?)

  private struct Content {
    /// The piece at hand, charged to the one who opened the file, and its offset in the text.
    var piece: [UInt8] = []
    var start: UInt64 = 0
    /// Where the next one begins; nil behind the last.
    var next: UInt64? = 0
  }

  private let source: Source
  private let content = Mutex(Content(), rank: .generatedText)

  public init(path: Path, flags: OpenFlags, _ source: @escaping Source) {
    self.source = source
    super.init(path: path, flags: flags, isSeekable: true)
  }

  deinit { account.release(content.withLock { $0.piece.count }) }

  public final override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try atPosition(offset) { place throws(Errno) in try read(&buffer, from: place) }
  }

  private final func read(_ buffer: inout TransferBuffer, from offset: UInt64) throws(Errno) -> Int {
    let (bytes, start) = try content.withLock { content throws(Errno) in
      if offset == 0 || offset < content.start {
        account.release(content.piece.count)
        content = Content()
      }
      while offset &- content.start >= UInt64(content.piece.count), let place = content.next {
        // The old piece's memory is free before the new one is made.
        content.start &+= UInt64(content.piece.count)
        account.release(content.piece.count)
        content.piece = []
        // Reading is what a program may always do, but this makes a text, which grows to twice its size on the way.
        try KernelMemory.admit(bytes: 16384)
        let (text, following) = try source(place)
        content.piece = text.bytes
        account.charge(content.piece.count)
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

  public final override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    try seekFromStart(offset, from: whence)
  }
}
