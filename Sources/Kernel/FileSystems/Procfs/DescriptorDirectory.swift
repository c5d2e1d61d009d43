// /proc/PID/fd and /proc/PID/fdinfo: a magic link, or a text, for each open descriptor.

import FileSystem
import KernelCore
import LinuxABI
import Process
import Scheduling

/// One of the two directories.
final class DescriptorDirectory: ProcInode {
  enum Content { case links, information }

  private let reference: TaskReference
  private let content: Content

  init(_ superblock: Superblock, _ number: UInt64, _ reference: TaskReference, _ content: Content) {
    self.reference = reference
    self.content = content
    super.init(superblock, number, .directory, content == .links ? 0o500 : 0o555, reference)
  }

  /// A process may always look at its own descriptors, also when it is not dumpable and the directory is root's.
  /// /proc/PID/fdinfo is for those who may look into the process.
  override func accessControl() throws(Errno) -> AccessControl {
    var control = try attributes().accessControl
    if reference.isOwn { control.permissions |= 0o555 }
    if content == .information, !reference.isAccessible() { control.permissions = 0 }
    return control
  }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    guard let descriptor = ProcName.identifier(name) else { throw .ENOENT }
    let reference = reference
    let use = try Self.file(reference, descriptor)
    let file = use.file
    let number = number(of: descriptor)
    switch content {
    case .links:
      // The link's own bits tell how the descriptor may be used (proc(5)).
      let permissions: UInt32 = (file.flags.allowsReading ? 0o500 : 0) | (file.flags.allowsWriting ? 0o300 : 0)
      let place = { () throws(Errno) in try Self.file(reference, descriptor).file.path }
      return ProcLink(superblock, number, permissions: permissions, of: reference, size: 64, place: place) {
        () throws(Errno) in
        let use = try Self.file(reference, descriptor)
        let file = use.file
        return file.displayName ?? PlaceName.of(file.path)
      }
    case .information:
      return ProcText(superblock, number, permissions: 0o444, of: reference) { () throws(Errno) in
        try reference.requireAccess()
        return try Self.information(reference, descriptor)
      }
    }
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard let table = try? reference.task().sharedDescriptors else { return }
    // Descriptor n has cookie n + 3.
    var start = Int32(clamping: cookie < 3 ? 0 : cookie - 2)
    while let descriptor = table.next(from: start) {
      let entry = DirectoryEntry(
        name: ProcName.of(descriptor), number: number(of: descriptor),
        kind: content == .links ? .symbolicLink : .regular, cookie: UInt64(descriptor) + 3)
      guard emit(entry), descriptor < .max else { return }
      start = descriptor + 1
    }
  }

  private func number(of descriptor: Int32) -> UInt64 {
    (content == .links ? 1 << 62 : 1 << 61) | number << 20 | UInt64(descriptor)
  }

  private static func file(_ reference: TaskReference, _ descriptor: Int32) throws(Errno) -> FileUse {
    let table = try reference.task().sharedDescriptors
    do throws(Errno) { return try table.getFromOutside(descriptor) } catch { throw .ENOENT }
  }

  private static func information(_ reference: TaskReference, _ descriptor: Int32) throws(Errno) -> TextBuffer {
    let table = try reference.task().sharedDescriptors
    let use = try file(reference, descriptor)
    let file = use.file
    var flags = UInt64(UInt32(bitPattern: file.flags.rawValue))
    if (try? table.isCloseOnExec(descriptor)) == true { flags |= UInt64(O_CLOEXEC) }
    var text = TextBuffer()
    text.append("pos:\t")
    text.append(decimal: file.position?.current ?? 0)
    text.append("\nflags:\t0")
    text.append(octal: flags)
    text.append("\nmnt_id:\t")
    text.append(decimal: file.path.mount.identifier)
    text.append("\nino:\t")
    text.append(decimal: file.inode.number)
    text.append("\n")
    file.appendInformation(to: &text)
    return text
  }
}
