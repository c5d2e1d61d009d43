// Capabilities: root's power in 41 pieces (capabilities(7)). A set of them is one word, so that a check is a mask.

/// One privilege; the raw value is Linux's number, which is also the bit in a set.
public enum Capability: UInt8, CaseIterable, Sendable {
  case changeOwner = 0  // CAP_CHOWN
  case overrideAccess, readSearchAccess, fileOwner, keepSetIDBits  // CAP_DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID
  case kill, setGroupID, setUserID, setCapabilities, linuxImmutable
  case bindService, broadcast, networkAdministration, rawSockets, lockMemory
  case ipcOwner, loadModules, rawIO, changeRoot, trace
  case accounting, systemAdministration, reboot, nice, resources
  case setTime, terminalConfiguration, makeNodes, lease, auditWrite
  case auditControl, setFileCapabilities, macOverride, macAdministration, syslog
  case wakeAlarm, blockSuspend, auditRead, performanceMonitoring, bpf
  case checkpointRestore = 40

  /// The name that capabilities(7) uses, in lower case.
  public var name: StaticString {
    @export(interface) get {
      switch self {
      case .changeOwner: "cap_chown"
      case .overrideAccess: "cap_dac_override"
      case .readSearchAccess: "cap_dac_read_search"
      case .fileOwner: "cap_fowner"
      case .keepSetIDBits: "cap_fsetid"
      case .kill: "cap_kill"
      case .setGroupID: "cap_setgid"
      case .setUserID: "cap_setuid"
      case .setCapabilities: "cap_setpcap"
      case .linuxImmutable: "cap_linux_immutable"
      case .bindService: "cap_net_bind_service"
      case .broadcast: "cap_net_broadcast"
      case .networkAdministration: "cap_net_admin"
      case .rawSockets: "cap_net_raw"
      case .lockMemory: "cap_ipc_lock"
      case .ipcOwner: "cap_ipc_owner"
      case .loadModules: "cap_sys_module"
      case .rawIO: "cap_sys_rawio"
      case .changeRoot: "cap_sys_chroot"
      case .trace: "cap_sys_ptrace"
      case .accounting: "cap_sys_pacct"
      case .systemAdministration: "cap_sys_admin"
      case .reboot: "cap_sys_boot"
      case .nice: "cap_sys_nice"
      case .resources: "cap_sys_resource"
      case .setTime: "cap_sys_time"
      case .terminalConfiguration: "cap_sys_tty_config"
      case .makeNodes: "cap_mknod"
      case .lease: "cap_lease"
      case .auditWrite: "cap_audit_write"
      case .auditControl: "cap_audit_control"
      case .setFileCapabilities: "cap_setfcap"
      case .macOverride: "cap_mac_override"
      case .macAdministration: "cap_mac_admin"
      case .syslog: "cap_syslog"
      case .wakeAlarm: "cap_wake_alarm"
      case .blockSuspend: "cap_block_suspend"
      case .auditRead: "cap_audit_read"
      case .performanceMonitoring: "cap_perfmon"
      case .bpf: "cap_bpf"
      case .checkpointRestore: "cap_checkpoint_restore"
      }
    }
  }
}

/// A set of capabilities.
public struct CapabilitySet: OptionSet, Hashable, Sendable {
  public var rawValue: UInt64

  @inline(__always)
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  @inline(__always)
  public init(_ capability: Capability) { rawValue = 1 << UInt64(capability.rawValue) }

  /// Every capability that exists: the first 41 bits.
  public static var all: CapabilitySet { CapabilitySet(rawValue: (1 << 41) - 1) }

  /// Those that follow the file-system user id (capabilities(7), "Effect of user ID changes on capabilities").
  static var fileSystem: CapabilitySet {
    [
      CapabilitySet(.changeOwner), CapabilitySet(.overrideAccess), CapabilitySet(.readSearchAccess),
      CapabilitySet(.fileOwner), CapabilitySet(.keepSetIDBits), CapabilitySet(.linuxImmutable),
      CapabilitySet(.makeNodes), CapabilitySet(.macOverride),
    ]
  }

  @inline(__always)
  public func has(_ capability: Capability) -> Bool { rawValue & (1 << UInt64(capability.rawValue)) != 0 }
}
