// Names: looking up, creating, removing, moving. Each request names a directory by its node and an entry by one checked
// component, so nothing outside of that directory can be meant.

import CDevices
import CLinuxABI
import Glibc

extension FileServer {
  // SAFETY (of this file): names are NUL-terminated strings that live as long as the calls.

  func lookup(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let directory = try table.node(request.header.node)
    let name = try request.takeName()
    do throws(HostError) { return .value(try find(name, in: directory)) } catch {
      guard error.code == ENOENT else { throw error }
      // Node 0: absent, and that may be believed as long as anything else.
      var entry = linux_fuse_entry()
      entry.entry_valid = options.validSeconds
      return .value(entry)
    }
  }

  /// Finds an entry and counts a look-up of its node.
  private func find(_ name: FileName, in directory: FileNode) throws(HostError) -> linux_fuse_entry {
    guard directory.isDirectory else { throw HostError(ENOTDIR) }
    guard !directory.isSealed, directory.view(of: name) != nil else { throw HostError(ENOENT) }
    let found = try readStatus(table.anchor(of: directory), name)
    return entry(try table.enter(found, directory, name), found)
  }

  func entry(_ node: FileNode, _ status: host_status) -> linux_fuse_entry {
    var entry = linux_fuse_entry()
    entry.node = node.number
    entry.entry_valid = options.validSeconds
    entry.attributes_valid = options.validSeconds
    entry.attributes = visible(status)
    return entry
  }

  func visible(_ status: host_status) -> linux_fuse_attributes {
    var attributes = status.attributes
    attributes.inode = table.visibleInode(status)
    return attributes
  }

  /// The directory of a change.
  private func directory(_ number: UInt64) throws(HostError) -> FileNode {
    let node = try table.node(number)
    guard node.isDirectory else { throw HostError(ENOTDIR) }
    guard !node.isSealed else { throw HostError(EROFS) }
    return node
  }

  /// The permission bits for a file of an export.
  /// - Throws: EPERM for set-ID bits, where the export takes none. On directories they only pass a group on.
  func permissions(_ mode: UInt32, isDirectory: Bool = false) throws(HostError) -> UInt32 {
    guard isDirectory || options.takesPrivilegedFiles || mode & 0o6000 == 0 else { throw HostError(EPERM) }
    return mode & 0o7777
  }

  /// Gives a new file to the user in the guest who made it, where the host lets the monitor do so.
  private func giveAway(_ name: FileName, in directory: HostDescriptor, _ request: FUSERequest) {
    guard mayChangeOwner, let found = try? readStatus(directory, name) else { return }
    let (user, group) = (request.header.user, request.header.group)
    guard found.attributes.user != user || found.attributes.group != group else { return }
    let file = openBeneath(directory, name, openPathOnly)
    guard let file = try? HostDescriptor(checking: file) else { return }
    // chown(2) clears set-id bits; they come with SETATTR.
    _ = host_set_owner(file.number, user, group)
  }

