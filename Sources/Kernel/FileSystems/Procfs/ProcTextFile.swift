// An open text file of /proc: what it says is made on reading (GeneratedTextFile), what is written goes to the entry's sink.

import FileSystem
import KernelCore
import LinuxABI
import VirtualMemory

/// An open file of /proc.
final class ProcTextFile: GeneratedTextFile {
  private let text: ProcText

  init(_ inode: ProcText, path: Path, flags: OpenFlags, _ source: @escaping Source) {
    text = inode
    super.init(path: path, flags: flags, source)
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
}
