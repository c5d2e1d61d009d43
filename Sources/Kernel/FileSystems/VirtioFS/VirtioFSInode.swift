// A file of the host. Attributes are believed for as long as the server said; when they are asked for again, a size or
// modification time that changed by other hands makes the cached pages invalid.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// A file, directory or link of a mounted directory of the host.
class VirtioFSInode: Inode {
  struct State {
    var attributes: Attributes
    var validUntil: Instant
    var entryValidUntil = Instant.distantPast
    var lookups: UInt64 = 0
    /// Our own writes changed the server's times: the next that it tells of are not a change by others.
    var expectsNewTimes = false
    /// Counts our own changes, and those under way: what the server said before or during one may not be so any more.
    var changes: UInt64 = 0
    var changesUnderWay = 0
    /// The names of the extended attributes, once the server has been asked; nil: not known.
    var extendedNames: [ByteString]?
    /// The target of a symbolic link, once the server has been asked.
    var target: ByteString?
  }

  final let node: UInt64
  final let state: SpinLock<State>
  /// For the inode table's clock; guarded by the table's lock.
  final var wasUsed = true
  final let session: FUSESession

  init(on superblock: VirtioFSSuperblock, node: UInt64, _ attributes: Attributes, valid: Validity) {
    self.node = node
    session = superblock.session
    state = SpinLock(State(attributes: attributes, validUntil: valid.until), rank: .inode)
    super.init(superblock: superblock, number: attributes.number, kind: attributes.kind)
  }

  deinit {
    // The root's look-up is not the kernel's to take back.
    let lookups = state.withLock { $0.lookups }
    if node != UInt64(LINUX_FUSE_ROOT), lookups > 0 { session.forget(node, lookups: lookups) }
  }

  final var virtioFS: VirtioFSSuperblock? { superblock as? VirtioFSSuperblock }

  /// The inode object for a file that the server described.
  /// - Throws: EIO for attributes that make no sense.
  static func make(
    on superblock: VirtioFSSuperblock, node: UInt64, _ found: linux_fuse_attributes, valid: Validity
  ) throws(Errno) -> VirtioFSInode {
    guard let attributes = Attributes(found, on: superblock) else { throw .EIO }
    switch attributes.kind {
    case .regular: return VirtioFSFile(on: superblock, node: node, attributes, valid: valid)
    case .directory: return VirtioFSDirectory(on: superblock, node: node, attributes, valid: valid)
    default: return VirtioFSInode(on: superblock, node: node, attributes, valid: valid)
    }
  }

  // MARK: Attributes

  override func attributes() throws(Errno) -> Attributes {
    if let known = state.withLock({ $0.validUntil > Instant.now() ? $0.attributes : nil }) { return known }
    try refresh()
    return state.withLock { $0.attributes }
  }

  override func accessControl() throws(Errno) -> AccessControl {
    if let known = state.withLock({ $0.validUntil > Instant.now() ? $0.attributes.accessControl : nil }) {
      return known
    }
    try refresh()
    return state.withLock { $0.attributes.accessControl }
  }

  /// Asks the server for the attributes.
  final func refresh() throws(Errno) {
    let changes = state.withLock { $0.changes }
    let found = try session.call(LINUX_FUSE_GETATTR, node, room: MemoryLayout<linux_fuse_attributes_out>.size) {
      (message) throws(Errno) in
      message.append(linux_fuse_getattr_in())
    } reply: { (message) throws(Errno) in
      try message.value(linux_fuse_attributes_out.self)
    }
    try adopt(found.attributes, valid: session.validity(found.valid, found.valid_nanoseconds), since: changes)
  }

