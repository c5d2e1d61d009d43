// /proc/PID/maps, smaps and smaps_rollup (proc(5)).

import KernelCore
import LinuxABI
import VirtualMemory

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
  var isLocked = false
  var isHuge = false
  var residency = Residency()
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
    append("Size", Int((line.end - line.start) / 1024), to: &text)
    append("KernelPageSize", line.isHuge ? 2048 : 4, to: &text)
    append("MMUPageSize", line.isHuge ? 2048 : 4, to: &text)
    append(line.residency, divided: .whole, to: &text)
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

  /// The text of smaps_rollup: all areas as one line, from the first one's start to the last one's end.
  static func rollUp(_ range: Range<UInt64>, _ residency: Residency) -> TextBuffer {
    var text = TextBuffer(reserving: 1024)
    append(
      MapLine(
        start: range.lowerBound, end: range.upperBound, isReadable: false, isWritable: false, isExecutable: false,
        isShared: false, offset: 0, name: "[rollup]"), to: &text)
    append(residency, divided: .byOwner, to: &text)
    return text
  }

  /// Whether to print Pss_Anon, Pss_File and Pss_Shmem besides Pss.
  private enum Division { case whole, byOwner }

  private static func append(_ residency: Residency, divided division: Division, to text: inout TextBuffer) {
    append("Rss", residency.resident * 4, to: &text)
    append("Pss", residency.share.kibibytes, to: &text)
    append("Pss_Dirty", residency.ofDirty.kibibytes, to: &text)
    if division == .byOwner {
      append("Pss_Anon", residency.ofAnonymous.kibibytes, to: &text)
      append("Pss_File", residency.ofFiles.kibibytes, to: &text)
      append("Pss_Shmem", residency.ofMemory.kibibytes, to: &text)
    }
    append("Shared_Clean", residency.sharedClean * 4, to: &text)
    append("Shared_Dirty", residency.sharedDirty * 4, to: &text)
    append("Private_Clean", residency.privateClean * 4, to: &text)
    append("Private_Dirty", residency.privateDirty * 4, to: &text)
    append("Referenced", residency.referenced * 4, to: &text)
    append("Anonymous", residency.anonymous * 4, to: &text)
    // Apus merges no pages, frees at once what MADV_FREE gives away, and has large pages on the machine only.
    for title in ["KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"] as [StaticString] {
      append(title, 0, to: &text)
    }
    append("Shared_Hugetlb", residency.sharedHuge * 4, to: &text)
    append("Private_Hugetlb", (residency.huge - residency.sharedHuge) * 4, to: &text)
    append("Swap", residency.swapped * 4, to: &text)
    append("SwapPss", residency.ofSwapped.kibibytes, to: &text)
    append("Locked", residency.ofLocked.kibibytes, to: &text)
  }

  private static func append(_ title: StaticString, _ value: Int, to text: inout TextBuffer) {
    let begin = text.count
    text.append(title)
    text.append(":")
    text.pad(16 - (text.count - begin), with: 0x20)
    text.append(decimal: UInt64(value), width: 8)
    text.append(" kB\n")
  }
}
