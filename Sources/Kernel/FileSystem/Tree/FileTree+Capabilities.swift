// The capabilities of program files (capabilities(7), "File capabilities"): the attribute security.capability, its format, and
// when a file loses it. Each write looks whether there is one, so an inode remembers that there is none.

import Identity
import KernelCore
import LinuxABI
import Synchronization

/// What an inode knows about its attribute security.capability.
enum CapabilityPresence {
  /// Ask the file system.
  static let unknown: UInt8 = 0
  static let absent: UInt8 = 1
  static let possible: UInt8 = 2
}

extension FileTree {
  /// The capabilities that executing the file grants; nil for none.
  @export(interface)
  public static func capabilities(of inode: Inode) -> FileCapabilities? {
    guard inode.capabilityPresence.load(ordering: .acquiring) != CapabilityPresence.absent else { return nil }
    do throws(Errno) {
      return FileCapabilities(try inode.extendedAttribute(FileCapabilities.attribute))
    } catch {
      if error == .ENODATA || error == .EOPNOTSUPP { noteAbsence(inode) }
      return nil
    }
  }

  /// A new file has no capabilities.
  static func noteAbsence(_ inode: Inode) {
    // Not when the attribute has just been set.
    _ = inode.capabilityPresence.compareExchange(
      expected: CapabilityPresence.unknown, desired: CapabilityPresence.absent, ordering: .acquiringAndReleasing)
  }

  /// The file gets a new owner or new content: its capabilities were not granted to that, no matter which user changes it.
  static func dropCapabilities(_ inode: Inode) throws(Errno) {
    guard inode.capabilityPresence.load(ordering: .acquiring) != CapabilityPresence.absent else { return }
    do throws(Errno) {
      _ = try inode.extendedAttribute(FileCapabilities.attribute)
      try inode.removeExtendedAttribute(FileCapabilities.attribute)
    } catch {
      // What cannot be read or removed must not stay on the changed file.
      guard error == .ENODATA || error == .EOPNOTSUPP else { throw error }
      noteAbsence(inode)
    }
  }
}

extension FileCapabilities {
  static var attribute: ByteString { "security.capability" }

  private static var revisionMask: UInt32 { 0xff00_0000 }
  private static var effectiveFlag: UInt32 { 1 }

  /// struct vfs_cap_data of linux/capability.h: revision 1 has 32 bits of capabilities, 2 has 64, 3 also the user
  /// namespace's root, which is 0 in Apus.
  ///
  /// - Returns: nil for another format, and for capabilities of another namespace.
  init?(_ value: ByteString) {
    let words = Self.words(value)
    guard let header = words.first else { return nil }
    var permitted: UInt64
    var inheritable: UInt64
    switch (header & Self.revisionMask, words.count) {
    case (0x0100_0000, 3):
      (permitted, inheritable) = (UInt64(words[1]), UInt64(words[2]))
    case (0x0200_0000, 5), (0x0300_0000, 6):
      if words.count == 6, words[5] != 0 { return nil }
      permitted = UInt64(words[1]) | UInt64(words[3]) << 32
      inheritable = UInt64(words[2]) | UInt64(words[4]) << 32
    default: return nil
    }
    self.init(
      permitted: CapabilitySet(rawValue: permitted).intersection(.all),
      inheritable: CapabilitySet(rawValue: inheritable).intersection(.all),
      isEffective: header & Self.effectiveFlag != 0)
  }

  /// What setxattr(2) accepts for the attribute.
  ///
  /// - Throws: EINVAL for another size or revision than those that are written today (2 and 3).
  static func validate(_ name: ByteString, _ value: ByteString) throws(Errno) {
    guard name == attribute else { return }
    let words = words(value)
    guard let header = words.first else { throw .EINVAL }
    switch (header & revisionMask, words.count) {
    case (0x0200_0000, 5), (0x0300_0000, 6): return
    default: throw .EINVAL
    }
  }

  /// The little-endian words of a value; none when its size is no multiple of theirs.
  private static func words(_ value: ByteString) -> [UInt32] {
    let bytes = value.bytes
    guard bytes.count % 4 == 0, bytes.count <= 24 else { return [] }
    var words = [UInt32](repeating: 0, count: bytes.count / 4)
    for (index, byte) in bytes.enumerated() { words[index / 4] |= UInt32(byte) << UInt32(index % 4 * 8) }
    return words
  }
}
