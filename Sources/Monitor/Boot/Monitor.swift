// The monitor's one entry point: from a configuration to a running machine.

import CDevices
import CMachine
import CMonitor
import CUserMachine
import Devices
import Glibc
import UserMachine

/// Runs machines.
public enum Monitor {
  /// Boots a machine and runs the configured command on it. The process ends with the machine: with the command's exit
  /// status, 128+n when signal n ended it, 124 after the time limit, 125 on a failure of the kernel, 126 when the
  /// command exists and cannot be executed, 127 when it does not exist.
  ///
  /// - Throws: `MonitorFailure` when the machine cannot be started.
  public static func run(configuration: MachineConfiguration) throws(MonitorFailure) -> Never {
    if configuration.showsStatistics { RunStatistics.begin() }
    let machine = machine(configuration)
    if let obstacle = HostLimits.obstacle(machine, memory: memory(configuration)) { throw MonitorFailure(obstacle) }
    let image = try KernelImage(path: configuration.kernelPath)
    SymbolTable.map(path: configuration.kernelPath)
    ControlGroup.join(configuration)
    // In this order: what names can give is opened, then the process gives up what it can name, and then it gets threads and
    // children, which inherit that.
    let devices = try openDevices(configuration)
    let isolation = Isolation(of: configuration)
    try start(machine, configuration, isolation)
    if configuration.showsKernelLog { isolation.report() }
    let info = try unsafe BootRecord.make(configuration, image: image, devices: connect(devices, configuration))
    try image.sealROM()

    monitor_hooks.cpu_entry = UInt64(image.cpuEntry)
    unsafe monitor_hooks.text = image.text.baseAddress?.assumingMemoryBound(to: UInt8.self)
    monitor_hooks.text_size = image.text.count
    unsafe monitor_hooks.console_write = { bytes, count in unsafe writeToLog(bytes, Int(count)) }
    unsafe monitor_hooks.power_off = { status in unsafe powerOff(status) }
    // SAFETY: the address lies in the image's code (KernelImage checked it) and has the type of machine.h.
    let trap = unsafe unsafeBitCast(
      image.kernelTrap, to: (@convention(c) (UnsafeMutablePointer<machine_trap_frame>?) -> Void).self)
    unsafe um_set_kernel(UInt64(image.base), UInt64(image.end), trap)
    unsafe um_set_last_act { console_host_restore() }

    if let seconds = configuration.timeoutSeconds {
      let nanoseconds = UInt64(min(seconds, 1e9) * 1e9)
      guard monitor_set_timeout(nanoseconds, 124 << 8) == 0 else {
        throw MonitorFailure("cannot start the timer thread")
      }
    }
    guard um_cpu_attach(0) == 0 else { throw MonitorFailure("cannot start CPU 0") }
    try confine(configuration)
    unsafe monitor_boot(UInt64(image.start), info)
  }

  /// The commit that this program was built from; nil when it was not built from a repository.
  public static var commit: String? {
    let text = unsafe String(cString: monitor_commit())
    return text.isEmpty ? nil : text
  }

  /// Writes a message to standard error, without waiting long for a reader.
  public static func report(_ text: String) { Diagnostics.write(text) }

  /// Gives up everything that running the machine does not need, before any of the guest's code has run.
  private static func confine(_ configuration: MachineConfiguration) throws(MonitorFailure) {
    let writes = configuration.root.isWritable || configuration.binds.contains { !$0.isReadOnly }
    let disks = Devices.disks.map { monitor_disk(descriptor: $0.descriptor, writes: $0.isReadOnly ? 0 : 1) }
    um_set_refusable_call(host_call_place())
    let error = unsafe monitor_confine(writes ? 1 : 0, disks, disks.count)
    guard error == 0 else {
      throw MonitorFailure("cannot confine the monitor: \(unsafe String(cString: strerror(Int32(-error))))")
    }
  }

  private static func size(_ bytes: UInt64) -> String {
    bytes % 1 << 30 == 0 ? "\(bytes >> 30)G" : "\(bytes >> 20)M"
  }

  /// What the messages about limits call the size of a machine.
  private static func memory(_ configuration: MachineConfiguration) -> String {
    "--memory \(size(configuration.memoryBytes)) and --pids-limit \(configuration.pidsLimit)"
  }

  private static func machine(_ configuration: MachineConfiguration) -> um_config {
    var machine = um_config()
    machine.memory_size = configuration.memoryBytes
    machine.cpu_count = UInt32(configuration.cpus)
    // Beside those that run: threads and processes that wait for the next one, and those that are just ending.
    machine.maximum_threads = UInt32(configuration.pidsLimit + 128)
    machine.maximum_spaces = UInt32(min(Int(UM_MAX_SPACES), 2 * configuration.pidsLimit + 128))
    unsafe machine.cpu_main = { index in monitor_cpu_main(index) }
    return unsafe machine
  }

  private static func start(
    _ machine: um_config, _ configuration: MachineConfiguration, _ isolation: Isolation
  ) throws(MonitorFailure) {
    var machine = machine
    machine.zygote_namespaces = isolation.missingNamespaces
    var failure = unsafe um_failure()
    let error = HostLimits.withoutFileLimit { unsafe um_initialize(&machine, &failure) }
    guard error == 0 else {
      let step = unsafe failure.step.map { unsafe String(cString: $0) } ?? "starting the machine"
      let reason = HostLimits.explanation(of: Int32(-error), machine, memory: memory(configuration))
      let sentence = if let reason { reason } else { unsafe String(cString: strerror(Int32(-error))) }
      throw MonitorFailure("\(step): \(sentence)")
    }
  }
}
