// The layers around the monitor besides its seccomp filters, as a value: what each run sets up, what `apus info` shows, and what
// `--log` says of those that the host does not permit. The work is CMonitor's (isolation.h).

import CMonitor
import CUserMachine
import Devices
import Glibc

/// What the monitor can no longer name of the host.
public struct Isolation {
  /// One layer, and why it is missing.
  public struct Layer {
    public let key: String
    public let name: String
    /// nil: it is there.
    public let reason: String?
  }

  private var state = monitor_isolation()

  /// Sets up all layers that the host permits for this process, which must have one thread.
  init(of configuration: MachineConfiguration) {
    let writes = configuration.root.isWritable || configuration.binds.contains { !$0.isReadOnly }
    state.writes = writes ? 1 : 0
    state.makes_devices = configuration.takesPrivilegedFiles ? 1 : 0
    state.keeps_identity = configuration.keepsIdentity ? 1 : 0
    state.rules = Self.rules(for: configuration, writes: writes)
    // SAFETY: the structure lives as long as the call.
    unsafe monitor_isolate(&state)
  }

  private init(probing: Void) {
    // SAFETY: as above.
    unsafe monitor_probe_isolation(&state)
  }

  /// The layers that the host would permit.
  public static func probe() -> Isolation { Isolation(probing: ()) }

  private static let namespaces: [(flag: monitor_namespace, layer: monitor_layer?, name: String)] = [
    (MONITOR_NAMESPACE_USER, nil, "user"), (MONITOR_NAMESPACE_MOUNTS, MONITOR_LAYER_MOUNTS, "mount"),
    (MONITOR_NAMESPACE_NETWORK, MONITOR_LAYER_NETWORK, "network"), (MONITOR_NAMESPACE_IPC, MONITOR_LAYER_IPC, "IPC"),
    (MONITOR_NAMESPACE_NAMES, MONITOR_LAYER_IPC, "host name"),
  ]

  /// What user processes are to leave of the host by themselves: the user namespace, and where the monitor has not been able
  /// to leave others, those.
  var missingNamespaces: UInt32 {
    Self.namespaces.reduce(0) { flags, namespace in
      let isMissing = namespace.layer.map { Self.result(state, $0) != 0 } ?? true
      return isMissing ? flags | namespace.flag.rawValue : flags
    }
  }

  private static func result(_ state: monitor_isolation, _ layer: monitor_layer) -> Int64 {
    // SAFETY: the results are an array of as many elements as there are layers.
    unsafe withUnsafeBytes(of: state.results) {
      unsafe $0.load(fromByteOffset: 8 * Int(layer.rawValue), as: Int64.self)
    }
  }

  // MARK: Report

  public var layers: [Layer] {
    let known: [(monitor_layer, String, String)] = [
      (MONITOR_LAYER_FILES, "landlock_files", "Landlock: files"),
      (MONITOR_LAYER_SIGNALS, "landlock_signals", "Landlock: signals"),
      (MONITOR_LAYER_MOUNTS, "mount_namespace", "mount namespace"),
      (MONITOR_LAYER_NETWORK, "network_namespace", "network namespace"),
      (MONITOR_LAYER_IPC, "ipc_namespace", "IPC namespace"),
      (MONITOR_LAYER_IDENTITY, "identity_dropped", "identity dropped"),
      (MONITOR_LAYER_PRIVILEGES, "capabilities_dropped", "capabilities dropped"),
    ]
    return known.map { layer, key, name in
      let error = Int32(-Self.result(state, layer))
      let reason = error == 0 ? nil : error == ECANCELED ? "--keep-identity" : Monitor.text(of: error)
      return Layer(key: key, name: name, reason: reason)
    }
  }

  /// Writes a line on standard error for the layers that are there, and one for each that is missing.
  func report() {
    let layers = layers
    let present = layers.filter { $0.reason == nil }.map(\.name)
    Diagnostics.write("apus: isolation: \(present.isEmpty ? "none" : present.joined(separator: ", "))\n")
    for layer in layers {
      if let reason = layer.reason { Diagnostics.write("apus: isolation: no \(layer.name): \(reason)\n") }
    }
    let absent = missingNamespaces & ~um_zygote_namespaces()
    for namespace in Self.namespaces where absent & namespace.flag.rawValue != 0 {
      Diagnostics.write("apus: isolation: no \(namespace.name) namespace for user processes\n")
    }
  }

  // MARK: What may be opened

  /// Landlock's rules for the exports; a descriptor or a negative error number.
  private static func rules(for configuration: MachineConfiguration, writes: Bool) -> Int32 {
    let rules = Int32(monitor_rules_make(writes ? 1 : 0))
    guard rules >= 0 else { return rules }
    let devices = configuration.takesPrivilegedFiles ? UInt32(MONITOR_MAKE_DEVICES.rawValue) : 0
    let change = UInt32(MONITOR_WRITE.rawValue) | devices
    let root = configuration.root
    allow(root.view, root.directory, root.isWritable ? change : 0, rules)
    for bind in configuration.binds { allow(.everything, bind.source, bind.isReadOnly ? 0 : change, rules) }
    return rules
  }

  /// Allows what a view shows. What cannot be allowed cannot be opened, and the sandbox gets an error for it.
  private static func allow(_ view: FileView, _ path: String, _ change: UInt32, _ rules: Int32) {
    let list = UInt32(MONITOR_LIST.rawValue)
    let read = list | UInt32(MONITOR_READ.rawValue)
    // SAFETY (of this function): paths and names are C strings for the length of the calls.
    switch view.others {
    case .everything: _ = unsafe monitor_rules_allow(rules, path, read | change)
    case .publicFiles:
      // Listings of the whole, contents of what is public; where the view goes on, one level further.
      _ = unsafe monitor_rules_allow(rules, path, list)
      let named = view.entries.keys.map { $0 + "\0" }.joined()
      _ = unsafe monitor_rules_allow_public(rules, path, named, read | change)
    case .nothing: break
    }
    for (name, entry) in view.entries { allow(entry, path == "/" ? "/\(name)" : "\(path)/\(name)", change, rules) }
  }
}
