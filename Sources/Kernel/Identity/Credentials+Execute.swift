// What execve(2) does to an identity: set-user-id and set-group-id bits, file capabilities, and root's traditional
// privileges, by the formulas of capabilities(7), "Transformation of capabilities during execve()".

import LinuxABI

/// The capabilities that a file carries (the extended attribute security.capability).
public struct FileCapabilities: Sendable {
  public var permitted: CapabilitySet
  public var inheritable: CapabilitySet
  /// Whether the new permitted capabilities become effective at once.
  public var isEffective: Bool

  public init(permitted: CapabilitySet, inheritable: CapabilitySet, isEffective: Bool) {
    self.permitted = permitted
    self.inheritable = inheritable
    self.isEffective = isEffective
  }
}

extension Credentials {
  /// Whether the effective ids are the real ones.
  public var hasOneIdentity: Bool {
    @export(interface) get { parts.effectiveUser == parts.realUser && parts.effectiveGroup == parts.realGroup }
  }

  /// Whether `next` has effective or file-system ids, or permitted capabilities, that this identity lacks. A process that
  /// gains is private to root from then on (prctl(2), PR_SET_DUMPABLE), and its parent-death signal is cleared.
  @export(interface)
  public func gains(in next: Credentials) -> Bool {
    next.effectiveUser != effectiveUser || next.effectiveGroup != effectiveGroup
      || next.fileSystemUser != fileSystemUser || next.fileSystemGroup != fileSystemGroup
      || !next.permitted.isSubset(of: permitted)
  }

  /// Whether every effective capability of a file is gained by executing it.
  @export(interface)
  public func obtainsAll(of file: FileCapabilities) -> Bool {
    guard file.isEffective else { return true }
    return file.permitted.isSubset(of: parts.bounding.union(parts.inheritable.intersection(file.inheritable)))
  }

  /// The identity after execve.
  ///
  /// - Parameters:
  ///   - setUser: the owner of a set-user-id file, else nil; nil also for scripts and on nosuid mounts.
  ///   - setGroup: the group of a set-group-id file, else nil.
  ///   - file: the file's capabilities.
  /// - Returns: the identity, and whether the program must distrust its environment (AT_SECURE).
  @export(interface)
  public func executing(
    setUser: UInt32?, setGroup: UInt32?, file: FileCapabilities?
  ) -> (credentials: Credentials, isSecure: Bool) {
    var next = parts
    if !parts.noNewPrivileges {
      if let setUser { next.effectiveUser = setUser }
      if let setGroup { next.effectiveGroup = setGroup }
    }
    let file = parts.noNewPrivileges ? nil : file
    var filePermitted = file?.permitted ?? []
    var fileInheritable = file?.inheritable ?? []
    var fileEffective = file?.isEffective ?? false
    let isRoot = next.effectiveUser == 0 || next.realUser == 0
    if isRoot && !parts.secureBits.contains(.noRoot) {
      // A set-user-id-root file that has capabilities of its own, run by another user, gets just these.
      let honoursFile = file != nil && next.realUser != 0
      if !honoursFile {
        (filePermitted, fileInheritable) = (.all, .all)
        if next.effectiveUser == 0 { fileEffective = true }
      }
    }
    let changesIdentity =
      next.effectiveUser != parts.effectiveUser || next.effectiveGroup != parts.effectiveGroup
    let isPrivileged = file != nil || changesIdentity
    next.ambient = isPrivileged ? [] : parts.ambient
    next.permitted = parts.inheritable.intersection(fileInheritable)
      .union(filePermitted.intersection(parts.bounding)).union(next.ambient)
    next.effective = fileEffective ? next.permitted : next.ambient
    next.savedUser = next.effectiveUser
    next.fileSystemUser = next.effectiveUser
    next.savedGroup = next.effectiveGroup
    next.fileSystemGroup = next.effectiveGroup
    next.secureBits.remove(.keepCapabilities)
    let gains = !isRoot && (fileEffective || !next.permitted.isSubset(of: next.ambient))
    let isSecure =
      next.effectiveUser != next.realUser || next.effectiveGroup != next.realGroup || gains
    if next == parts { return (self, isSecure) }
    return (Credentials(next), isSecure)
  }
}
