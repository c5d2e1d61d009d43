// What all files of a tmpfs have: attributes, extended attributes, and a symbolic link's target. Regular files and
// directories are subclasses.

import FileSystem
import KernelCore
import LinuxABI
import Synchronization

/// An inode of a tmpfs.
public class TmpfsInode: Inode {
  struct State {
    var attributes: Attributes
    var entries = TmpfsEntries()
    var target = ByteString()
    var extended: [ByteString: ByteString] = [:]
    /// Pages that the superblock has been told of.
    var chargedPages = 0
  }
  let state: SpinLock<State>

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
    var attributes = Attributes(
      number: try superblock.takeNumber(), kind: kind, permissions: permissions & 0o7777, owner: owner,
      device: superblock.device)
    attributes.linkCount = kind == .directory ? 2 : 1
    attributes.specialDevice = device
    attributes.size = UInt64(target.count)
    let now = FileTime.now()
    (attributes.accessTime, attributes.modifyTime, attributes.changeTime) = (now, now, now)
    attributes.birthTime = now
    let state = State(attributes: attributes, target: target)
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
    tmpfs.charge(-state.withLock { $0.chargedPages })
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
        || time.seconds - attributes.accessTime.seconds >= 86400
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
    try state.withLock { state throws(Errno) in
      let exists = state.extended[name] != nil
      if mode == .create, exists { throw .EEXIST }
      if mode == .replace, !exists { throw .ENODATA }
      guard exists || state.extended.count < 128 else { throw .ENOSPC }
      state.extended[name] = value
      state.attributes.changeTime = .now()
    }
  }

  public override func removeExtendedAttribute(_ name: ByteString) throws(Errno) {
    try state.withLock { state throws(Errno) in
      guard state.extended.removeValue(forKey: name) != nil else { throw .ENODATA }
      state.attributes.changeTime = .now()
    }
  }

  public override func extendedAttributeNames() throws(Errno) -> [ByteString] {
    state.withLock { $0.extended.keys.sorted() }
  }
}
