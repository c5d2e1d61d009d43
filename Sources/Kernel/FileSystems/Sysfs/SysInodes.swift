// The inodes of /sys. Nothing is kept: they are made at each look-up from the description of their directory.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// What all inodes of /sys have in common: they are root's, and cannot be changed.
class SysInode: Inode {
  var permissions: UInt32 { 0o444 }
  var shownSize: UInt64 { 4096 }

  final override func attributes() throws(Errno) -> Attributes {
    var attributes = Attributes(
      number: number, kind: kind, permissions: permissions, owner: .root, device: superblock.device)
    attributes.linkCount = kind == .directory ? 2 : 1
    attributes.size = shownSize
    attributes.blockSize = 4096
    let now = FileTime.now()
    attributes.accessTime = now
    attributes.modifyTime = now
    attributes.changeTime = now
    return attributes
  }

  final override func setAttributes(_ change: AttributeChange) throws(Errno) {
    if change.permissions != nil || change.user != nil || change.group != nil { throw .EPERM }
  }

  final override var directoryHasEnd: Bool { true }
  final override var cachesAbsence: Bool { false }
  final override func sync() throws(Errno) { throw .EINVAL }
}

/// A file with one value.
final class SysAttribute: SysInode {
  let text: () -> TextBuffer

  init(_ superblock: Superblock, _ number: UInt64, _ text: @escaping () -> TextBuffer) {
    self.text = text
    super.init(superblock: superblock, number: number, kind: .regular)
  }

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    if flags.allowsWriting { throw .EACCES }
    return GeneratedTextFile(path: path, flags: flags) { [text] _ throws(Errno) in (text(), nil) }
  }
}

/// A symbolic link.
final class SysLink: SysInode {
  private let target: ByteString

  init(_ superblock: Superblock, _ number: UInt64, _ target: ByteString) {
    self.target = target
    super.init(superblock: superblock, number: number, kind: .symbolicLink)
  }

  override var permissions: UInt32 { 0o777 }
  override var shownSize: UInt64 { 0 }
  override func readLink() throws(Errno) -> ByteString { target }
  override func followLink(by caller: Caller) throws(Errno) -> LinkTarget { .text(target) }
}

/// A directory. Entry n has inode number `number` * 128 + n + 1: directories have fewer than 128 entries and nest six
/// deep at most.
final class SysDirectory: SysInode {
  private let entries: () -> [SysEntry]

  init(_ superblock: Superblock, _ number: UInt64, _ entries: @escaping () -> [SysEntry]) {
    self.entries = entries
    super.init(superblock: superblock, number: number, kind: .directory)
  }

  override var permissions: UInt32 { 0o555 }
  override var shownSize: UInt64 { 0 }

  // What is in /sys the kernel decides. Other kinds of entries are EPERM by default.
  override func create(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode { throw .EACCES }

  private func number(of index: Int) -> UInt64 { number &* 128 &+ UInt64(index) &+ 1 }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    let entries = entries()
    guard let index = entries.firstIndex(where: { $0.name == name }) else { throw .ENOENT }
    switch entries[index].content {
    case .attribute(let text): return SysAttribute(superblock, number(of: index), text)
    case .link(let target): return SysLink(superblock, number(of: index), target)
    case .directory(let inner): return SysDirectory(superblock, number(of: index), inner)
    }
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    // Cookies start above 2, which "." and ".." use.
    for (index, entry) in entries().enumerated() where UInt64(index) + 3 > cookie {
      let kind: FileKind
      switch entry.content {
      case .attribute: kind = .regular
      case .link: kind = .symbolicLink
      case .directory: kind = .directory
      }
      let reported = DirectoryEntry(
        name: entry.name, number: number(of: index), kind: kind, cookie: UInt64(index) + 3)
      guard emit(reported) else { return }
    }
  }
}
