// Attributes, symbolic links, extended attributes, the file system's statistics.

import CDevices
import CLinuxABI
import Glibc

extension FileServer {
  // SAFETY (of this file): buffers and names live as long as the calls that they are passed to, with their sizes.

  func attributes(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    .value(attributesReply(try table.status(of: table.node(request.header.node))))
  }

  private func attributesReply(_ status: host_status) -> linux_fuse_attributes_out {
    var reply = linux_fuse_attributes_out()
    reply.valid = options.validSeconds
    reply.attributes = visible(status)
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
      try HostError.check(
        host_set_mode(
          table.descriptors.number, anchor.number, permissions(body.mode, isDirectory: node.isDirectory)))
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
    return .value(attributesReply(try table.status(of: node)))
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
  // Only user attributes of files and directories pass, and file capabilities for reading: others are the host's
  // business, and some mean power over it.

  private func attributeName(_ request: inout FUSERequest, isChange: Bool) throws(HostError) -> [UInt8] {
    let name = Array(try request.takeString())
    guard !name.isEmpty, name.count <= 255 else { throw HostError(ERANGE) }
    if !Self.isVisible(name, isChange: isChange) { throw HostError(isChange ? EOPNOTSUPP : ENODATA) }
    return name + [0]
  }

  private static func isVisible(_ name: some Collection<UInt8>, isChange: Bool) -> Bool {
    name.starts(with: "user.".utf8) || !isChange && name.elementsEqual("security.capability".utf8)
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
    let shown = names.split(separator: 0).filter { Self.isVisible($0, isChange: false) }
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
}
