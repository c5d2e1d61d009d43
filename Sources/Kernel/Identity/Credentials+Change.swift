// Changing an identity: setuid and its family, groups and capabilities, as credentials(7), setuid(2), setreuid(2),
// setresuid(2), setfsuid(2), setgroups(2), capset(2) and prctl(2) say. Each call returns a new object or fails with the
// error of the system call.

import LinuxABI

/// "Leave this id as it is" (-1) in setreuid, setresuid and their group twins.
private let unchanged = UInt32.max

extension Credentials {
  /// setuid(2).
  @export(interface)
  public func settingUser(_ user: UInt32) throws(Errno) -> Credentials {
    guard user != unchanged else { throw .EINVAL }
    var next = parts
    if has(.setUserID) {
      next.setAllUsers(user)
    } else {
      guard user == parts.realUser || user == parts.savedUser else { throw .EPERM }
      (next.effectiveUser, next.fileSystemUser) = (user, user)
    }
    return finishUsers(next)
  }

  /// setreuid(2).
  @export(interface)
  public func settingUsers(real: UInt32, effective: UInt32) throws(Errno) -> Credentials {
    var next = parts
    if real != unchanged {
      guard real == parts.realUser || real == parts.effectiveUser || has(.setUserID) else { throw .EPERM }
      next.realUser = real
    }
    if effective != unchanged {
      guard
        effective == parts.realUser || effective == parts.effectiveUser || effective == parts.savedUser
          || has(.setUserID)
      else { throw .EPERM }
      next.effectiveUser = effective
    }
    // The saved id follows when the real id is set, or the effective one to something else than the old real id.
    if real != unchanged || (effective != unchanged && effective != parts.realUser) {
      next.savedUser = next.effectiveUser
    }
    next.fileSystemUser = next.effectiveUser
    return finishUsers(next)
  }

  /// setresuid(2).
  @export(interface)
  public func settingUsers(real: UInt32, effective: UInt32, saved: UInt32) throws(Errno) -> Credentials {
    if !has(.setUserID) {
      for id in [real, effective, saved] where id != unchanged {
        guard id == parts.realUser || id == parts.effectiveUser || id == parts.savedUser else { throw .EPERM }
      }
    }
    var next = parts
    if real != unchanged { next.realUser = real }
    if effective != unchanged { next.effectiveUser = effective }
    if saved != unchanged { next.savedUser = saved }
    next.fileSystemUser = next.effectiveUser
    return finishUsers(next)
  }

  /// setfsuid(2), which reports no failure: the result is this object when the change is not permitted.
  @export(interface)
  public func settingFileSystemUser(_ user: UInt32) -> Credentials {
    let permitted =
      user == parts.realUser || user == parts.effectiveUser || user == parts.savedUser || user == parts.fileSystemUser
    guard user != unchanged, user != parts.fileSystemUser, permitted || has(.setUserID) else { return self }
    var next = parts
    next.fileSystemUser = user
    if !parts.secureBits.contains(.noSetUserIDFixup) {
      if parts.fileSystemUser == 0 { next.effective.subtract(.fileSystem) }
      if user == 0 { next.effective.formUnion(next.permitted.intersection(.fileSystem)) }
    }
    return Credentials(next)
  }

  /// setgid(2).
  @export(interface)
  public func settingGroup(_ group: UInt32) throws(Errno) -> Credentials {
    guard group != unchanged else { throw .EINVAL }
    var next = parts
    if has(.setGroupID) {
      next.setAllGroups(group)
    } else {
      guard group == parts.realGroup || group == parts.savedGroup else { throw .EPERM }
      (next.effectiveGroup, next.fileSystemGroup) = (group, group)
    }
    return Credentials(next)
  }

  /// setregid(2).
  @export(interface)
  public func settingGroups(real: UInt32, effective: UInt32) throws(Errno) -> Credentials {
    var next = parts
    if real != unchanged {
      guard real == parts.realGroup || real == parts.effectiveGroup || has(.setGroupID) else { throw .EPERM }
      next.realGroup = real
    }
    if effective != unchanged {
      guard
        effective == parts.realGroup || effective == parts.effectiveGroup || effective == parts.savedGroup
          || has(.setGroupID)
      else { throw .EPERM }
      next.effectiveGroup = effective
    }
    if real != unchanged || (effective != unchanged && effective != parts.realGroup) {
      next.savedGroup = next.effectiveGroup
    }
    next.fileSystemGroup = next.effectiveGroup
    return Credentials(next)
  }

  /// setresgid(2).
  @export(interface)
  public func settingGroups(real: UInt32, effective: UInt32, saved: UInt32) throws(Errno) -> Credentials {
    if !has(.setGroupID) {
      for id in [real, effective, saved] where id != unchanged {
        guard id == parts.realGroup || id == parts.effectiveGroup || id == parts.savedGroup else { throw .EPERM }
      }
    }
    var next = parts
    if real != unchanged { next.realGroup = real }
    if effective != unchanged { next.effectiveGroup = effective }
    if saved != unchanged { next.savedGroup = saved }
    next.fileSystemGroup = next.effectiveGroup
    return Credentials(next)
  }

