// The driver of virtio block devices (virtio 1.2, section 5.2): finding them, and what their configuration says.

import Block
import FileSystem
import KernelCore
import LinuxABI
import Virtio

/// The disks of the machine.
public enum VirtioBlock {
  /// The first of the numbers that Linux gives to drivers without one of their own; a disk has sixteen minors.
  static let major: UInt32 = 254
  static let minorsPerDisk: UInt32 = 16

  /// Announces all disks as vda, vdb and so on, in the machine's order.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public static func start() throws(Errno) {
    for (index, device) in VirtioDevice.all(kind: VirtioDevice.Kind.block).enumerated() {
      guard let configuration = DiskConfiguration(device) else {
        Log.error("virtio: device \(device.number): a disk with a configuration that makes no sense")
        continue
      }
      let number = DeviceNumber(major: major, minor: UInt32(index) * minorsPerDisk)
      let disk = try VirtioDisk(device, configuration, name: name(index), number: number)
      BlockDevices.register(disk, driver: "virtblk")
    }
  }

  /// vda … vdz, vdaa and so on (Linux: sd_format_disk_name).
  static func name(_ index: Int) -> ByteString {
    var letters: [UInt8] = []
    var rest = index
    repeat {
      letters.insert(UInt8(0x61 + rest % 26), at: 0)
      rest = rest / 26 - 1
    } while rest >= 0
    return ByteString([0x76, 0x64] + letters)
  }
}

/// struct virtio_blk_config, as far as it is of use.
struct DiskConfiguration {
  private enum Feature {
    static var segmentLimit: UInt64 { 1 << 2 }
    static var readOnly: UInt64 { 1 << 5 }
    static var blockSize: UInt64 { 1 << 6 }
    static var flush: UInt64 { 1 << 9 }
    static var discard: UInt64 { 1 << 13 }
    static var writeZeroes: UInt64 { 1 << 14 }
  }

  var sectorCount: UInt64
  var isReadOnly: Bool
  var hasFlush: Bool
  var limits: BlockLimits

  /// Bytes of data in a request: more would hold up the others too long.
  private static let largestTransfer = 512 << 10

  /// - Returns: nil when the configuration is too short or contradicts itself.
  init?(_ device: VirtioDevice) {
    let bytes = device.configuration
    func value(_ place: Int, _ size: Int) -> UInt64 {
      guard place + size <= bytes.count else { return 0 }
      var value: UInt64 = 0
      for index in 0..<size { value |= UInt64(bytes[place + index]) << UInt64(8 * index) }
      return value
    }
    func has(_ feature: UInt64) -> Bool { device.features & feature != 0 }
    guard bytes.count >= 8 else { return nil }
    sectorCount = value(0, 8)
    guard sectorCount <= UInt64(Int64.max) / 512 else { return nil }
    isReadOnly = has(Feature.readOnly)
    hasFlush = has(Feature.flush)
    // The head and the status take two descriptors.
    let room = min(max(device.queueSize, 4), 256) - 2
    let segments = has(Feature.segmentLimit) ? Int(max(1, min(value(12, 4), 256))) : 1
    limits = BlockLimits(segments: min(segments, room), bytes: Self.largestTransfer)
    if has(Feature.blockSize) {
      let size = Int(value(20, 4))
      guard size >= 512, size <= 4096, size & (size - 1) == 0 else { return nil }
      limits.logicalBlockSize = size
    }
    if has(Feature.discard) { limits.discardSectors = value(36, 4) }
    if has(Feature.writeZeroes) { limits.clearSectors = value(48, 4) }
  }
}
