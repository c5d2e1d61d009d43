// What drivers and file systems announce at boot: device files by kind and number, file system types by name.

import KernelCore
import LinuxABI

/// The character and block devices that drivers offer.
public enum DeviceFiles {
  /// Opens a device file; `path.inode` is the file.
  public typealias Open = (Path, OpenFlags, Caller) throws(Errno) -> OpenFile

  /// A registered device.
  public struct Entry {
    public var kind: FileKind
    public var number: DeviceNumber
    /// The name below /dev; nil for devices that make their own nodes (pseudo-terminals).
    public var name: ByteString?
    /// The driver's name in /proc/devices.
    public var driver: ByteString
    public var permissions: UInt32
    /// How many minors from `number.minor` on are meant.
    public var minors: UInt32
    let open: Open
  }
  private static let entries = SpinLock([Entry](), rank: .device)

  /// Announces a device. Register before Devtmpfs is mounted for the node to appear.
  @export(interface)
  public static func register(
    _ kind: FileKind = .characterDevice, major: UInt32, minor: UInt32, minors: UInt32 = 1, name: ByteString?,
    driver: ByteString? = nil,
    permissions: UInt32 = 0o666, open: @escaping Open
  ) {
    let entry = Entry(
      kind: kind, number: DeviceNumber(major: major, minor: minor), name: name,
      driver: driver ?? name ?? ByteString(), permissions: permissions, minors: minors, open: open)
    entries.withLock { $0.append(entry) }
  }

  /// All devices, for Devtmpfs and /proc/devices.
  @export(interface)
  public static func all() -> [Entry] { entries.withLock { $0 } }

  /// Opens the device with this number.
  /// - Throws: ENXIO when there is none; EACCES on a mount without devices.
  @export(interface)
  public static func open(
    _ kind: FileKind, _ number: DeviceNumber, path: Path, flags: OpenFlags, by caller: Caller
  ) throws(Errno) -> OpenFile {
    if path.mount.flags.contains(.noDevices) { throw .EACCES }
    let entry = entries.withLock { entries in
      entries.first {
        $0.kind == kind && $0.number.major == number.major && number.minor >= $0.number.minor
          && number.minor - $0.number.minor < $0.minors
      }
    }
    guard let entry else { throw .ENXIO }
    return try entry.open(path, flags, caller)
  }
}

/// The file system types that can be mounted.
public enum FileSystemTypes {
  /// Makes a superblock from mount(2)'s source, options ("size=1m,mode=755") and flags.
  public typealias Mount = (ByteString, ByteString, MountFlags) throws(Errno) -> Superblock

  struct Entry {
    var name: ByteString
    var mount: Mount
  }
  private static let entries = SpinLock([Entry](), rank: .device)

  @export(interface)
  public static func register(_ name: ByteString, mount: @escaping Mount) {
    entries.withLock { $0.append(Entry(name: name, mount: mount)) }
  }

  /// The names, for /proc/filesystems.
  @export(interface)
  public static func names() -> [ByteString] { entries.withLock { $0.map { $0.name } } }

  /// Makes a superblock of the type.
  /// - Throws: ENODEV for an unknown type.
  @export(interface)
  public static func mount(_ type: ByteString, source: ByteString, options: ByteString, flags: MountFlags)
    throws(Errno) -> Superblock
  {
    guard let entry = entries.withLock({ entries in entries.first { $0.name == type } }) else { throw .ENODEV }
    return try entry.mount(source, options, flags)
  }
}
