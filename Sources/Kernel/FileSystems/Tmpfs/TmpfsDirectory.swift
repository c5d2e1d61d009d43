// The directory operations of tmpfs. The VFS holds the directory's lock; the spin lock of `state` guards against
// readers, which do not.

import FileSystem
import KernelCore
import LinuxABI
import VirtualMemory

extension TmpfsInode.State {
  mutating func touch(links change: Int = 0) {
    let now = FileTime.now()
    attributes.modifyTime = now
    attributes.changeTime = now
    adjustLinks(change)
  }

  mutating func adjustLinks(_ change: Int) {
    attributes.linkCount = UInt64(max(0, Int(clamping: attributes.linkCount) + change))
  }
}

extension TmpfsInode {
  /// A name of this inode has gone; a directory's own "." goes with it.
  final func dropLink() {
    let hasOthers = state.withLock { state in
      state.adjustLinks(kind == .directory ? -2 : -1)
      state.attributes.changeTime = .now()
      return kind != .directory && state.attributes.linkCount > 0
    }
    guard hasOthers, let tmpfs else { return }
    tmpfs.didFreeInode()
    tmpfs.quota.giveBytes(Self.linkBytes)
  }

  /// Counts a further name of this inode. The first one is the inode's own.
  ///
  /// - Throws: ENOSPC.
  final func takeLink() throws(Errno) {
    guard state.withLock({ $0.attributes.linkCount > 0 }), let tmpfs else { return }
    _ = try tmpfs.takeNumber()
    do throws(Errno) { try tmpfs.quota.takeBytes(Self.linkBytes) } catch {
      tmpfs.didFreeInode()
      throw error
    }
  }
}

/// A directory of a tmpfs.
public final class TmpfsDirectory: TmpfsInode {
  /// The next one of those whose entries wait to be given up.
  private var nextDoomed: TmpfsDirectory?

  /// A tree goes with its file system, however deep it is, without recursion and without memory.
  deinit {
    var doomed: TmpfsDirectory?
    giveUpEntries(&doomed)
    while let directory = doomed {
      doomed = directory.nextDoomed
      directory.nextDoomed = nil
      directory.giveUpEntries(&doomed)
    }
  }

  /// Directories that only this one kept join the list.
  private func giveUpEntries(_ doomed: inout TmpfsDirectory?) {
    var entries = state.withLock { state in
      defer { state.entries = TmpfsEntries() }
      return state.entries
    }
    while var inode = entries.popInode() {
      guard isKnownUniquelyReferenced(&inode), let directory = inode as? TmpfsDirectory else { continue }
      directory.nextDoomed = doomed
      doomed = directory
    }
  }

  public override func attributes() throws(Errno) -> Attributes {
    state.withLock { state in
      var attributes = state.attributes
      // Linux counts 20 bytes for each entry (BOGO_DIRENT_SIZE).
      attributes.size = UInt64(state.entries.count) * 20
      return attributes
    }
  }

