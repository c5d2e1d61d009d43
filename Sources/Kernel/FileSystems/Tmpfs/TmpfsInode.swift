// What all files of a tmpfs have: attributes, extended attributes, and a symbolic link's target. Regular files and
// directories are subclasses.

import FileSystem
import KernelCore
import LinuxABI
import Synchronization
import VirtualMemory

/// An inode of a tmpfs.
public class TmpfsInode: Inode {
  struct State {
    var attributes: Attributes
    var entries = TmpfsEntries()
    var target = ByteString()
    var extended: [ByteString: ByteString] = [:]
    /// What the extended attributes cost.
    var extendedBytes: Int { extended.reduce(0) { $0 + TmpfsInode.cost($1.key, $1.value) } }
  }
  let state: SpinLock<State>

  /// Bytes of the file system's quota: an inode with its first name, every further name, an extended attribute.
  private static var inodeBytes: Int { 1536 }
  static var linkBytes: Int { 512 }
  static func cost(_ name: ByteString, _ value: ByteString) -> Int { name.count + value.count + 128 }

  init(_ state: State, on superblock: TmpfsSuperblock) {
    let attributes = state.attributes
    self.state = SpinLock(state, rank: .inode)
    super.init(superblock: superblock, number: attributes.number, kind: attributes.kind)
  }

  /// A new inode without a name; the link count is that of its first name.
  static func make(
    on superblock: TmpfsSuperblock, _ kind: FileKind, permissions: UInt32, owner: Owner,
    device: DeviceNumber = .none, target: ByteString = ByteString()
  ) throws(Errno) -> TmpfsInode {
    let number = try superblock.takeNumber()
    do throws(Errno) { try superblock.quota.takeBytes(inodeBytes + target.count) } catch {
      superblock.didFreeInode()
      throw error
    }
    var attributes = Attributes(
      number: number, kind: kind, permissions: permissions & 0o7777, owner: owner,
      device: superblock.device)
    attributes.linkCount = kind == .directory ? 2 : 1
    attributes.specialDevice = device
    attributes.size = UInt64(target.count)
    let now = FileTime.now()
    (attributes.accessTime, attributes.modifyTime, attributes.changeTime) = (now, now, now)
    attributes.birthTime = now
    // The caller's string may lie in a larger array than it fills; this one stays.
    var bytes: [UInt8] = []
    bytes.reserveCapacity(target.count)
    bytes.append(contentsOf: target.bytes)
    let state = State(attributes: attributes, target: ByteString(bytes))
    switch kind {
    case .regular:
      if let budget = superblock.hugePages { return HugetlbFile(state, on: superblock, budget) }
      return TmpfsFile(state, on: superblock)
    case .directory: return TmpfsDirectory(state, on: superblock)
    default: return TmpfsInode(state, on: superblock)
    }
  }

  final var tmpfs: TmpfsSuperblock? { superblock as? TmpfsSuperblock }

  deinit {
    guard let tmpfs = superblock as? TmpfsSuperblock else { return }
    tmpfs.quota.giveBytes(Self.inodeBytes + state.withLock { $0.target.count + $0.extendedBytes })
    tmpfs.didFreeInode()
  }

  // MARK: Attributes

  public override func attributes() throws(Errno) -> Attributes {
    state.withLock { $0.attributes }
  }

  public override func accessControl() throws(Errno) -> AccessControl {
    state.withLock { $0.attributes.accessControl }
  }

  public override func setAttributes(_ change: AttributeChange) throws(Errno) {
    guard change.size == nil else { throw .EINVAL }
    state.withLock { change.apply(to: &$0.attributes) }
  }

  public override var keepsAccessTime: Bool { true }

  /// relatime: only when the last access is older than the last change, or a day (mount(8)).
  public override func touchAccessTime(_ time: FileTime) {
    state.withLock { state in
      let attributes = state.attributes
      let isStale =
        !Self.isEarlier(attributes.modifyTime, attributes.accessTime)
        || !Self.isEarlier(attributes.changeTime, attributes.accessTime)
        || time.seconds &- attributes.accessTime.seconds >= 86400
      if isStale { state.attributes.accessTime = time }
    }
  }

  private static func isEarlier(_ left: FileTime, _ right: FileTime) -> Bool {
    (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
  }

  public override func sync() throws(Errno) {}

  public override func readLink() throws(Errno) -> ByteString {
    guard kind == .symbolicLink else { throw .EINVAL }
    return state.withLock { $0.target }
  }

  // MARK: Extended attributes

  public override func extendedAttribute(_ name: ByteString) throws(Errno) -> ByteString {
    guard let value = state.withLock({ $0.extended[name] }) else { throw .ENODATA }
    return value
  }

  public override func setExtendedAttribute(_ name: ByteString, _ value: ByteString, _ mode: ExtendedAttributeMode)
    throws(Errno)
  {
    let cost = Self.cost(name, value)
    try tmpfs?.quota.takeBytes(cost)
    var unused = cost
    defer { tmpfs?.quota.giveBytes(unused) }
    try state.withLock { state throws(Errno) in
      let old = state.extended[name]
      if mode == .create, old != nil { throw .EEXIST }
      if mode == .replace, old == nil { throw .ENODATA }
      guard old != nil || state.extended.count < 128 else { throw .ENOSPC }
      state.extended[name] = value
      state.attributes.changeTime = .now()
      unused = old.map { Self.cost(name, $0) } ?? 0
    }
  }

  public override func removeExtendedAttribute(_ name: ByteString) throws(Errno) {
    let cost = try state.withLock { state throws(Errno) in
      guard let value = state.extended.removeValue(forKey: name) else { throw .ENODATA }
      state.attributes.changeTime = .now()
      return Self.cost(name, value)
    }
    tmpfs?.quota.giveBytes(cost)
  }

  public override func extendedAttributeNames() throws(Errno) -> [ByteString] {
    state.withLock { $0.extended.keys.sorted() }
  }
}
