// /proc/PID/maps and smaps (proc(5)).

import KernelCore
import LinuxABI

/// An area of an address space as maps and smaps show it.
struct MapLine {
  var start: UInt64
  var end: UInt64
  var isReadable: Bool
  var isWritable: Bool
  var isExecutable: Bool
  var isShared: Bool
  var offset: UInt64
  /// Of the mapped file's device, as stat(2) encodes it, and its inode.
  var major: UInt64 = 0
  var minor: UInt64 = 0
  var inode: UInt64 = 0
  var name = ByteString()
  // For smaps, in pages.
  var residentPages = 0
  var anonymousPages = 0
  var swappedPages = 0
  var isLocked = false
  /// Of huge pages; their number in memory counts for nothing else.
  var isHuge = false
  var hugePages = 0
  var sharedHugePages = 0
}

enum MemoryMapFormat {
  static func append(_ line: MapLine, to text: inout TextBuffer) {
    let begin = text.count
    text.append(hex: line.start, width: 8)
    text.append("-")
    text.append(hex: line.end, width: 8)
    text.append(" ")
    text.append(line.isReadable ? "r" : "-")
    text.append(line.isWritable ? "w" : "-")
    text.append(line.isExecutable ? "x" : "-")
    text.append(line.isShared ? "s " : "p ")
    text.append(hex: line.offset, width: 8)
    text.append(" ")
    text.append(hex: line.major, width: 2)
    text.append(":")
    text.append(hex: line.minor, width: 2)
    text.append(" ")
    text.append(decimal: line.inode)
    text.append(" ")
    if !line.name.isEmpty {
      // Names begin in column 73, where parsers that count expect them.
      text.pad(73 - (text.count - begin), with: 0x20)
      for byte in line.name.bytes {
        if byte == 0x0a { text.append("\\012") } else { text.append(byte: byte) }
      }
    }
    text.append("\n")
  }

  static func appendDetails(_ line: MapLine, to text: inout TextBuffer) {
    let size = Int((line.end - line.start) / 1024)
    let resident = line.residentPages * 4
    let anonymous = line.anonymousPages * 4
    // Which pages others map too is not known: what is no private copy counts as clean, and as shared when the mapping is.
    let rest = max(0, resident - anonymous)
    let isFileLike = line.inode != 0 || line.isShared
    let rows: [(StaticString, Int)] = [
      ("Size", size), ("KernelPageSize", line.isHuge ? 2048 : 4), ("MMUPageSize", line.isHuge ? 2048 : 4),
      ("Rss", resident), ("Pss", resident),
      ("Shared_Clean", isFileLike ? rest : 0), ("Shared_Dirty", 0), ("Private_Clean", isFileLike ? 0 : rest),
      ("Private_Dirty", anonymous), ("Referenced", resident), ("Anonymous", anonymous), ("LazyFree", 0),
      ("AnonHugePages", 0), ("ShmemPmdMapped", 0), ("FilePmdMapped", 0), ("Shared_Hugetlb", line.sharedHugePages * 4),
      ("Private_Hugetlb", (line.hugePages - line.sharedHugePages) * 4), ("Swap", line.swappedPages * 4),
      ("SwapPss", line.swappedPages * 4),
      ("Locked", line.isLocked ? resident : 0),
    ]
    for (title, value) in rows {
      let begin = text.count
      text.append(title)
      text.append(":")
      text.pad(16 - (text.count - begin), with: 0x20)
      text.append(decimal: UInt64(value), width: 8)
      text.append(" kB\n")
    }
    text.append("THPeligible:    0\nVmFlags:")
    if line.isReadable { text.append(" rd") }
    if line.isWritable { text.append(" wr") }
    if line.isExecutable { text.append(" ex") }
    if line.isShared { text.append(" sh") }
    text.append(" mr mw me ")
    if line.isLocked { text.append("lo ") }
    if line.isHuge { text.append("de ht ") }
    text.append("\n")
  }
}
