// Who a thread is: user and group ids, supplementary groups, capabilities. An immutable object that threads, open files
// and callers share by reference; a change makes a new one (`Credentials+Change.swift`). So a check in the middle of a
// path walk sees one consistent identity without a lock.

import LinuxABI

/// The identity of a thread.
public final class Credentials: Sendable {
  /// The parts; a copy of them is what changes are made on.
  struct Parts: Equatable, Sendable {
    var realUser: UInt32 = 0, effectiveUser: UInt32 = 0, savedUser: UInt32 = 0, fileSystemUser: UInt32 = 0
    var realGroup: UInt32 = 0, effectiveGroup: UInt32 = 0, savedGroup: UInt32 = 0, fileSystemGroup: UInt32 = 0
    /// Supplementary groups in rising order.
    var groups: [UInt32] = []
    var effective: CapabilitySet = [], permitted: CapabilitySet = [], inheritable: CapabilitySet = []
    var bounding: CapabilitySet = .all, ambient: CapabilitySet = []
    var secureBits: SecureBits = []
    var noNewPrivileges = false
  }

  let parts: Parts

  init(_ parts: Parts) { self.parts = parts }

  /// The superuser with every capability.
  public static let root = Credentials(Parts(effective: .all, permitted: .all))

  /// An identity with these ids in all four places; user 0 has every capability, others none.
  @export(interface)
  public convenience init(user: UInt32, group: UInt32, groups: [UInt32] = []) {
    var parts = Parts()
    parts.setAllUsers(user)
    parts.setAllGroups(group)
    parts.groups = groups.sorted()
    if user == 0 { (parts.effective, parts.permitted) = (.all, .all) }
    self.init(parts)
  }

  public var realUser: UInt32 { parts.realUser }
  public var effectiveUser: UInt32 { parts.effectiveUser }
  public var savedUser: UInt32 { parts.savedUser }
  public var fileSystemUser: UInt32 { parts.fileSystemUser }
  public var realGroup: UInt32 { parts.realGroup }
  public var effectiveGroup: UInt32 { parts.effectiveGroup }
  public var savedGroup: UInt32 { parts.savedGroup }
  public var fileSystemGroup: UInt32 { parts.fileSystemGroup }
  public var groups: [UInt32] { parts.groups }
  public var effective: CapabilitySet { parts.effective }
  public var permitted: CapabilitySet { parts.permitted }
  public var inheritable: CapabilitySet { parts.inheritable }
  public var bounding: CapabilitySet { parts.bounding }
  public var ambient: CapabilitySet { parts.ambient }
  public var secureBits: SecureBits { parts.secureBits }
  /// PR_SET_NO_NEW_PRIVS: exec grants nothing.
  public var noNewPrivileges: Bool { parts.noNewPrivileges }

  /// Programs with the same owner may share code that one of them has caused to be changed: each could change the other
  /// anyway (ptrace(2), PTRACE_MODE_ATTACH). nil while the thread has more than one identity, or privileges beyond those of
  /// its user: it shares code with none. Never 0.
  @export(interface)
  public var codeOwner: UInt64? {
    guard realUser == effectiveUser, realUser == savedUser, realUser == fileSystemUser, realGroup == effectiveGroup,
      realGroup == savedGroup, realGroup == fileSystemGroup, realUser == 0 || permitted.isEmpty
    else { return nil }
    return (UInt64(realUser) << 32 | UInt64(realGroup)) &+ 1
  }

  /// Whether the thread may use this privilege.
  public func has(_ capability: Capability) -> Bool { parts.effective.has(capability) }

  /// Whether `group` is the file-system group or one of the supplementary groups: the group class of a permission check.
  ///
  /// - Complexity: O(log n) in the number of groups.
  @export(interface)
  public func isMember(of group: UInt32) -> Bool {
    parts.fileSystemGroup == group || contains(group)
  }

  /// As `isMember(of:)`, with the effective group instead of the file-system group (setgid's chown rules, kill).
  @export(interface)
  public func isEffectiveMember(of group: UInt32) -> Bool {
    parts.effectiveGroup == group || contains(group)
  }

  /// The identity with which access(2) asks: the real ids, and capabilities only for the real user 0.
  @export(interface)
  public func forAccessCheck() -> Credentials {
    var next = parts
    (next.fileSystemUser, next.fileSystemGroup) = (parts.realUser, parts.realGroup)
    if !parts.secureBits.contains(.noSetUserIDFixup) {
      next.effective = parts.realUser == 0 ? parts.permitted : []
    }
    return Credentials(next)
  }

  private func contains(_ group: UInt32) -> Bool {
    var low = 0
    var high = parts.groups.count
    while low < high {
      let middle = (low + high) / 2
      if parts.groups[middle] == group { return true }
      if parts.groups[middle] < group { low = middle + 1 } else { high = middle }
    }
    return false
  }
}

extension Credentials.Parts {
  mutating func setAllUsers(_ user: UInt32) {
    (realUser, effectiveUser, savedUser, fileSystemUser) = (user, user, user, user)
  }

  mutating func setAllGroups(_ group: UInt32) {
    (realGroup, effectiveGroup, savedGroup, fileSystemGroup) = (group, group, group, group)
  }
}

/// prctl(PR_SET_SECUREBITS): how far the capability rules treat user 0 specially. Each bit is followed by its lock.
public struct SecureBits: OptionSet, Hashable, Sendable {
  public var rawValue: UInt32

  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static var noRoot: SecureBits { SecureBits(rawValue: 1 << 0) }
  public static var noSetUserIDFixup: SecureBits { SecureBits(rawValue: 1 << 2) }
  public static var keepCapabilities: SecureBits { SecureBits(rawValue: 1 << 4) }
  public static var noAmbientRaise: SecureBits { SecureBits(rawValue: 1 << 6) }
  static var known: UInt32 { 0xff }
  /// The lock bits, one above each flag.
  static var locks: UInt32 { 0xaa }
}
