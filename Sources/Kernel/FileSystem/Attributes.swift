// What stat(2) tells about a file, and what chmod(2), chown(2), truncate(2) and utimensat(2) change.

import KernelCore
import LinuxABI

/// Who a new file belongs to.
public struct Owner: Equatable, Sendable {
  public var user: UInt32
  public var group: UInt32

  @inline(__always)
  public init(user: UInt32, group: UInt32) {
    self.user = user
    self.group = group
  }

  public static var root: Owner { Owner(user: 0, group: 0) }
}

/// What a permission check needs: the part of the attributes that every path walk reads.
public struct AccessControl: Sendable {
  /// The twelve permission bits of the mode.
  public var permissions: UInt32
  public var owner: Owner

  @inline(__always)
  public init(permissions: UInt32, owner: Owner) {
    self.permissions = permissions
    self.owner = owner
  }
}

/// An inode's attributes.
public struct Attributes: Sendable {
  public var number: UInt64
  public var kind: FileKind
  /// The twelve permission bits of the mode, set-id and sticky bits included.
  public var permissions: UInt32
  public var linkCount: UInt64 = 1
  public var owner: Owner
  /// Bytes.
  public var size: UInt64 = 0
  /// Storage used, in units of 512 bytes.
  public var blocks: UInt64 = 0
  /// The preferred size of a transfer, in bytes.
  public var blockSize: UInt64 = 4096
  /// The file system's device number.
  public var device: DeviceNumber
  /// For device files: the device that the file names.
  public var specialDevice = DeviceNumber.none
  public var accessTime = FileTime.zero
  public var modifyTime = FileTime.zero
  public var changeTime = FileTime.zero
  public var birthTime: FileTime?
  /// Flags of the file that statx(2) shows, STATX_ATTR_*, and which of them the file system knows.
  public var flags: UInt64 = 0
  public var knownFlags: UInt64 = 0

  @export(interface)
  public init(number: UInt64, kind: FileKind, permissions: UInt32, owner: Owner, device: DeviceNumber) {
    self.number = number
    self.kind = kind
    self.permissions = permissions
    self.owner = owner
    self.device = device
  }

  public var mode: UInt32 { kind.modeBits | permissions }
  public var accessControl: AccessControl { AccessControl(permissions: permissions, owner: owner) }
}

/// New values for some attributes; nil leaves one as it is. The VFS has checked the caller's right to make the change.
public struct AttributeChange: Sendable {
  public var permissions: UInt32?
  public var user: UInt32?
  public var group: UInt32?
  public var size: UInt64?
  public var accessTime: FileTime?
  public var modifyTime: FileTime?
  /// The time of the change itself; always set by the VFS.
  public var changeTime: FileTime

  @export(interface)
  public init(
    permissions: UInt32? = nil, user: UInt32? = nil, group: UInt32? = nil, size: UInt64? = nil,
    accessTime: FileTime? = nil, modifyTime: FileTime? = nil, changeTime: FileTime = .now()
  ) {
    self.permissions = permissions
    self.user = user
    self.group = group
    self.size = size
    self.accessTime = accessTime
    self.modifyTime = modifyTime
    self.changeTime = changeTime
  }

  /// Makes the change in a copy of the attributes that a file system keeps in memory (the size is left to the caller).
  @export(interface)
  public func apply(to attributes: inout Attributes) {
    if let permissions { attributes.permissions = permissions & 0o7777 }
    if let user { attributes.owner.user = user }
    if let group { attributes.owner.group = group }
    if let accessTime { attributes.accessTime = accessTime }
    if let modifyTime { attributes.modifyTime = modifyTime }
    attributes.changeTime = changeTime
  }
}

/// What statfs(2) tells about a file system.
public struct FileSystemStatistics: Sendable {
  public var magic: Int64
  public var blockSize: UInt64 = 4096
  public var blocks: UInt64 = 0
  public var freeBlocks: UInt64 = 0
  public var availableBlocks: UInt64 = 0
  public var files: UInt64 = 0
  public var freeFiles: UInt64 = 0
  public var nameLimit: UInt64 = 255

  public init(magic: Int64) { self.magic = magic }
}

/// An entry that `Inode.readDirectory` reports.
public struct DirectoryEntry {
  public var name: ByteString
  public var number: UInt64
  /// nil when finding out would cost a look-up (DT_UNKNOWN).
  public var kind: FileKind?
  /// Where to go on after this entry: any value of the file system's choice above 2.
  public var cookie: UInt64
  /// The file, if the file system has it at hand.
  public var inode: Inode?

  @inline(__always)
  public init(name: ByteString, number: UInt64, kind: FileKind?, cookie: UInt64, inode: Inode? = nil) {
    self.inode = inode
    self.name = name
    self.number = number
    self.kind = kind
    self.cookie = cookie
  }
}
