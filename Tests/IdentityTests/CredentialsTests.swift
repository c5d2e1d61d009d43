import LinuxABI
import Testing

@testable import Identity

@Suite struct CredentialsTests {
  let user = Credentials(user: 1000, group: 1000, groups: [50, 20, 30])

  @Test func `root leaves for good with setuid`() throws {
    let left = try Credentials.root.settingUser(1000)
    #expect(
      left.realUser == 1000 && left.effectiveUser == 1000 && left.savedUser == 1000 && left.fileSystemUser == 1000)
    #expect(left.permitted == [] && left.effective == [])
    #expect(throws: Errno.EPERM) { try left.settingUser(0) }
  }

  @Test func `seteuid away from root and back restores the effective capabilities`() throws {
    let away = try Credentials.root.settingUsers(real: .max, effective: 1000, saved: .max)
    #expect(away.effective == [] && away.permitted == .all && away.effectiveUser == 1000)
    let back = try away.settingUsers(real: .max, effective: 0, saved: .max)
    #expect(back.effective == .all)
  }

  @Test func `a user takes only the ids it has`() throws {
    #expect(try user.settingUser(1000).realUser == 1000)
    #expect(throws: Errno.EPERM) { try user.settingUsers(real: 1, effective: .max) }
    #expect(throws: Errno.EPERM) { try user.settingUsers(real: .max, effective: .max, saved: 0) }
    #expect(throws: Errno.EINVAL) { try user.settingUser(.max) }
    #expect(throws: Errno.EPERM) { try user.settingGroup(0) }
    #expect(throws: Errno.EPERM) { try user.settingSupplementaryGroups([]) }
    #expect(user.settingFileSystemUser(0) === user)
  }

  @Test func `setreuid moves the saved id when the real one changes`() throws {
    let swapped = try Credentials.root.settingUsers(real: 5, effective: 6)
    #expect(swapped.savedUser == 6 && swapped.realUser == 5)
    let same = try swapped.settingUsers(real: .max, effective: 5)
    #expect(same.savedUser == 6 && same.effectiveUser == 5)
  }

  @Test func `keepcaps preserves permitted but not effective capabilities`() throws {
    let kept = try Credentials.root.keepingCapabilities(.keep).settingUser(1000)
    #expect(kept.permitted == .all && kept.effective == [])
  }

  @Test func `membership includes supplementary groups`() {
    #expect(user.isMember(of: 20) && user.isMember(of: 30) && user.isMember(of: 50) && user.isMember(of: 1000))
    #expect(!user.isMember(of: 0) && !user.isMember(of: 40))
  }

  @Test func `set-user-id root gives every capability and a distrustful environment`() {
    let (raised, isSecure) = user.executing(setUser: 0, setGroup: nil, file: nil)
    #expect(raised.effectiveUser == 0 && raised.savedUser == 0 && raised.realUser == 1000)
    #expect(raised.effective == .all && isSecure)
    let (refused, secure) = user.forbiddingNewPrivileges().executing(setUser: 0, setGroup: nil, file: nil)
    #expect(refused.effectiveUser == 1000 && refused.effective == [] && !secure)
  }

  @Test func `exec keeps an unprivileged identity as it is`() {
    #expect(user.executing(setUser: nil, setGroup: nil, file: nil).credentials === user)
    let root = Credentials.root.executing(setUser: nil, setGroup: nil, file: nil)
    #expect(root.credentials.effective == .all && !root.isSecure)
  }

  @Test func `file capabilities are bounded, ambient ones survive plain exec only`() throws {
    let bind = CapabilitySet(.bindService)
    let file = FileCapabilities(permitted: [bind, CapabilitySet(.kill)], inheritable: [], isEffective: true)
    let (raised, isSecure) = user.executing(setUser: nil, setGroup: nil, file: file)
    #expect(raised.effective == [bind, CapabilitySet(.kill)] && isSecure)
    let inheriting = try Credentials.root.settingCapabilities(effective: .all, permitted: .all, inheritable: bind)
    let ambient = try inheriting.raisingAmbient(.bindService).keepingCapabilities(.keep)
    #expect(throws: Errno.EPERM) { try inheriting.raisingAmbient(.kill) }
    let plain = try ambient.settingUsers(real: 1000, effective: 0, saved: 1000)
    #expect(plain.ambient == bind)
    let dropped = try ambient.droppingBounding(.kill)
    #expect(!dropped.executing(setUser: nil, setGroup: nil, file: nil).credentials.permitted.has(.kill))
  }

  @Test func `capset never adds`() throws {
    #expect(throws: Errno.EPERM) {
      try user.settingCapabilities(effective: CapabilitySet(.kill), permitted: CapabilitySet(.kill), inheritable: [])
    }
    let less = try Credentials.root.settingCapabilities(
      effective: CapabilitySet(.kill), permitted: CapabilitySet(.kill), inheritable: [])
    #expect(less.has(.kill) && !less.has(.reboot))
    #expect(throws: Errno.EPERM) {
      try less.settingCapabilities(effective: .all, permitted: .all, inheritable: [])
    }
  }

  @Test func `limits go down freely and up with a capability`() throws {
    var limits = ResourceLimits(threads: 100)
    try limits.set(.openFiles, to: ResourceLimit(soft: 10, hard: 100), by: user)
    #expect(throws: Errno.EPERM) { try limits.set(.openFiles, to: ResourceLimit(soft: 10, hard: 101), by: user) }
    #expect(throws: Errno.EINVAL) { try limits.set(.openFiles, to: ResourceLimit(soft: 11, hard: 10), by: user) }
    try limits.set(.openFiles, to: ResourceLimit(soft: 10, hard: 500), by: .root)
    #expect(limits[.openFiles].hard == 500)
    for resource in Resource.allCases { #expect(limits[resource].soft <= limits[resource].hard) }
  }
}
