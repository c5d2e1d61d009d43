// Directories of the host: finding and changing names. Listings are in VirtioFSDirectory+Listing.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI

/// A directory of the host.
final class VirtioFSDirectory: VirtioFSInode {
  /// What listings and failed look-ups told of the names.
  let names = SpinLock(KnownNames(), rank: .inode)

  /// `revalidate` says for how long.
  override var cachesAbsence: Bool { true }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode { try find(name) }

  private func find(_ name: ByteString) throws(Errno) -> VirtioFSInode {
    let (known, wasListed) = names.withLock { ($0.find(name), $0.wereListed) }
    if wasListed { session.listings.didLookUp() }
    switch known {
    case .absent: throw .ENOENT
    case .node(let node): if let inode = virtioFS?.inodes.find(node) { return inode }
    case nil: break
    }
    guard let virtioFS else { throw .EIO }
    let version = names.withLock { $0.version }
    let entry = try entry(LINUX_FUSE_LOOKUP, .root) { (message) throws(Errno) in try message.append(name) }
    if entry.node == 0 {
      let valid = session.validity(entry.entry_valid, entry.entry_valid_nanoseconds)
      names.withLock { $0.note(name, .absent, valid, ifStill: version) }
    }
    return try virtioFS.inode(for: entry)
  }

  override func revalidate(_ name: ByteString, _ child: Inode?) throws(Errno) -> Bool {
    guard let child = child as? VirtioFSInode else { return names.withLock { $0.find(name) } == .absent }
    if child.state.withLock({ $0.entryValidUntil > Instant.now() }) { return true }
    do throws(Errno) { return try find(name) === child } catch {
      if error == .ENOENT { return false }
      throw error
    }
  }

  /// A request that is answered with an entry.
  private func inode(
    _ opcode: linux_fuse_opcode, _ owner: Owner, _ build: (FUSEMessage) throws(Errno) -> Void
  ) throws(Errno) -> VirtioFSInode {
    guard let virtioFS else { throw .EIO }
    return try virtioFS.inode(for: try entry(opcode, owner, build))
  }

  private func entry(
    _ opcode: linux_fuse_opcode, _ owner: Owner, _ build: (FUSEMessage) throws(Errno) -> Void
  ) throws(Errno) -> linux_fuse_entry {
    try session.call(
      opcode, node, owner: owner, room: MemoryLayout<linux_fuse_entry>.size + MemoryLayout<linux_fuse_open_out>.size,
      build
    ) { (message) throws(Errno) in try message.value(linux_fuse_entry.self) }
  }

  /// This kernel has changed the entries (the VFS holds the directory's lock): what was told before is not so any more.
  private func entriesDidChange() {
    names.withLock { $0.forgetAll() }
    attributesDidChange()
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    try list(from: cookie, emit)
  }

  // MARK: Changes

  override func create(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    defer { entriesDidChange() }
    return try inode(LINUX_FUSE_CREATE, owner) { (message) throws(Errno) in
      message.append(
        linux_fuse_create_in(
          flags: UInt32(O_RDWR | O_CREAT | O_EXCL), mode: FileKind.regular.modeBits | permissions, umask: 0,
          open_flags: 0))
      try message.append(name)
    }
  }

  override func makeDirectory(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    defer { entriesDidChange() }
    return try inode(LINUX_FUSE_MKDIR, owner) { (message) throws(Errno) in
      message.append(linux_fuse_mkdir_in(mode: permissions, umask: 0))
      try message.append(name)
    }
  }

  override func makeNode(
    _ name: ByteString, kind: FileKind, permissions: UInt32, device: DeviceNumber, owner: Owner
  ) throws(Errno) -> Inode {
    defer { entriesDidChange() }
    return try inode(LINUX_FUSE_MKNOD, owner) { (message) throws(Errno) in
      message.append(
        linux_fuse_mknod_in(
          mode: kind.modeBits | permissions, special_device: UInt32(truncatingIfNeeded: device.encoded), umask: 0,
          padding: 0))
      try message.append(name)
    }
  }

  override func makeSymbolicLink(_ name: ByteString, target: ByteString, owner: Owner) throws(Errno) -> Inode {
    defer { entriesDidChange() }
    return try inode(LINUX_FUSE_SYMLINK, owner) { (message) throws(Errno) in
      try message.append(name)
      try message.append(target)
    }
  }

  override func makeTemporary(permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    let file = try inode(LINUX_FUSE_TMPFILE, owner) { (message) throws(Errno) in
      message.append(
        linux_fuse_create_in(
          flags: UInt32(O_RDWR | O_TMPFILE), mode: FileKind.regular.modeBits | permissions, umask: 0, open_flags: 0))
    }
    // Nobody can look it up: it goes with its last user.
    virtioFS?.inodes.remove(file)
    return file
  }

  override func link(_ inode: Inode, as name: ByteString) throws(Errno) {
    guard let file = inode as? VirtioFSInode, file.superblock === superblock, let virtioFS else { throw .EXDEV }
    // A file that had no name: from now on it can be looked up, and must be found to be this one.
    virtioFS.inodes.keep(file)
    defer {
      entriesDidChange()
      file.attributesDidChange()
    }
    do throws(Errno) {
      _ = try self.inode(LINUX_FUSE_LINK, .root) { (message) throws(Errno) in
        message.append(linux_fuse_link_in(node: file.node))
        try message.append(name)
      }
    } catch {
      if file.state.withLock({ $0.attributes.linkCount == 0 }) { virtioFS.inodes.remove(file) }
      throw error
    }
  }

  override func unlink(_ name: ByteString, _ inode: Inode) throws(Errno) {
    try remove(LINUX_FUSE_UNLINK, name, inode)
  }

  override func removeDirectory(_ name: ByteString, _ inode: Inode) throws(Errno) {
    try remove(LINUX_FUSE_RMDIR, name, inode)
  }

  private func remove(_ opcode: linux_fuse_opcode, _ name: ByteString, _ inode: Inode) throws(Errno) {
    try session.call(opcode, node, room: 0) { (message) throws(Errno) in
      try message.append(name)
    } reply: { (_) throws(Errno) in
      ()
    }
    entriesDidChange()
    if let file = inode as? VirtioFSInode { didLoseName(file) }
  }

  private func didLoseName(_ file: VirtioFSInode) {
    file.attributesDidChange()
    let isLast = file.kind == .directory || file.state.withLock { $0.attributes.linkCount } < 2
    // The table would keep it, and the server its descriptor, until there are too many inodes.
    if isLast { virtioFS?.inodes.remove(file) }
  }

  override func rename(_ name: ByteString, into directory: Inode, as newName: ByteString, _ flags: RenameFlags)
    throws(Errno)
  {
    guard let directory = directory as? VirtioFSDirectory, directory.superblock === superblock else { throw .EXDEV }
    let replaced = flags.contains(.exchange) ? nil : try? directory.find(newName)
    try session.call(LINUX_FUSE_RENAME2, node, room: 0) { (message) throws(Errno) in
      message.append(linux_fuse_rename2_in(directory: directory.node, flags: flags.rawValue, padding: 0))
      try message.append(name)
      try message.append(newName)
    } reply: { (_) throws(Errno) in
      ()
    }
    entriesDidChange()
    directory.entriesDidChange()
    if let replaced { didLoseName(replaced) }
  }

  override func sync() throws(Errno) {
    guard !superblock.isReadOnly else { return }
    try session.call(LINUX_FUSE_FSYNCDIR, node, room: 0) { (message) throws(Errno) in
      message.append(linux_fuse_fsync_in())
    } reply: { (_) throws(Errno) in
      ()
    }
  }
}
