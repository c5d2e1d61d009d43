// The inodes of /proc: text files whose content is made when they are read, links, and directories whose entries are a
// fixed list or come from live objects. Nothing is kept: inodes are made at each look-up and hold names (process
// identifiers), not objects, so that an open file of /proc keeps no process alive.

import FileSystem
import KernelCore
import LinuxABI

/// Makes the text of a file.
typealias TextSource = () throws(Errno) -> TextBuffer
/// Takes what was written to a file, without the newline at the end.
typealias TextSink = (ByteString) throws(Errno) -> Void

/// What all inodes of /proc have in common.
class ProcInode: Inode {
  private let permissions: UInt32
  /// Which process's user owns the file; nil: root.
  private let subject: TaskReference?

  init(_ superblock: Superblock, _ number: UInt64, _ kind: FileKind, _ permissions: UInt32, _ subject: TaskReference?) {
    self.permissions = permissions
    self.subject = subject
    super.init(superblock: superblock, number: number, kind: kind)
  }

  final override var directoryHasEnd: Bool { true }
  var linkCount: UInt64 { kind == .directory ? 2 : 1 }
  var shownSize: UInt64 { 0 }

  final override func attributes() throws(Errno) -> Attributes {
    let isPublicDirectory = kind == .directory && permissions == 0o555
    var attributes = Attributes(
      number: number, kind: kind, permissions: permissions,
      owner: subject?.owner(showsIdentity: isPublicDirectory) ?? .root, device: superblock.device)
    attributes.linkCount = linkCount
    attributes.size = shownSize
    attributes.blockSize = 1024
    let now = FileTime.now()
    attributes.accessTime = now
    attributes.modifyTime = now
    attributes.changeTime = now
    return attributes
  }

  /// Opening with O_TRUNC, and touching, do nothing; modes and owners are the kernel's.
  final override func setAttributes(_ change: AttributeChange) throws(Errno) {
    if change.permissions != nil || change.user != nil || change.group != nil { throw .EPERM }
  }

  /// Processes come and go; the fixed part of the tree may be remembered.
  final override var isCacheable: Bool { subject == nil }
  final override var cachesAbsence: Bool { false }
  final override var acceptsEntries: Bool { false }
  final override func sync() throws(Errno) { throw .EINVAL }
}

/// A text file.
final class ProcText: ProcInode {
  /// Checks that the caller may open the file, and makes the source of what its open file reads.
  typealias Opening = (Caller) throws(Errno) -> GeneratedTextFile.Source

  private let opening: Opening
  let sink: TextSink?

  /// - Parameter opening: called at each open(2).
  init(
    _ superblock: Superblock, _ number: UInt64, permissions: UInt32 = 0o444, of subject: TaskReference? = nil,
    sink: TextSink? = nil, opening: @escaping Opening
  ) {
    self.opening = opening
    self.sink = sink
    super.init(superblock, number, .regular, permissions, subject)
  }

  /// - Parameter source: makes the whole text.
  convenience init(
    _ superblock: Superblock, _ number: UInt64, permissions: UInt32 = 0o444, of subject: TaskReference? = nil,
    sink: TextSink? = nil, _ source: @escaping TextSource
  ) {
    self.init(
      superblock, number, permissions: permissions, of: subject, sink: sink,
      opening: { _ throws(Errno) in { _ throws(Errno) in (try source(), nil) } })
  }

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    if flags.allowsWriting, sink == nil { throw .EACCES }
    return ProcTextFile(self, path: path, flags: flags, try opening(caller))
  }
}

/// A symbolic link. A magic link of a process is read and followed by those who may look into the process.
final class ProcLink: ProcInode {
  private let target: () throws(Errno) -> ByteString
  /// For magic links, the process and the place itself.
  private let place: (() throws(Errno) -> Path)?
  private let subject: TaskReference?
  /// What lstat(2) tells: Linux shows 64 bytes for the links of /proc/PID/fd and 0 for all others.
  private let size: UInt64

  init(
    _ superblock: Superblock, _ number: UInt64, permissions: UInt32 = 0o777, of subject: TaskReference? = nil,
    size: UInt64 = 0, place: (() throws(Errno) -> Path)? = nil, _ target: @escaping () throws(Errno) -> ByteString
  ) {
    self.target = target
    self.place = place
    self.subject = subject
    self.size = size
    super.init(superblock, number, .symbolicLink, permissions, subject)
  }

  override var shownSize: UInt64 { size }

  override func readLink() throws(Errno) -> ByteString {
    try subject?.requireAccess()
    return try target()
  }

  override func followLink(by caller: Caller) throws(Errno) -> LinkTarget {
    guard let place else { return .text(try target()) }
    try subject?.requireAccess(by: caller.credentials)
    return .path(try place())
  }
}

/// An entry of a fixed directory: a name and what makes its inode.
struct ProcEntry {
  var name: ByteString
  var kind: FileKind
  var make: (Superblock, UInt64) -> ProcInode

  /// A text file.
  static func text(
    _ name: ByteString, _ permissions: UInt32 = 0o444, sink: TextSink? = nil, _ source: @escaping TextSource
  ) -> ProcEntry {
    ProcEntry(name: name, kind: .regular) { superblock, number in
      ProcText(superblock, number, permissions: permissions, sink: sink, source)
    }
  }

  /// A directory of fixed entries.
  static func directory(_ name: ByteString, _ entries: [ProcEntry]) -> ProcEntry {
    ProcEntry(name: name, kind: .directory) { superblock, number in
      ProcFixedDirectory(superblock, number, entries)
    }
  }

  /// A link whose target is computed.
  static func link(_ name: ByteString, _ target: @escaping () throws(Errno) -> ByteString) -> ProcEntry {
    ProcEntry(name: name, kind: .symbolicLink) { superblock, number in ProcLink(superblock, number, target) }
  }
}

/// A directory whose entries are known when it is made. Entry n has inode number `number` * 64 + n + 1: directories of
/// fixed entries have fewer than 64, and nest four deep at most.
class ProcFixedDirectory: ProcInode {
  private let entries: [ProcEntry]

  init(_ superblock: Superblock, _ number: UInt64, _ entries: [ProcEntry]) {
    precondition(entries.count < 64)
    self.entries = entries
    super.init(superblock, number, .directory, 0o555, nil)
  }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    guard let index = entries.firstIndex(where: { $0.name == name }) else { throw .ENOENT }
    return entries[index].make(superblock, number * 64 + UInt64(index) + 1)
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    // Cookies start above 2, which "." and ".." use.
    for (index, entry) in entries.enumerated() where UInt64(index) + 3 > cookie {
      let reported = DirectoryEntry(
        name: entry.name, number: number * 64 + UInt64(index) + 1, kind: entry.kind, cookie: UInt64(index) + 3)
      guard emit(reported) else { return }
    }
  }

  /// The cookie behind the last entry.
  final var lastCookie: UInt64 { UInt64(entries.count) + 2 }
}
