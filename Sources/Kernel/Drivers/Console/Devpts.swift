// devpts: the file system of the pseudo-terminals' names, mounted on /dev/pts. Its only entries are `ptmx` and a number
// for each pseudo-terminal; they come with the opening of a master and go with its last close.

import FileSystem
import KernelCore
import LinuxABI

/// A mounted devpts. All mounts show the same pseudo-terminals.
final class DevptsSuperblock: Superblock {
  init() {
    super.init(typeName: "devpts", source: "devpts")
    setRoot(DevptsDirectory(on: self))
  }

  override var shownOptions: ByteString { ",gid=5,mode=620,ptmxmode=666" }
  /// DEVPTS_SUPER_MAGIC (statfs(2)), by which ptsname's users recognise it.
  override func statistics() throws(Errno) -> FileSystemStatistics { FileSystemStatistics(magic: 0x1cd1) }
}

/// The root of devpts.
final class DevptsDirectory: Inode {
  init(on superblock: Superblock) { super.init(superblock: superblock, number: 1, kind: .directory) }

  override var isCacheable: Bool { true }
  override var cachesAbsence: Bool { false }

  override func attributes() throws(Errno) -> Attributes {
    var attributes = Attributes(
      number: 1, kind: .directory, permissions: 0o755, owner: .root, device: superblock.device)
    attributes.linkCount = 2
    attributes.modifyTime = .now()
    return attributes
  }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    if name == "ptmx" { return DevptsMultiplexer(on: superblock) }
    guard let number = name.decimal(), let index = Int(exactly: number), let terminal = PseudoTerminals.find(index),
      name.bytes[0] != 0x30 || name.count == 1
    else { throw .ENOENT }
    return DevptsNode(terminal, on: superblock)
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    if cookie < 3 {
      guard emit(DirectoryEntry(name: "ptmx", number: 2, kind: .characterDevice, cookie: 3)) else { return }
    }
    for index in PseudoTerminals.all() where UInt64(index) + 4 > cookie {
      var name = TextBuffer()
      name.append(decimal: UInt64(index))
      let entry = DirectoryEntry(
        name: name.byteString, number: UInt64(index) + 3, kind: .characterDevice, cookie: UInt64(index) + 4)
      guard emit(entry) else { return }
    }
  }
}

/// The node of a pseudo-terminal.
final class DevptsNode: Inode {
  let terminal: PseudoTerminal

  init(_ terminal: PseudoTerminal, on superblock: Superblock) {
    self.terminal = terminal
    super.init(superblock: superblock, number: UInt64(terminal.index) + 3, kind: .characterDevice)
  }

  // The number may stand for another pair a moment later.
  override var isCacheable: Bool { false }
  override func attributes() throws(Errno) -> Attributes {
    var attributes = terminal.attributes
    attributes.device = superblock.device
    return attributes
  }
  override func setAttributes(_ change: AttributeChange) throws(Errno) {
    if change.size == nil { terminal.change(change) }
  }
}

/// /dev/pts/ptmx.
final class DevptsMultiplexer: Inode {
  init(on superblock: Superblock) { super.init(superblock: superblock, number: 2, kind: .characterDevice) }

  override func attributes() throws(Errno) -> Attributes {
    var attributes = Attributes(
      number: 2, kind: .characterDevice, permissions: 0o666, owner: .root, device: superblock.device)
    attributes.specialDevice = DeviceNumber(major: 5, minor: 2)
    return attributes
  }
}
