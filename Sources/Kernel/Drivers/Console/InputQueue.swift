// What a terminal has received and no program has read yet: bytes, each with the mark whether a line ends behind it, and
// end-of-file marks (^D), which are no bytes at all.

/// A queue of input bytes with line marks.
struct InputQueue {
  private static let lineEnd: UInt16 = 0x100
  private static let endOfFile: UInt16 = 0x200

  private var entries: [UInt16] = []
  private var head = 0

  var count: Int { entries.count - head }
  var isEmpty: Bool { count == 0 }
  /// The bytes that a reader can get: FIONREAD.
  var byteCount: Int { entries[head...].reduce(0) { $1 & Self.endOfFile == 0 ? $0 + 1 : $0 } }

  mutating func append(_ byte: UInt8) { entries.append(UInt16(byte)) }

  mutating func append(line: [UInt8], endsWithByte: Bool) {
    for byte in line { append(byte) }
    if endsWithByte { markLineEnd() } else { entries.append(Self.endOfFile | Self.lineEnd) }
  }

  /// What is in the queue becomes a line, so that canonical readers can have it.
  mutating func markLineEnd() {
    if !isEmpty { entries[entries.count - 1] |= Self.lineEnd }
  }

  mutating func removeAll() {
    entries.removeAll(keepingCapacity: true)
    head = 0
  }

  /// Up to `limit` bytes, but no more than one line; an end-of-file mark ends it too and is used up. An empty result
  /// is the end of file.
  mutating func takeLine(limit: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    while head < entries.count {
      let entry = entries[head]
      if entry & Self.endOfFile != 0 {
        // A mark right behind bytes that fill the buffer belongs to their read: it only ended the line.
        head += 1
        break
      }
      guard bytes.count < limit else { break }
      bytes.append(UInt8(truncatingIfNeeded: entry))
      head += 1
      if entry & Self.lineEnd != 0 { break }
    }
    compact()
    return bytes
  }

  /// Up to `limit` bytes, without regard to lines.
  mutating func takeBytes(limit: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    while head < entries.count, bytes.count < limit {
      if entries[head] & Self.endOfFile == 0 { bytes.append(UInt8(truncatingIfNeeded: entries[head])) }
      head += 1
    }
    compact()
    return bytes
  }

  private mutating func compact() {
    if head == entries.count {
      removeAll()
    } else if head > 2048 {
      entries.removeFirst(head)
      head = 0
    }
  }
}