  /// setfsgid(2); see `settingFileSystemUser`.
  @export(interface)
  public func settingFileSystemGroup(_ group: UInt32) -> Credentials {
    let permitted =
      group == parts.realGroup || group == parts.effectiveGroup || group == parts.savedGroup
      || group == parts.fileSystemGroup
    guard group != unchanged, permitted || has(.setGroupID) else { return self }
    var next = parts
    next.fileSystemGroup = group
    return Credentials(next)
  }

  /// setgroups(2).
  @export(interface)
  public func settingSupplementaryGroups(_ groups: [UInt32]) throws(Errno) -> Credentials {
    guard has(.setGroupID) else { throw .EPERM }
    guard groups.count <= 65536 else { throw .EINVAL }
    var next = parts
    next.groups = groups.sorted()
    return Credentials(next)
  }

  /// capset(2) on the calling thread.
  @export(interface)
  public func settingCapabilities(
    effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet
  ) throws(Errno) -> Credentials {
    let effective = effective.intersection(.all)
    let permitted = permitted.intersection(.all)
    let inheritable = inheritable.intersection(.all)
    let reach = has(.setCapabilities) ? parts.bounding : parts.permitted
    guard
      inheritable.isSubset(of: parts.inheritable.union(reach).union(parts.permitted)),
      inheritable.isSubset(of: parts.inheritable.union(parts.bounding)),
      permitted.isSubset(of: parts.permitted),
      effective.isSubset(of: permitted)
    else { throw .EPERM }
    var next = parts
    (next.effective, next.permitted, next.inheritable) = (effective, permitted, inheritable)
    next.ambient.formIntersection(permitted.intersection(inheritable))
    return Credentials(next)
  }

  /// prctl(PR_CAPBSET_DROP).
  @export(interface)
  public func droppingBounding(_ capability: Capability) throws(Errno) -> Credentials {
    guard has(.setCapabilities) else { throw .EPERM }
    var next = parts
    next.bounding.subtract(CapabilitySet(capability))
    return Credentials(next)
  }

  /// prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE).
  @export(interface)
  public func raisingAmbient(_ capability: Capability) throws(Errno) -> Credentials {
    guard
      parts.permitted.has(capability), parts.inheritable.has(capability), !parts.secureBits.contains(.noAmbientRaise)
    else { throw .EPERM }
    var next = parts
    next.ambient.formUnion(CapabilitySet(capability))
    return Credentials(next)
  }

  /// prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER); nil lowers all (PR_CAP_AMBIENT_CLEAR_ALL).
  @export(interface)
  public func loweringAmbient(_ capability: Capability?) -> Credentials {
    var next = parts
    next.ambient = capability.map { parts.ambient.subtracting(CapabilitySet($0)) } ?? []
    return Credentials(next)
  }

  /// prctl(PR_SET_SECUREBITS).
  @export(interface)
  public func settingSecureBits(_ bits: UInt32) throws(Errno) -> Credentials {
    let old = parts.secureBits.rawValue
    let locked = (old & SecureBits.locks) >> 1
    guard
      bits & ~SecureBits.known == 0, (old ^ bits) & locked == 0, old & SecureBits.locks & ~bits == 0,
      has(.setCapabilities)
    else { throw .EPERM }
    var next = parts
    next.secureBits = SecureBits(rawValue: bits)
    return Credentials(next)
  }

  /// prctl(PR_SET_KEEPCAPS): whether permitted capabilities survive the change from user 0 to others.
  @export(interface)
  public func keepingCapabilities(_ keep: KeepCapabilities) throws(Errno) -> Credentials {
    guard parts.secureBits.rawValue & (1 << 5) == 0 else { throw .EPERM }
    var next = parts
    switch keep {
    case .keep: next.secureBits.insert(.keepCapabilities)
    case .drop: next.secureBits.remove(.keepCapabilities)
    }
    return Credentials(next)
  }

  /// prctl(PR_SET_NO_NEW_PRIVS); it cannot be taken back.
  @export(interface)
  public func forbiddingNewPrivileges() -> Credentials {
    var next = parts
    next.noNewPrivileges = true
    return Credentials(next)
  }

  /// Applies the rules of capabilities(7) for changed user ids.
  private func finishUsers(_ changed: Parts) -> Credentials {
    var next = changed
    guard !parts.secureBits.contains(.noSetUserIDFixup) else { return Credentials(next) }
    let hadRoot = parts.realUser == 0 || parts.effectiveUser == 0 || parts.savedUser == 0
    let hasRoot = next.realUser == 0 || next.effectiveUser == 0 || next.savedUser == 0
    if hadRoot && !hasRoot {
      if !parts.secureBits.contains(.keepCapabilities) {
        next.permitted = []
        next.effective = []
      }
      next.ambient = []
    }
    if parts.effectiveUser == 0 && next.effectiveUser != 0 { next.effective = [] }
    if parts.effectiveUser != 0 && next.effectiveUser == 0 { next.effective = next.permitted }
    return Credentials(next)
  }
}

/// The argument of `Credentials.keepingCapabilities`.
public enum KeepCapabilities: Sendable { case keep, drop }
