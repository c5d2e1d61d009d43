// Who the caller is: users, groups, capabilities. The rules are in the room Identity; here are the arguments.

import CLinuxABI
import Identity
import LinuxABI
import Process
import VirtualMemory

/// getuid(2), setuid(2), setgroups(2), capget(2) and their families.
public enum CredentialCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(102, "getuid", .full, "") { frame throws(Errno) in Int64(frame.credentials.realUser) },
      SystemCall(104, "getgid", .full, "") { frame throws(Errno) in Int64(frame.credentials.realGroup) },
      SystemCall(105, "setuid", .full, "uid:u") { frame throws(Errno) in
        try change(frame) { old throws(Errno) in try old.settingUser(frame.uint(0)) }
      },
      SystemCall(106, "setgid", .full, "gid:u") { frame throws(Errno) in
        try change(frame) { old throws(Errno) in try old.settingGroup(frame.uint(0)) }
      },
      SystemCall(107, "geteuid", .full, "") { frame throws(Errno) in Int64(frame.credentials.effectiveUser) },
      SystemCall(108, "getegid", .full, "") { frame throws(Errno) in Int64(frame.credentials.effectiveGroup) },
      SystemCall(113, "setreuid", .full, "ruid:i euid:i") { frame throws(Errno) in
        try change(frame) { old throws(Errno) in try old.settingUsers(real: frame.uint(0), effective: frame.uint(1)) }
      },
      SystemCall(114, "setregid", .full, "rgid:i egid:i") { frame throws(Errno) in
        try change(frame) { old throws(Errno) in try old.settingGroups(real: frame.uint(0), effective: frame.uint(1)) }
      },
      SystemCall(115, "getgroups", .full, "size:i list:p", getGroups),
      SystemCall(116, "setgroups", .full, "size:i list:p", setGroups),
      SystemCall(117, "setresuid", .full, "ruid:i euid:i suid:i") { frame throws(Errno) in
        try change(frame) { old throws(Errno) in
          try old.settingUsers(real: frame.uint(0), effective: frame.uint(1), saved: frame.uint(2))
        }
      },
      SystemCall(118, "getresuid", .full, "ruid:p euid:p suid:p") { frame throws(Errno) in
        let c = frame.credentials
        return try store(frame, c.realUser, c.effectiveUser, c.savedUser)
      },
      SystemCall(119, "setresgid", .full, "rgid:i egid:i sgid:i") { frame throws(Errno) in
        try change(frame) { old throws(Errno) in
          try old.settingGroups(real: frame.uint(0), effective: frame.uint(1), saved: frame.uint(2))
        }
      },
      SystemCall(120, "getresgid", .full, "rgid:p egid:p sgid:p") { frame throws(Errno) in
        let c = frame.credentials
        return try store(frame, c.realGroup, c.effectiveGroup, c.savedGroup)
      },
      SystemCall(122, "setfsuid", .full, "uid:u") { frame throws(Errno) in
        let old = frame.credentials.fileSystemUser
        _ = try change(frame) { credentials throws(Errno) in credentials.settingFileSystemUser(frame.uint(0)) }
        return Int64(old)
      },
      SystemCall(123, "setfsgid", .full, "gid:u") { frame throws(Errno) in
        let old = frame.credentials.fileSystemGroup
        _ = try change(frame) { credentials throws(Errno) in credentials.settingFileSystemGroup(frame.uint(0)) }
        return Int64(old)
      },
      SystemCall(125, "capget", .full, "header:p data:p", capget),
      SystemCall(126, "capset", .full, "header:p data:p", capset),
    ]
  }

  private static func change(
    _ frame: SystemCallFrame, _ body: (Credentials) throws(Errno) -> Credentials
  ) throws(Errno) -> Int64 {
    let old = frame.credentials
    let new = try body(old)
    guard new !== old else { return 0 }
    if old.gains(in: new) {
      frame.process.dumpable = 0
      frame.task.parentDeathSignal = 0
    }
    frame.task.setCredentials(new)
    return 0
  }

  private static func store(
    _ frame: SystemCallFrame, _ real: UInt32, _ effective: UInt32, _ saved: UInt32
  ) throws(Errno) -> Int64 {
    try UserMemory.write(real, to: frame.a0)
    try UserMemory.write(effective, to: frame.a1)
    try UserMemory.write(saved, to: frame.a2)
    return 0
  }

  static func getGroups(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let size = frame.int(0)
    let groups = frame.credentials.groups
    guard size >= 0 else { throw .EINVAL }
    if size == 0 { return Int64(groups.count) }
    guard groups.count <= Int(size) else { throw .EINVAL }
    for (index, group) in groups.enumerated() { try UserMemory.write(group, to: frame.a1 &+ UInt64(index) * 4) }
    return Int64(groups.count)
  }

  static func setGroups(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.credentials.has(.setGroupID) else { throw .EPERM }
    let size = frame.uint(0)
    guard size <= 65536 else { throw .EINVAL }
    var groups: [UInt32] = []
    for index in 0..<UInt64(size) { groups.append(try UserMemory.read(frame.a1 &+ index * 4, as: UInt32.self)) }
    return try change(frame) { old throws(Errno) in try old.settingSupplementaryGroups(groups) }
  }

  // MARK: Capabilities

  private static let version1: UInt32 = 0x1998_0330
  private static let version2: UInt32 = 0x2007_1026
  private static let version3: UInt32 = 0x2008_0522

  /// How many 32-bit words each set has in the caller's version; an unknown version is answered with the present one.
  private static func words(_ header: linux_cap_header, _ address: UInt64) throws(Errno) -> UInt64 {
    switch header.version {
    case version1: return 1
    case version2, version3: return 2
    default:
      try UserMemory.write(version3, to: address)
      throw .EINVAL
    }
  }

  static func capget(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let header = try UserMemory.read(frame.a0, as: linux_cap_header.self)
    let count: UInt64
    do throws(Errno) {
      count = try words(header, frame.a0)
    } catch {
      // Asking for the version with a null pointer is no error (capget(2)).
      if error == .EINVAL && frame.a1 == 0 { return 0 }
      throw error
    }
    guard header.pid >= 0 else { throw .EINVAL }
    var credentials = frame.credentials
    if header.pid != 0 && header.pid != frame.task.tid {
      if header.pid == ProcessTable.reaperPid {
        credentials = .root
      } else {
        guard let task = ProcessTable.task(header.pid) else { throw .ESRCH }
        credentials = task.sharedCredentials
      }
    }
    guard frame.a1 != 0 else { return 0 }
    for index in 0..<count {
      let shift = index * 32
      let data = linux_cap_data(
        effective: UInt32(truncatingIfNeeded: credentials.effective.rawValue >> shift),
        permitted: UInt32(truncatingIfNeeded: credentials.permitted.rawValue >> shift),
        inheritable: UInt32(truncatingIfNeeded: credentials.inheritable.rawValue >> shift))
      try UserMemory.write(data, to: frame.a1 &+ index * 12)
    }
    return 0
  }

  static func capset(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let header = try UserMemory.read(frame.a0, as: linux_cap_header.self)
    let count = try words(header, frame.a0)
    guard header.pid == 0 || header.pid == frame.task.tid else { throw .EPERM }
    var (effective, permitted, inheritable): (UInt64, UInt64, UInt64) = (0, 0, 0)
    for index in 0..<count {
      let data = try UserMemory.read(frame.a1 &+ index * 12, as: linux_cap_data.self)
      effective |= UInt64(data.effective) << (index * 32)
      permitted |= UInt64(data.permitted) << (index * 32)
      inheritable |= UInt64(data.inheritable) << (index * 32)
    }
    return try change(frame) { old throws(Errno) in
      try old.settingCapabilities(
        effective: CapabilitySet(rawValue: effective), permitted: CapabilitySet(rawValue: permitted),
        inheritable: CapabilitySet(rawValue: inheritable))
    }
  }
}