  func create(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_create_in.self)
    let name = try request.takeName()
    let parent = try directory(request.header.node)
    let anchor = try table.anchor(of: parent)
    // O_EXCL always: nothing that exists is opened here, so no device or FIFO can be.
    let result = openBeneath(anchor, name, O_RDWR | O_CREAT | O_EXCL, mode: try permissions(body.mode))
    if result == -EEXIST, body.flags & UInt32(O_EXCL) == 0 {
      let found = try find(name, in: parent)
      let node = try table.node(found.node)
      _ = try table.content(of: node, .write)
      return .bytes(bytesOf(found) + bytesOf(Self.openReply))
    }
    let file = try HostDescriptor(checking: result)
    giveAway(name, in: anchor, request)
    let created = try readStatus(file)
    let node = try table.enter(created, parent, name)
    table.setWriter(node, file)
    return .bytes(bytesOf(entry(node, created)) + bytesOf(Self.openReply))
  }

  /// Files have no handles, and the guest keeps what it has cached: it compares times and sizes itself.
  static var openReply: linux_fuse_open_out {
    var reply = linux_fuse_open_out()
    reply.open_flags = UInt32(LINUX_FOPEN_KEEP_CACHE)
    return reply
  }

  /// Makes something by `make` and answers with its entry.
  private func make(
    _ name: FileName, _ request: FUSERequest, _ make: (Int32, UnsafePointer<CChar>) -> Int32
  ) throws(HostError) -> FUSEReply {
    let parent = try directory(request.header.node)
    let anchor = try table.anchor(of: parent)
    try HostError.check(unsafe name.withCString { unsafe make(anchor.number, $0) })
    giveAway(name, in: anchor, request)
    return .value(try find(name, in: parent))
  }

  func makeDirectory(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_mkdir_in.self)
    let name = try request.takeName()
    return try make(name, request) { unsafe host_make_directory($0, $1, body.mode & 0o7777) }
  }

  func makeNode(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_mknod_in.self)
    let name = try request.takeName()
    let kind = body.mode & UInt32(S_IFMT)
    let mode = kind | (try permissions(body.mode))
    var device: UInt32 = 0
    switch kind {
    case UInt32(S_IFREG), UInt32(S_IFIFO), UInt32(S_IFSOCK): break
    case UInt32(S_IFCHR),
      UInt32(S_IFBLK) where options.takesPrivilegedFiles:
      device = body.special_device
    default: throw HostError(EPERM)
    }
    return try make(name, request) { unsafe host_make_node($0, $1, mode, device) }
  }

  func makeSymbolicLink(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let name = try request.takeName()
    let target = Array(try request.takeString()) + [0]
    guard target.count > 1, target.count <= Int(PATH_MAX) else {
      throw HostError(target.count > 1 ? ENAMETOOLONG : ENOENT)
    }
    return try make(name, request) { directory, name in
      // SAFETY: the array ends with a NUL.
      unsafe target.withUnsafeBytes {
        unsafe host_make_link($0.baseAddress!.assumingMemoryBound(to: CChar.self), directory, name)
      }
    }
  }

  func link(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_link_in.self)
    let name = try request.takeName()
    let file = try table.node(body.node)
    guard !file.isDirectory, !file.isSealed else { throw HostError(EPERM) }
    let anchor = try table.anchor(of: file)
    let parent = try directory(request.header.node)
    let target = try table.anchor(of: parent)
    try HostError.check(
      unsafe name.withCString { unsafe host_link(table.descriptors.number, anchor.number, target.number, $0) })
    return .value(try find(name, in: parent))
  }

  func remove(_ request: inout FUSERequest, isDirectory: Bool) throws(HostError) -> FUSEReply {
    let name = try request.takeName()
    let parent = try directory(request.header.node)
    let anchor = try table.anchor(of: parent)
    table.pin(name, in: parent)
    let result = unsafe name.withCString { unsafe host_unlink(anchor.number, $0, isDirectory ? 1 : 0) }
    if result < 0 { table.unpin(name, in: parent) }
    try HostError.check(result)
    return .empty
  }

  func rename(_ request: inout FUSERequest, hasFlags: Bool) throws(HostError) -> FUSEReply {
    let number: UInt64
    var flags: UInt32 = 0
    if hasFlags {
      let body = try request.take(linux_fuse_rename2_in.self)
      number = body.directory
      flags = body.flags
    } else {
      number = try request.take(linux_fuse_rename_in.self).directory
    }
    let (name, newName) = (try request.takeName(), try request.takeName())
    // NOREPLACE and EXCHANGE; a whiteout would be a device.
    guard flags & ~3 == 0 else { throw HostError(EINVAL) }
    let (from, to) = (try directory(request.header.node), try directory(number))
    let (source, target) = (try table.anchor(of: from), try table.anchor(of: to))
    if flags == 0 { table.pin(newName, in: to) }
    let result = unsafe name.withCString { old in
      unsafe newName.withCString { new in unsafe host_rename(source.number, old, target.number, new, flags) }
    }
    // The moved nodes get their new places; after a failure the pinned one its old one.
    table.unpin(newName, in: to)
    if flags & 2 != 0 { table.unpin(name, in: from) }
    try HostError.check(result)
    return .empty
  }
}
