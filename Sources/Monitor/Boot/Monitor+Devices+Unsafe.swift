// The devices of a machine, in the order in which the guest sees them: the host's streams, the exported directories, the disks.

import CMachine
import CMonitor
import CUserMachine
import Devices
import Glibc

extension Monitor {
  /// Makes the devices that `configuration` asks for: opens all that they need of the host.
  static func openDevices(_ configuration: MachineConfiguration) throws(MonitorFailure) -> [any VirtioDevice] {
    var devices: [any VirtioDevice] = [ConsoleDevice(streams: try streams(configuration))]
    let root = configuration.root
    devices.append(try fileServer("root", root.directory, !root.isWritable, configuration, root.view))
    for (index, bind) in configuration.binds.enumerated() {
      devices.append(try fileServer("bind\(index)", bind.source, bind.isReadOnly, configuration))
    }
    return devices + (try disks(configuration))
  }

  /// Connects the devices to the machine.
  static func connect(_ devices: [any VirtioDevice], _ configuration: MachineConfiguration) -> [machine_device] {
    // SAFETY: guest memory stays mapped as long as the process lives.
    let memory = unsafe GuestMemory(base: um_memory_base(), size: configuration.memoryBytes)
    for device in devices { add(device, memory) }
    unsafe monitor_hooks.device_queue = { device, queue, size, descriptors, available, used in
      Devices.setQueue(
        device: device, queue: queue, size: size, descriptors: descriptors, available: available, used: used)
    }
    unsafe monitor_hooks.device_kick = { device, queue in Devices.kick(device: device, queue: queue) }
    return Devices.descriptions
  }

  private static func add(_ device: any VirtioDevice, _ memory: GuestMemory) {
    // Interrupts of devices go to CPU 0; bit 0 is the kick.
    let bit = UInt32(1 + Devices.descriptions.count)
    Devices.add(device, memory: memory) { um_raise_interrupt(0, bit) }
  }

  /// The server of an exported directory; the kernel mounts it by its tag.
  private static func fileServer(
    _ tag: String, _ directory: String, _ isReadOnly: Bool, _ configuration: MachineConfiguration,
    _ view: FileView = .everything
  ) throws(MonitorFailure) -> FileServer {
    var options = FileServer.Options(isReadOnly: isReadOnly)
    options.view = view
    options.takesPrivilegedFiles = configuration.takesPrivilegedFiles
    options.requestQueues = configuration.cpus
    var failure: Int32 = 0
    guard let server = FileServer(tag: tag, directory: directory, options: options, failure: &failure) else {
      throw MonitorFailure("cannot serve \(directory): \(text(of: failure))")
    }
    return server
  }

  private static func streams(_ configuration: MachineConfiguration) throws(MonitorFailure) -> HostStreams {
    let presence = configuration.standardStreams.map { stream -> StreamPresence in
      switch stream {
      case .terminal: .terminal
      case .stream: .stream
      case .closed: .absent
      }
    }
    var trace: Int32?
    if let path = configuration.trace.file {
      let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else {
        throw MonitorFailure("cannot write the trace to \(path): \(unsafe String(cString: strerror(errno)))")
      }
      trace = descriptor
    } else if configuration.trace.systemCalls {
      trace = STDERR_FILENO
    }
    return HostStreams(standard: presence, trace: trace)
  }

  /// The C library's words for an error number.
  static func text(of error: Int32) -> String { unsafe String(cString: strerror(error)) }
}
