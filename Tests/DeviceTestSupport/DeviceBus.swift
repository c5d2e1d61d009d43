// The fake machine with the monitor's devices behind its device operations: kernel and monitor in one process.

import Devices
import KernelCore
import Machine
import PhysicalMemory

public enum DeviceBus {
  nonisolated(unsafe) private static let info: UnsafeMutablePointer<machine_boot_info> = {
    let info = machine_fake_boot_info(256 << 20)!
    PhysicalMemory.initialize(info)
    BootParameters.info = UnsafePointer(info)
    machine_fake_devices.queue = {
      Devices.setQueue(device: $0, queue: $1, size: $2, descriptors: $3, available: $4, used: $5)
    }
    machine_fake_devices.kick = { Devices.kick(device: $0, queue: $1) }
    return info
  }()

  /// Makes the machine and its memory.
  public static func prepare() { _ = info }

  /// Adds a device; the kernel's next look at the device table finds it.
  ///
  /// - Parameter interrupt: called with the device's number.
  /// - Returns: the device's number.
  @discardableResult
  public static func add(
    _ device: any VirtioDevice, interrupt: @escaping @Sendable (_ number: Int) -> Void = { _ in }
  ) -> Int {
    let memory = GuestMemory(base: info.pointee.direct_map, size: info.pointee.memory_size)
    let number = Devices.descriptions.count
    Devices.add(device, memory: memory) { interrupt(number) }
    let table = Devices.descriptions
    let copy = UnsafeMutablePointer<machine_device>.allocate(capacity: table.count)
    copy.initialize(from: table, count: table.count)
    info.pointee.devices = UnsafePointer(copy)
    info.pointee.device_count = UInt64(table.count)
    return number
  }
}
