// Set-ID bits of files for guests alone. On the host a program with these bits would run as its owner; so the file there does
// not have them. They are in an attribute of the file, and the sticky bit, which means nothing for a file, tells that there is
// one: only then does the server look. The guest sees the bits, and so does the next run.

import CDevices
import CLinuxABI
import Glibc

extension FileServer {
  // SAFETY (of this file): names and values live as long as the calls that they are passed to, with their sizes.

  static let setIDBits = UInt32(S_ISUID | S_ISGID)
  private static let sticky = UInt32(S_ISVTX)
  /// Its value is one octal digit: the upper three permission bits.
  private static let attribute = ownAttributes + "mode"

  private func keepsSetIDApart(_ node: FileNode) -> Bool { node.isRegular && !options.takesPrivilegedFiles }

  /// The permissions of a new file on the host; `changeMode` adds what is left out.
  func permissionsAtFirst(_ mode: UInt32) -> UInt32 { mode & 0o7777 & ~Self.setIDBits }

  /// Gives a file of the guest its permissions.
  /// - Throws: EPERM for set-ID bits that cannot be kept: the host's file system has no attributes, or the file is a FIFO, say.
  func changeMode(_ node: FileNode, _ mode: UInt32) throws(HostError) {
    let anchor = try table.anchor(of: node)
    var permissions = mode & 0o7777
    if permissions & Self.setIDBits != 0, !node.isRegular, !node.isDirectory, !options.takesPrivilegedFiles {
      throw HostError(EPERM)
    }
    if keepsSetIDApart(node) {
      let isKept = permissions & Self.setIDBits != 0
      let wasKept = try readStatus(anchor).attributes.mode & Self.sticky != 0
      if isKept { try keep(permissions >> 9, of: node, anchor) } else if wasKept { try removeKept(of: node) }
      if isKept { permissions = permissions & 0o777 | Self.sticky }
    }
    try HostError.check(host_set_mode(table.descriptors.number, anchor.number, permissions))
  }

  private func keep(_ bits: UInt32, of node: FileNode, _ anchor: HostDescriptor) throws(HostError) {
    var result = try setAttribute(bits, of: node)
    if result == -EACCES {
      // The owner of a file that nobody may write to: the permissions are about to change anyway.
      try HostError.check(host_set_mode(table.descriptors.number, anchor.number, 0o600))
      result = try setAttribute(bits, of: node)
    }
    if result == -EOPNOTSUPP { throw HostError(EPERM) }
    try HostError.check(result)
  }

  private func setAttribute(_ bits: UInt32, of node: FileNode) throws(HostError) -> Int32 {
    var digit = UInt8(0x30 + bits & 7)
    let file = try table.opened(node)
    return unsafe Self.attribute.withCString { unsafe host_set_attribute(file.number, $0, &digit, 1, 0) }
  }

  private func removeKept(of node: FileNode) throws(HostError) {
    let file = try table.opened(node)
    let result = unsafe Self.attribute.withCString { unsafe host_remove_attribute(file.number, $0) }
    // A file may be sticky for its own sake.
    if result != -ENODATA, result != -EOPNOTSUPP { try HostError.check(result) }
  }

  /// The mode that guests see of a file whose mode on the host is `mode`.
  func visibleMode(_ node: FileNode, _ mode: UInt32) -> UInt32 {
    guard mode & Self.sticky != 0, keepsSetIDApart(node), let file = try? table.opened(node) else { return mode }
    var digit: UInt8 = 0
    let count = unsafe Self.attribute.withCString { unsafe host_get_attribute(file.number, $0, &digit, 1) }
    guard count == 1, (0x30...0x37).contains(digit) else { return mode }
    return mode & ~0o7000 | UInt32(digit - 0x30) << 9
  }
}