  /// Takes over what the server told.
  ///
  /// - Parameter changes: our own changes when the server was asked. After later ones the answer says nothing about the content, and
  ///   the server is asked again.
  /// - Throws: ESTALE when it is another kind of file now.
  final func adopt(_ found: linux_fuse_attributes, valid: Validity, since changes: UInt64) throws(Errno) {
    guard let attributes = Attributes(found, on: superblock), attributes.kind == kind else { throw .ESTALE }
    let localSize = localSize
    let isChanged = state.withLock { state in
      guard state.changes == changes, state.changesUnderWay == 0 else {
        state.attributes = attributes
        state.validUntil = .distantPast
        return false
      }
      let isChanged =
        (localSize ?? attributes.size) != attributes.size
        || (state.attributes.modifyTime != attributes.modifyTime && !state.expectsNewTimes)
      // Setting an extended attribute changes the time of the last change (inode(7)). A link's target never changes,
      // but the host may have used its inode again.
      if state.attributes.changeTime != attributes.changeTime { (state.extendedNames, state.target) = (nil, nil) }
      state.attributes = attributes
      state.validUntil = valid.until
      state.expectsNewTimes = false
      return isChanged
    }
    if isChanged { contentDidChange(size: attributes.size) }
  }

  /// The size that the cached content has.
  var localSize: UInt64? { nil }

  /// The content is not what it was when pages of it were cached.
  func contentDidChange(size: UInt64) {}

  /// Counts a look-up and takes over what came with it.
  final func didLookUp(_ found: linux_fuse_attributes, valid: Validity, entryValid: Validity) {
    let changes = state.withLock { state in
      state.lookups += 1
      state.entryValidUntil = entryValid.until
      // It is not known how old the answer is: a file that we have changed is asked about again.
      return kind == .regular ? 0 : state.changes
    }
    try? adopt(found, valid: valid, since: changes)
  }

  /// What is cached of the attributes may be wrong from now on, by our own doing.
  final func attributesDidChange() {
    state.withLock { state in
      state.changes &+= 1
      state.validUntil = .distantPast
      state.expectsNewTimes = true
      state.extendedNames = nil
    }
  }

