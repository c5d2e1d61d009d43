// Attributes, symbolic links, extended attributes, the file system's statistics.

import CDevices
import CLinuxABI
import Glibc

extension FileServer {
  // SAFETY (of this file): buffers and names live as long as the calls that they are passed to, with their sizes.

  func attributes(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    .value(try attributesReply(table.node(request.header.node)))
  }

  private func attributesReply(_ node: FileNode) throws(HostError) -> linux_fuse_attributes_out {
    var reply = linux_fuse_attributes_out()
    reply.valid = options.validSeconds
    reply.attributes = visible(node, try table.status(of: node))
    return reply
  }

  func setAttributes(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_setattr_in.self)
    let node = try table.node(request.header.node)
    guard !node.isSealed else { throw HostError(EROFS) }
    let valid = body.valid
    func isSet(_ bit: UInt32) -> Bool { valid & bit != 0 }
    let anchor = try table.anchor(of: node)
    if isSet(LINUX_FATTR_UID) || isSet(LINUX_FATTR_GID) {
      try HostError.check(
        host_set_owner(
          anchor.number, isSet(LINUX_FATTR_UID) ? body.user : UInt32.max,
          isSet(LINUX_FATTR_GID) ? body.group : UInt32.max))
    }
    // After the owner: chown(2) clears set-id bits.
    if isSet(LINUX_FATTR_MODE) {
      // Who has the file open goes on reading it.
      if node.isRegular, body.mode & 0o400 == 0 { _ = try? table.content(of: node, .read) }
      try changeMode(node, body.mode)
    }
    if isSet(LINUX_FATTR_SIZE) {
      guard let size = Int64(exactly: body.size) else { throw HostError(EFBIG) }
      try HostError.check(host_truncate(table.content(of: node, .write).number, size))
    }
    if isSet(LINUX_FATTR_ATIME) || isSet(LINUX_FATTR_MTIME) {
      // UTIME_NOW and UTIME_OMIT of utimensat(2).
      let (now, omit): (Int64, Int64) = ((1 << 30) - 1, (1 << 30) - 2)
      func time(_ bit: UInt32, _ nowBit: UInt32, _ seconds: UInt64, _ nanoseconds: UInt32) -> [Int64] {
        guard isSet(bit) else { return [0, omit] }
        return isSet(nowBit) ? [0, now] : [Int64(bitPattern: seconds), Int64(nanoseconds)]
      }
      let times =
        time(LINUX_FATTR_ATIME, LINUX_FATTR_ATIME_NOW, body.access_time, body.access_nanoseconds)
        + time(LINUX_FATTR_MTIME, LINUX_FATTR_MTIME_NOW, body.modify_time, body.modify_nanoseconds)
      try HostError.check(host_set_times(table.descriptors.number, anchor.number, times))
    }
    return .value(try attributesReply(node))
  }

  func readLink(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let node = try table.node(request.header.node)
    guard node.kind == UInt32(S_IFLNK) else { throw HostError(EINVAL) }
    let anchor = try table.anchor(of: node)
    var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe target.withUnsafeMutableBytes {
      unsafe host_read_link(anchor.number, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    target.removeLast(target.count - Int(try HostError.check(count)))
    return .bytes(target)
  }

  func statistics(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let anchor = try table.anchor(of: table.node(request.header.node))
    var reply = linux_fuse_statfs()
    try HostError.check(unsafe host_statfs(anchor.number, &reply))
    return .value(reply)
  }

  // MARK: Extended attributes
  //
  // Only attributes of regular files and directories pass; which names, FileServer+Privileges says.

  private func attributeName(_ request: inout FUSERequest, isChange: Bool) throws(HostError) -> [UInt8] {
    let name = Array(try request.takeString())
    guard !name.isEmpty, name.count <= 255 else { throw HostError(ERANGE) }
    if isChange { try checkAttributeChange(name) } else if !shows(name) { throw HostError(ENODATA) }
    return name + [0]
  }

  /// The descriptor of a node that can have attributes. It is one that is open: what only has a name (O_PATH) shows none.
  private func attributed(_ request: FUSERequest, refusal: Int32) throws(HostError) -> HostDescriptor {
    let node = try table.node(request.header.node)
    guard node.isRegular || node.isDirectory, !node.isSealed else { throw HostError(refusal) }
    return try table.opened(node)
  }

  func extendedAttribute(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_getxattr_in.self)
    let name = try attributeName(&request, isChange: false)
    let file = try attributed(request, refusal: ENODATA)
    return try sized(body.size) { buffer, size in
      unsafe name.withUnsafeBytes {
        unsafe host_get_attribute(file.number, $0.baseAddress!.assumingMemoryBound(to: CChar.self), buffer, size)
      }
    }
  }

  func extendedAttributeNames(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_getxattr_in.self)
    let file = try attributed(request, refusal: EOPNOTSUPP)
    let full = try sized(UInt32(64 << 10)) { buffer, size in
      unsafe host_list_attributes(file.number, buffer?.assumingMemoryBound(to: CChar.self), size)
    }
    guard case .bytes(let names) = full else { return .empty }
    let shown = names.split(separator: 0).filter { shows($0) }
      .reduce(into: [UInt8]()) { $0 += $1 + [0] }
    if body.size == 0 { return .value(linux_fuse_getxattr_out(size: UInt32(shown.count), padding: 0)) }
    guard shown.count <= Int(body.size) else { throw HostError(ERANGE) }
    return .bytes(shown)
  }

  /// The answer of a call that fills a buffer: its size alone when the guest asks with size 0.
  private func sized(_ size: UInt32, _ call: (UnsafeMutableRawPointer?, Int) -> Int) throws(HostError) -> FUSEReply {
    if size == 0 {
      let needed = try HostError.check(unsafe call(nil, 0))
      return .value(linux_fuse_getxattr_out(size: UInt32(clamping: needed), padding: 0))
    }
    var value = [UInt8](repeating: 0, count: min(Int(size), 64 << 10))
    let count = try HostError.check(
      unsafe value.withUnsafeMutableBytes { unsafe call($0.baseAddress, $0.count) })
    value.removeLast(value.count - count)
    return .bytes(value)
  }

  func setExtendedAttribute(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_setxattr_in.self)
    let name = try attributeName(&request, isChange: true)
    let value = Array(try request.takeBytes(Int(body.size)))
    let file = try attributed(request, refusal: EPERM)
    try HostError.check(
      unsafe name.withUnsafeBytes { name in
        unsafe value.withUnsafeBytes { value in
          unsafe host_set_attribute(
            file.number, name.baseAddress!.assumingMemoryBound(to: CChar.self), value.baseAddress, value.count,
            Int32(bitPattern: body.flags))
        }
      })
    return .empty
  }

  func removeExtendedAttribute(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let name = try attributeName(&request, isChange: true)
    let file = try attributed(request, refusal: EPERM)
    try HostError.check(
      unsafe name.withUnsafeBytes {
        unsafe host_remove_attribute(file.number, $0.baseAddress!.assumingMemoryBound(to: CChar.self))
      })
    return .empty
  }

  // MARK: File flags (ioctl_iflags(2))

  private static let getFlags: UInt32 = 0x8008_6601
  private static let setFlags: UInt32 = 0x4008_6602
  /// What guests may change, as the host permits: secure deletion, undeletion, compression (two), synchronous, no dump, no access
  /// times, no tail merging, synchronous directory, top of a hierarchy, no copy on write.
  private static let changeableFlags: UInt32 = 0x0083_84cf
  /// Immutable and append-only: the host's owner could not remove such a file without privileges.
  private static let privilegedFlags: UInt32 = 0x30

  /// FS_IOC_GETFLAGS and FS_IOC_SETFLAGS; no other ioctl(2) reaches the host.
  func control(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_ioctl_in.self)
    let node = try table.node(request.header.node)
    guard node.isRegular || node.isDirectory, !node.isSealed else { throw HostError(ENOTTY) }
    var flags: UInt32 = 0
    switch body.command {
    case Self.getFlags:
      try HostError.check(unsafe host_get_flags(table.opened(node).number, &flags))
    case Self.setFlags:
      if options.isReadOnly { throw HostError(EROFS) }
      let wanted = try request.take(UInt32.self)
      let file = try table.opened(node)
      try HostError.check(unsafe host_get_flags(file.number, &flags))
      guard (flags ^ wanted) & Self.privilegedFlags == 0 else { throw HostError(EPERM) }
      guard (flags ^ wanted) & ~Self.changeableFlags == 0 else { throw HostError(EOPNOTSUPP) }
      try HostError.check(host_set_flags(file.number, wanted))
      flags = wanted
    default: throw HostError(ENOTTY)
    }
    return .bytes(bytesOf(linux_fuse_ioctl_out()) + bytesOf(flags))
  }
}
