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
    entry.attributes = visible(node, status)
    return entry
  }

  func visible(_ node: FileNode, _ status: host_status) -> linux_fuse_attributes {
    var attributes = status.attributes
    attributes.inode = table.visibleInode(status)
    attributes.mode = visibleMode(node, attributes.mode)
    return attributes
  }

  /// The directory of a change.
  private func directory(_ number: UInt64) throws(HostError) -> FileNode {
    let node = try table.node(number)
    guard node.isDirectory else { throw HostError(ENOTDIR) }
    guard !node.isSealed else { throw HostError(EROFS) }
    return node
  }

  /// Gives a new file to the user in the guest who made it, where the host lets the monitor do so.
  private func giveAway(_ name: FileName, in directory: HostDescriptor, _ request: FUSERequest) {
    guard mayChangeOwner, let file = try? HostDescriptor(checking: openBeneath(directory, name, openPathOnly)) else {
      return
    }
    _ = try? giveAway(file, request)
  }

  /// The same for a file that is open; its status afterwards.
  private func giveAway(_ file: HostDescriptor, _ request: FUSERequest) throws(HostError) -> host_status {
    let found = try readStatus(file)
    let (user, group) = (request.header.user, request.header.group)
    guard mayChangeOwner, found.attributes.user != user || found.attributes.group != group else { return found }
    _ = host_set_owner(file.number, user, group)
    return try readStatus(file)
  }

  func create(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_create_in.self)
    let name = try request.takeName()
    let parent = try directory(request.header.node)
    let anchor = try table.anchor(of: parent)
    // O_EXCL always: nothing that exists is opened here, so no device or FIFO can be.
    let result = openBeneath(anchor, name, O_RDWR | O_CREAT | O_EXCL, mode: permissionsAtFirst(body.mode))
    if result == -EEXIST, body.flags & UInt32(O_EXCL) == 0 {
      let found = try find(name, in: parent)
      let node = try table.node(found.node)
      _ = try table.content(of: node, .write)
      return .bytes(bytesOf(found) + bytesOf(Self.openReply))
    }
    let file = try HostDescriptor(checking: result)
    let status = try giveAway(file, request)
    let node = try table.enter(status, parent, name)
    table.setOpen(node, file)
    return try created(node, file, status, body.mode)
  }

  /// A file without a name (open(2), O_TMPFILE); LINK may give it one.
  func createTemporary(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_create_in.self)
    let parent = try directory(request.header.node)
    let file = try HostDescriptor(
      checking: openBeneath(
        try table.anchor(of: parent), .itself, O_RDWR | openTemporary, mode: permissionsAtFirst(body.mode)))
    let status = try giveAway(file, request)
    return try created(table.enterTemporary(status, parent, file), file, status, body.mode)
  }

  /// The answer about a new file, which is open. Its set-ID bits come last: chown(2) would have cleared them.
  private func created(
    _ node: FileNode, _ file: HostDescriptor, _ status: host_status, _ mode: UInt32
  ) throws(HostError) -> FUSEReply {
    var status = status
    if mode & Self.setIDBits != 0 {
      try changeMode(node, mode)
      status = try readStatus(file)
    }
    return .bytes(bytesOf(entry(node, status)) + bytesOf(Self.openReply))
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
    try checkNode(mode: body.mode, device: body.special_device)
    let mode = body.mode & UInt32(S_IFMT) | permissionsAtFirst(body.mode)
    let reply = try make(name, request) { unsafe host_make_node($0, $1, mode, body.special_device) }
    guard body.mode & Self.setIDBits != 0 else { return reply }
    let node = try table.node(find(name, in: try directory(request.header.node)).node)
    try changeMode(node, body.mode)
    table.forget(node.number, 1)
    return .value(entry(node, try table.status(of: node)))
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
    try table.changeNames(removing: (name, parent), moving: []) {
      unsafe name.withCString { unsafe host_unlink(anchor.number, $0, isDirectory ? 1 : 0) }
    }
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
    // NOREPLACE, EXCHANGE and WHITEOUT; a whiteout is a device file that stands for no device.
    guard flags & ~7 == 0 else { throw HostError(EINVAL) }
    let (from, to) = (try directory(request.header.node), try directory(number))
    let (source, target) = (try table.anchor(of: from), try table.anchor(of: to))
    try table.changeNames(
      removing: flags & 3 == 0 ? (newName, to) : nil,
      moving: [(newName, to)] + (flags & 2 != 0 ? [(name, from)] : [])
    ) {
      unsafe name.withCString { old in
        unsafe newName.withCString { new in unsafe host_rename(source.number, old, target.number, new, flags) }
      }
    }
    return .empty
  }
}
