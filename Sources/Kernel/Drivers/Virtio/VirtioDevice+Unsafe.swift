// Finding devices: the machine lists what it offers in the boot record. A driver asks for the devices of its kind.

import KernelCore
import Machine

/// A device that the machine offers.
public struct VirtioDevice: Sendable {
  /// The kinds that this kernel has drivers for (virtio 1.2, section 5; the last is our own).
  public enum Kind {
    public static var block: UInt32 { 2 }
    public static var fileSystem: UInt32 { 26 }
    public static var hostStreams: UInt32 { 0x4150 }
  }

  /// The device's place in the machine's table: its name in the VMI and its interrupt.
  public let number: Int
  public let kind: UInt32
  public let queueCount: Int
  /// The largest number of descriptors in a queue.
  public let queueSize: Int
  public let features: UInt64
  /// The device-specific configuration.
  public let configuration: [UInt8]

  /// The devices of `kind`, in the machine's order.
  @export(interface)
  public static func all(kind: UInt32) -> [VirtioDevice] {
    guard let info = unsafe BootParameters.info, let table = unsafe info.pointee.devices else { return [] }
    var found: [VirtioDevice] = []
    // SAFETY: the boot record describes `device_count` entries and their configurations, valid and constant as long as the kernel runs.
    for number in 0..<Int(clamping: unsafe info.pointee.device_count) {
      let entry = unsafe table[number]
      guard unsafe entry.kind == kind else { continue }
      let configuration = unsafe UnsafeBufferPointer(start: entry.config, count: Int(entry.config_length))
      found.append(
        VirtioDevice(
          number: number, kind: kind, queueCount: unsafe Int(entry.queues), queueSize: unsafe Int(entry.queue_size),
          features: unsafe entry.features, configuration: unsafe Array(configuration)))
    }
    return found
  }
}
