// What of a file is a privilege on the host: a program with set-ID bits runs there as its owner, a device file reaches
// hardware, attributes of the kernel's own name spaces carry capabilities and labels. A guest that has become root in its
// sandbox gets none of it onto the host unless the export was made for that. Device files and such attributes are refused with
// EPERM. Set-ID bits, which archives and packages are full of, are kept for the guests alone (FileServer+SetID).

import CLinuxABI
import Glibc

extension FileServer {
  /// Whether mknod(2) may make this. A whiteout (character device 0:0) stands for no device.
  /// - Throws: EPERM.
  func checkNode(mode: UInt32, device: UInt32) throws(HostError) {
    switch mode & UInt32(S_IFMT) {
    case UInt32(S_IFREG), UInt32(S_IFIFO), UInt32(S_IFSOCK): break
    case UInt32(S_IFCHR) where device == 0: break
    case UInt32(S_IFCHR), UInt32(S_IFBLK):
      guard options.takesPrivilegedFiles else { throw HostError(EPERM) }
    default: throw HostError(EINVAL)
    }
  }

  /// Whether guests see an extended attribute. `system.*` never passes: access lists have not been agreed upon.
  func shows(_ name: some Collection<UInt8>) -> Bool {
    name.starts(with: "user.".utf8) && !name.starts(with: Self.ownAttributes.utf8)
      || name.elementsEqual("security.capability".utf8)
      || options.takesPrivilegedFiles && Self.isPrivileged(name)
  }

  /// Whether guests may set or remove an extended attribute.
  /// - Throws: EPERM, or EOPNOTSUPP for a name space that the server does not have.
  func checkAttributeChange(_ name: some Collection<UInt8>) throws(HostError) {
    if name.starts(with: Self.ownAttributes.utf8) { throw HostError(EPERM) }
    if name.starts(with: "user.".utf8) { return }
    guard Self.isPrivileged(name) else { throw HostError(EOPNOTSUPP) }
    guard options.takesPrivilegedFiles else { throw HostError(EPERM) }
  }

  /// Attributes of this prefix are the server's own.
  static let ownAttributes = "user.apus."

  private static func isPrivileged(_ name: some Collection<UInt8>) -> Bool {
    name.starts(with: "security.".utf8) || name.starts(with: "trusted.".utf8)
  }
}