  public override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    guard let inode = state.withLock({ $0.entries.find(name) }) else { throw .ENOENT }
    return inode
  }

  /// Sees to it that the entries can grow by one: that happens under the spin lock, and may take a large array.
  ///
  /// - Throws: ENOSPC.
  private func admitEntry() throws(Errno) {
    let growth = state.withLock { $0.entries.growth }
    guard growth > 0 else { return }
    do throws(Errno) { try KernelMemory.admit(bytes: growth) } catch { throw .ENOSPC }
  }

  public override func create(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    try add(name, .regular, permissions, owner)
  }

  public override func makeDirectory(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    try add(name, .directory, permissions, owner)
  }

  public override func makeNode(
    _ name: ByteString, kind: FileKind, permissions: UInt32, device: DeviceNumber, owner: Owner
  ) throws(Errno) -> Inode { try add(name, kind, permissions, owner, device: device) }

  public override func makeSymbolicLink(_ name: ByteString, target: ByteString, owner: Owner) throws(Errno) -> Inode {
    try add(name, .symbolicLink, 0o777, owner, target: target)
  }

  public override func makeTemporary(permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    guard let tmpfs else { throw .EIO }
    let inode = try TmpfsInode.make(on: tmpfs, .regular, permissions: permissions, owner: owner)
    inode.state.withLock { $0.attributes.linkCount = 0 }
    return inode
  }

  private func add(
    _ name: ByteString, _ kind: FileKind, _ permissions: UInt32, _ owner: Owner, device: DeviceNumber = .none,
    target: ByteString = ByteString()
  ) throws(Errno) -> TmpfsInode {
    guard let tmpfs else { throw .EIO }
    try admitEntry()
    let inode = try TmpfsInode.make(
      on: tmpfs, kind, permissions: permissions, owner: owner, device: device, target: target)
    state.withLock { state in
      state.entries.set(name, inode)
      state.touch(links: kind == .directory ? 1 : 0)
    }
    return inode
  }

  public override func link(_ inode: Inode, as name: ByteString) throws(Errno) {
    guard let inode = inode as? TmpfsInode, inode.superblock === superblock else { throw .EXDEV }
    try admitEntry()
    try inode.takeLink()
    inode.state.withLock { state in
      state.adjustLinks(1)
      state.attributes.changeTime = .now()
    }
    state.withLock { state in
      state.entries.set(name, inode)
      state.touch()
    }
  }

  public override func unlink(_ name: ByteString, _ inode: Inode) throws(Errno) {
    guard let inode = inode as? TmpfsInode else { throw .EIO }
    state.withLock { state in
      state.entries.remove(name)
      state.touch()
    }
    inode.dropLink()
  }

  public override func removeDirectory(_ name: ByteString, _ inode: Inode) throws(Errno) {
    guard let inode = inode as? TmpfsInode else { throw .EIO }
    guard inode.state.withLock({ $0.entries.isEmpty }) else { throw .ENOTEMPTY }
    state.withLock { state in
      state.entries.remove(name)
      state.touch(links: -1)
    }
    inode.dropLink()
  }

  public override func rename(_ name: ByteString, into directory: Inode, as newName: ByteString, _ flags: RenameFlags)
    throws(Errno)
  {
    guard let directory = directory as? TmpfsDirectory, directory.superblock === superblock, let tmpfs else {
      throw .EXDEV
    }
    guard let inode = state.withLock({ $0.entries.find(name) }) else { throw .ENOENT }
    let replaced = directory.state.withLock { $0.entries.find(newName) }
    if flags.contains(.exchange) { return try exchange(name, inode, directory, newName, replaced) }
    if let replaced, replaced.kind == .directory {
      guard replaced.state.withLock({ $0.entries.isEmpty }) else { throw .ENOTEMPTY }
    }
    let whiteout =
      flags.contains(.whiteout)
      ? try TmpfsInode.make(on: tmpfs, .characterDevice, permissions: 0, owner: .root) : nil
    try admitEntry()
    try directory.admitEntry()
    let movesDirectory = inode.kind == .directory
    state.withLock { state in
      state.entries.remove(name)
      if let whiteout { state.entries.set(name, whiteout) }
      state.touch(links: movesDirectory ? -1 : 0)
    }
    directory.state.withLock { state in
      // A new entry rather than a changed one: a listing that goes on sees a moved file at most twice, never not at all.
      state.entries.remove(newName)
      state.entries.set(newName, inode)
      let replacesDirectory = replaced?.kind == .directory
      state.touch(links: (movesDirectory ? 1 : 0) - (replacesDirectory ? 1 : 0))
    }
    inode.state.withLock { $0.attributes.changeTime = .now() }
    replaced?.dropLink()
  }

  private func exchange(
    _ name: ByteString, _ inode: TmpfsInode, _ directory: TmpfsDirectory, _ newName: ByteString, _ other: TmpfsInode?
  ) throws(Errno) {
    guard let other else { throw .ENOENT }
    let change = (other.kind == .directory ? 1 : 0) - (inode.kind == .directory ? 1 : 0)
    state.withLock { state in
      state.entries.set(name, other)
      state.touch(links: change)
    }
    directory.state.withLock { state in
      state.entries.set(newName, inode)
      state.touch(links: -change)
    }
    for moved in [inode, other] { moved.state.withLock { $0.attributes.changeTime = .now() } }
  }

  public override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    var cookie = max(cookie, 2)
    while true {
      // In batches: `emit` must not run under the spin lock.
      let batch = state.withLock { $0.entries.list(after: cookie, limit: 64) }
      for entry in batch {
        guard emit(entry) else { return }
        cookie = entry.cookie
      }
      if batch.count < 64 { return }
    }
  }
}
