// The block devices of the kernel: drivers announce them, /dev has a node for each.

import FileSystem
import KernelCore
import LinuxABI

/// All block devices.
public enum BlockDevices {
  private static let devices = SpinLock([BlockDevice](), rank: .device)

  /// Announces a device, and its node in /dev.
  ///
  /// - Parameter driver: the name in /proc/devices.
  @export(interface)
  public static func register(_ device: BlockDevice, driver: ByteString) {
    devices.withLock { $0.append(device) }
    DeviceFiles.register(
      .blockDevice, major: device.number.major, minor: device.number.minor, name: device.name, driver: driver,
      permissions: 0o660
    ) { (path, flags, caller) throws(Errno) -> OpenFile in
      if device.isReadOnly, flags.allowsWriting { throw .EROFS }
      return BlockDeviceFile(device, path: path, flags: flags)
    }
  }

  /// The devices in the order in which they were announced.
  @export(interface)
  public static func all() -> [BlockDevice] { devices.withLock { $0 } }

  /// The device behind a block device file, nil when there is none.
  @export(interface)
  public static func find(_ number: DeviceNumber) -> BlockDevice? {
    devices.withLock { devices in devices.first { $0.number == number } }
  }
}
