// What the kernel receives at boot: the machine's size, its devices, and the configuration. Everything here lives as long as
// the process.
//
// SAFETY: each allocation is initialised in full, with as many elements as it has room for, before the record points to it,
// and is never freed.

import CMachine
import CMonitor
import CUserMachine
import Devices
import Glibc

enum BootRecord {
  /// Builds the boot record for `image` with `devices` on offer.
  static func make(
    _ configuration: MachineConfiguration, image: KernelImage, devices: [machine_device]
  ) throws(MonitorFailure) -> UnsafePointer<machine_boot_info> {
    guard let rom = unsafe monitor_build_rom(image.romArea.baseAddress!, image.romArea.count) else {
      throw MonitorFailure("the ROM does not fit its area")
    }
    let table = UnsafeMutablePointer<machine_device>.allocate(capacity: max(devices.count, 1))
    unsafe table.initialize(from: devices, count: devices.count)
    let text = configurationText(configuration)
    let bytes = UnsafeMutablePointer<CChar>.allocate(capacity: text.count)
    for (index, byte) in text.enumerated() { unsafe (bytes + index).initialize(to: CChar(bitPattern: byte)) }

    let info = UnsafeMutablePointer<machine_boot_info>.allocate(capacity: 1)
    unsafe info.initialize(to: machine_boot_info())
    unsafe info.pointee.magic = MACHINE_BOOT_MAGIC
    unsafe info.pointee.version = UInt64(MACHINE_VERSION)
    unsafe info.pointee.cpu_count = UInt64(configuration.cpus)
    unsafe info.pointee.memory_size = configuration.memoryBytes
    unsafe info.pointee.direct_map = um_memory_base()
    unsafe info.pointee.user_limit = UM_USER_LIMIT
    unsafe info.pointee.xstate_size = um_xstate_size()
    unsafe info.pointee.rom = rom
    unsafe info.pointee.devices = UnsafePointer(table)
    unsafe info.pointee.device_count = UInt64(devices.count)
    unsafe info.pointee.configuration = UnsafePointer(bytes)
    unsafe info.pointee.configuration_length = UInt64(text.count)
    unsafe info.pointee.image_base = UInt64(image.bias)
    unsafe info.pointee.image_end = UInt64(image.end)
    unsafe info.pointee.host_vdso_clock_gettime = um_vdso_clock_gettime()
    return unsafe UnsafePointer(info)
  }

  /// The kernel's `key=value` strings, each ended by a NUL. The kernel's room Boot reads them.
  static func configurationText(_ configuration: MachineConfiguration) -> [UInt8] {
    var text: [UInt8] = []
    func add(_ key: String, _ value: String) {
      text.append(contentsOf: key.utf8)
      text.append(0x3d)
      text.append(contentsOf: value.utf8)
      text.append(0)
    }
    for argument in configuration.arguments { add("arg", argument) }
    for variable in configuration.environment { add("env", variable) }
    add("cwd", configuration.workingDirectory)
    add("user", "\(configuration.user.user):\(configuration.user.group)")
    add("hostname", configuration.hostname)
    add("pids", "\(configuration.pidsLimit)")
    add("root", configuration.root.isWritable ? "virtiofs" : "overlay")
    if let size = configuration.overlayBytes { add("overlay-size", "\(size)") }
    for (index, bind) in configuration.binds.enumerated() {
      add("bind", "bind\(index):\(bind.destination):\(bind.isReadOnly ? "ro" : "rw")")
    }
    // Disks for swap come behind the others; the kernel counts them all.
    for index in configuration.swaps.indices { add("swap", "\(configuration.disks.count + index)") }
    for (index, stream) in configuration.standardStreams.enumerated() { add("stdio\(index)", stream.rawValue) }
    if configuration.trace.systemCalls { add("trace", "syscalls") }
    if configuration.showsKernelLog { add("loglevel", "7") }
    for options in configuration.kernelOptions { add("append", options) }
    return text
  }
}