  /// Runs `body`, which changes the content.
  final func changing<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
    state.withLock { $0.changesUnderWay += 1 }
    defer {
      attributesDidChange()
      state.withLock { $0.changesUnderWay -= 1 }
    }
    return try body()
  }

  override func setAttributes(_ change: AttributeChange) throws(Errno) {
    var body = linux_fuse_setattr_in()
    if let permissions = change.permissions {
      body.valid |= LINUX_FATTR_MODE
      body.mode = kind.modeBits | permissions
    }
    if let user = change.user {
      body.valid |= LINUX_FATTR_UID
      body.user = user
    }
    if let group = change.group {
      body.valid |= LINUX_FATTR_GID
      body.group = group
    }
    if let size = change.size {
      body.valid |= LINUX_FATTR_SIZE
      body.size = size
    }
    // "Now" is the host's to set: it lets every user who may write the file do that, and does it itself when a size changes.
    let isNow = change.modifyTime == change.changeTime
    if isNow, change.accessTime == change.changeTime { body.valid |= LINUX_FATTR_ATIME_NOW | LINUX_FATTR_MTIME_NOW }
    if let time = change.accessTime {
      body.valid |= LINUX_FATTR_ATIME
      body.access_time = UInt64(bitPattern: time.seconds)
      body.access_nanoseconds = time.nanoseconds
    }
    if let time = change.modifyTime, !(isNow && change.size != nil) {
      body.valid |= LINUX_FATTR_MTIME
      body.modify_time = UInt64(bitPattern: time.seconds)
      body.modify_nanoseconds = time.nanoseconds
    }
    guard body.valid != 0 else { return }
    // What is written later would change the time again.
    if change.modifyTime != nil { try writeBack() }
    if change.size != nil { session.sizes.acquireExclusive() }
    defer { if change.size != nil { session.sizes.releaseExclusive() } }
    let request = body
    let changes = state.withLock { $0.changes }
    let found = try session.call(LINUX_FUSE_SETATTR, node, room: MemoryLayout<linux_fuse_attributes_out>.size) {
      (message) throws(Errno) in
      message.append(request)
    } reply: { (message) throws(Errno) in
      try message.value(linux_fuse_attributes_out.self)
    }
    if let size = change.size { didTruncate(to: size) }
    state.withLock { $0.expectsNewTimes = true }
    try adopt(found.attributes, valid: session.validity(found.valid, found.valid_nanoseconds), since: changes)
  }

  // MARK: Flags (ioctl_iflags(2))

  override func flags() throws(Errno) -> UInt32 { try control(FS_IOC_GETFLAGS, 0) }

  override func setFlags(_ flags: UInt32) throws(Errno) {
    defer { attributesDidChange() }
    _ = try control(FS_IOC_SETFLAGS, flags)
  }

  private final func control(_ request: UInt32, _ value: UInt32) throws(Errno) -> UInt32 {
    let head = MemoryLayout<linux_fuse_ioctl_out>.size
    return try session.call(LINUX_FUSE_IOCTL, node, room: head + 4) { (message) throws(Errno) in
      message.append(
        linux_fuse_ioctl_in(handle: 0, flags: 0, command: request, argument: 0, input_size: 4, output_size: 4))
      message.append(value)
    } reply: { (message) throws(Errno) in
      try message.value(UInt32.self, at: head)
    }
  }

  /// Sends changed pages to the server.
  func writeBack() throws(Errno) {}

  /// The server has made the file this long.
  func didTruncate(to size: UInt64) {}

  // MARK: Extended attributes (VirtioFSInode+ExtendedAttributes)

  override func extendedAttribute(_ name: ByteString) throws(Errno) -> ByteString { try readExtended(name) }
  override func extendedAttributeNames() throws(Errno) -> [ByteString] { try readExtendedNames() }
  override func setExtendedAttribute(_ name: ByteString, _ value: ByteString, _ mode: ExtendedAttributeMode)
    throws(Errno)
  { try writeExtended(name, value, mode) }
  override func removeExtendedAttribute(_ name: ByteString) throws(Errno) { try removeExtended(name) }

  // MARK: Links

  override func readLink() throws(Errno) -> ByteString {
    guard kind == .symbolicLink else { throw .EINVAL }
    if let known = state.withLock({ $0.validUntil > Instant.now() ? $0.target : nil }) { return known }
    let target = try session.call(LINUX_FUSE_READLINK, node, room: 4096) { (_) throws(Errno) in
    } reply: {
      (message) throws(Errno) in
      message.bytes
    }
    // A NUL or nothing would be no path.
    guard !target.isEmpty, !target.contains(0) else { throw .EIO }
    state.withLock { $0.target = ByteString(target) }
    return ByteString(target)
  }
}

extension Attributes {
  /// The server's attributes; nil when the mode names no kind of file.
  init?(_ found: linux_fuse_attributes, on superblock: Superblock) {
    guard let kind = FileKind(mode: found.mode) else { return nil }
    self.init(
      number: found.inode, kind: kind, permissions: found.mode & 0o7777,
      owner: Owner(user: found.user, group: found.group), device: superblock.device)
    linkCount = UInt64(found.link_count)
    // Sizes are signed in the kernel's interface.
    size = min(found.size, UInt64(Int64.max))
    blocks = found.blocks
    blockSize = found.block_size == 0 ? 4096 : UInt64(found.block_size)
    specialDevice = DeviceNumber(encoded: UInt64(found.special_device))
    accessTime = FileTime(seconds: Int64(bitPattern: found.access_time), nanoseconds: found.access_nanoseconds)
    modifyTime = FileTime(seconds: Int64(bitPattern: found.modify_time), nanoseconds: found.modify_nanoseconds)
    changeTime = FileTime(seconds: Int64(bitPattern: found.change_time), nanoseconds: found.change_nanoseconds)
    knownFlags = UInt64(LINUX_FUSE_ATTR_STATX)
    flags = UInt64(found.flags) & knownFlags
  }
}
