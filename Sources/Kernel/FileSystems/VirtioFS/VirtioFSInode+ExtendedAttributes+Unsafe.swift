// Extended attributes of files of the host. Most files have none, and programs ask for some all the time (`ls -l` for
// two of each file): what has no meaning here is answered without the server, and the names of the others are kept while
// the attributes are believed.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Virtio

extension VirtioFSInode {
  final func readExtended(_ name: ByteString) throws(Errno) -> ByteString {
    // Access control lists have not been agreed upon with the server (FUSE_POSIX_ACL).
    if name.hasPrefix("system.") { throw .EOPNOTSUPP }
    // Of the security modules' labels only file capabilities mean something to this kernel.
    if name.hasPrefix("security."), name != "security.capability" { throw .ENODATA }
    guard kind == .regular || kind == .directory, try readExtendedNames().contains(name) else { throw .ENODATA }
    return ByteString(try sized(LINUX_FUSE_GETXATTR, name))
  }

  final func readExtendedNames() throws(Errno) -> [ByteString] {
    // Believed as long as the time of the last change, which tells when they are others.
    _ = try accessControl()
    if let known = state.withLock({ $0.extendedNames }) { return known }
    let time = state.withLock { $0.attributes.changeTime }
    let list = try sized(LINUX_FUSE_LISTXATTR, nil)
    let names = list.split(separator: 0).map { ByteString($0) }
    state.withLock { state in
      if state.attributes.changeTime == time, state.validUntil > .distantPast { state.extendedNames = names }
    }
    return names
  }

  /// Asks for something whose size is not known: into the message's own memory first, which is nearly always enough.
  private func sized(_ opcode: linux_fuse_opcode, _ name: ByteString?) throws(Errno) -> [UInt8] {
    do throws(Errno) { return try ask(opcode, name, size: FUSEMessage.replyRoom) } catch {
      guard error == .ERANGE else { throw error }
    }
    let memory = try DeviceMemory(order: 4)
    let own = FUSEMessage.replyRoom
    let target = memory.segment(0, (64 << 10) - own)
    return try session.call(opcode, node, room: own, target: [target]) { (message) throws(Errno) in
      message.append(linux_fuse_getxattr_in(size: 64 << 10, padding: 0))
      if let name { try message.append(name) }
    } reply: { (message) throws(Errno) in
      let rest = max(0, min(message.replyLength - own, Int(target.length)))
      // SAFETY: `rest` is at most the memory's size, and the device has answered.
      let tail = unsafe Array(memory.bytes.prefix(rest))
      return message.bytes + tail
    }
  }

  private func ask(_ opcode: linux_fuse_opcode, _ name: ByteString?, size: Int) throws(Errno) -> [UInt8] {
    try session.call(opcode, node, room: size) { (message) throws(Errno) in
      message.append(linux_fuse_getxattr_in(size: UInt32(size), padding: 0))
      if let name { try message.append(name) }
    } reply: { (message) throws(Errno) in
      message.bytes
    }
  }

  final func writeExtended(_ name: ByteString, _ value: ByteString, _ mode: ExtendedAttributeMode)
    throws(Errno)
  {
    defer { attributesDidChange() }
    let flags: UInt32 =
      switch mode {
      case .createOrReplace: 0
      case .create: 1
      case .replace: 2
      }
    // Small values travel in the message, large ones in memory of their own.
    let memory = value.count > 4096 ? try DeviceMemory(order: 4) : nil
    guard value.count <= 64 << 10 else { throw .E2BIG }
    // SAFETY: the value is at most 64 KiB long, which is the memory's size; the device has not been told of it yet.
    if let memory { unsafe memory.bytes.copyBytes(from: value.bytes) }
    try session.call(LINUX_FUSE_SETXATTR, node, room: 0) { (message) throws(Errno) in
      message.append(linux_fuse_setxattr_in(size: UInt32(value.count), flags: flags))
      try message.append(name)
      if let memory {
        message.appendData(memory.segment(0, value.count))
      } else {
        try message.append(bytes: value.bytes)
      }
    } reply: { (_) throws(Errno) in
      ()
    }
    withExtendedLifetime(memory) {}
  }

  final func removeExtended(_ name: ByteString) throws(Errno) {
    defer { attributesDidChange() }
    try session.call(LINUX_FUSE_REMOVEXATTR, node, room: 0) { (message) throws(Errno) in
      try message.append(name)
    } reply: { (_) throws(Errno) in
      ()
    }
  }
}
