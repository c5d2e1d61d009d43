// A directory of the overlay. The VFS holds the directory's lock during all of these operations but `readDirectory`; the
// same lock therefore guards the upper directory, which nobody else changes.

import FileSystem
import KernelCore
import LinuxABI
import Synchronization

/// A directory of an overlay: an upper directory, a lower one, or both joined.
public final class OverlayDirectory: OverlayInode {
  /// How many files have their place here.
  let places = Atomic<Int>(0)
  /// Those files are copied up by way of this inode: no other may come to stand for the directory meanwhile.
  public override var dependents: Int { places.load(ordering: .relaxed) }

  init(upper: Inode?, lower: Inode?, place: Place?, number: UInt64, on superblock: Superblock) {
    super.init(kind: .directory, upper: upper, lower: lower, place: place, number: number, on: superblock)
  }

  // MARK: Links

  /// Two, and one for each subdirectory that is seen. A lower file system that does not count them says 1, and so does this.
  override func joinedLinkCount(_ upper: UInt64, _ lower: UInt64) throws(Errno) -> UInt64 {
    guard upper >= 2, lower >= 2 else { return min(upper, 1) }
    let known = layers.withLock { $0.hiddenDirectories }
    let hidden = if let known { known } else { try countHidden() }
    return max(2, upper + lower - 2 - min(hidden, lower - 2))
  }

  private func countHidden() throws(Errno) -> UInt64 {
    let (upper, lower) = layers.withLock { ($0.upper, $0.lower) }
    guard let upper, let lower else { return 0 }
    var names: [ByteString] = []
    try upper.readDirectory(from: 0) { entry in
      names.append(entry.name)
      return true
    }
    var count: UInt64 = 0
    for name in names where try lower.entry(name)?.kind == .directory { count += 1 }
    layers.withLock { $0.hiddenDirectories = count }
    return count
  }

  /// A subdirectory that only the lower directory had may have been copied up, or covered.
  func didHideDirectory() { layers.withLock { $0.hiddenDirectories = nil } }

  // MARK: Listing

  public override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    try list(from: cookie, emit)
  }

  public override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    lower == nil ? DirectoryFile(path: path, flags: flags) : OverlayDirectoryFile(path: path, flags: flags)
  }

  // MARK: Finding

  public override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    let (upper, lower) = layers.withLock { ($0.upper, $0.lower) }
    let place = Place(parent: self, name: name)
    if let found = try upper?.entry(name) {
      if OverlayMark.isWhiteout(found) { throw .ENOENT }
      if found.kind != .directory { return try file(found, place, number: OverlayMark.number(ofUpper: found)) }
      let below = try lowerPart(of: found, name, beneath: lower)
      return make(upper: found, lower: below, place, number: below?.number ?? OverlayMark.number(ofUpper: found))
    }
    guard let found = try lower?.entry(name) else { throw .ENOENT }
    if found.kind != .directory { return try file(found, place, number: found.number) }
    return make(upper: nil, lower: found, place, number: found.number)
  }

  /// The lower directory that is joined with a directory of the upper layer.
  private func lowerPart(of upper: Inode, _ name: ByteString, beneath lower: Inode?) throws(Errno) -> Inode? {
    if let redirected = overlay.redirect(of: upper) { return redirected }
    guard !OverlayMark.isOpaque(upper), let below = try lower?.entry(name), below.kind == .directory else { return nil }
    return below
  }

  /// The inode of a file that was found in a layer: the one that stands for it already, if it has several names.
  private func file(_ found: Inode, _ place: Place, number: UInt64) throws(Errno) -> Inode {
    if let known = overlay.known(found) {
      known.wasFound(place)
      return known
    }
    let isBelow = found.superblock !== overlay.upperRoot.superblock
    let inode = make(upper: isBelow ? nil : found, lower: isBelow ? found : nil, place, number: number)
    return try found.attributes().linkCount > 1 ? overlay.keep(inode) : inode
  }

  private func make(upper: Inode?, lower: Inode?, _ place: Place?, number: UInt64) -> OverlayInode {
    guard let kind = (upper ?? lower)?.kind else { panic("an overlay inode without a layer") }
    return switch kind {
    case .directory: OverlayDirectory(upper: upper, lower: lower, place: place, number: number, on: superblock)
    case .regular:
      OverlayFile(kind: kind, upper: upper, lower: lower, place: place, number: number, on: superblock)
    default: OverlayInode(kind: kind, upper: upper, lower: lower, place: place, number: number, on: superblock)
    }
  }

  /// Whether the lower layer has an entry of that name, which a removal must cover.
  private func lowerHas(_ name: ByteString) throws(Errno) -> Bool { try lower?.entry(name) != nil }

  // MARK: Creating

  public override func create(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    try add(name) { upper throws(Errno) in try upper.create(name, permissions: permissions, owner: owner) }
  }

  public override func makeDirectory(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    let hides = try lowerHas(name)
    return try add(name) { upper throws(Errno) in
      let directory = try upper.makeDirectory(name, permissions: permissions, owner: owner)
      if hides { try directory.setExtendedAttribute(OverlayMark.opaque, "y", .createOrReplace) }
      return directory
    }
  }

  public override func makeNode(
    _ name: ByteString, kind: FileKind, permissions: UInt32, device: DeviceNumber, owner: Owner
  ) throws(Errno) -> Inode {
    // It would be a whiteout.
    if kind == .characterDevice, device == .none { throw .EPERM }
    return try add(name) { upper throws(Errno) in
      try upper.makeNode(name, kind: kind, permissions: permissions, device: device, owner: owner)
    }
  }

  public override func makeSymbolicLink(_ name: ByteString, target: ByteString, owner: Owner) throws(Errno) -> Inode {
    try add(name) { upper throws(Errno) in try upper.makeSymbolicLink(name, target: target, owner: owner) }
  }

  public override func makeTemporary(permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    let file = try copyUp().makeTemporary(permissions: permissions, owner: owner)
    return make(upper: file, lower: nil, nil, number: OverlayMark.number(ofUpper: file))
  }

  public override func link(_ inode: Inode, as name: ByteString) throws(Errno) {
    guard let file = inode as? OverlayInode, file.superblock === superblock else { throw .EXDEV }
    let source = try file.copyUp()
    try replacingWhiteout(name) { upper throws(Errno) in try upper.link(source, as: name) }
    file.didMove(into: self, as: name)
    overlay.keep(file)
  }

  private func add(_ name: ByteString, _ create: (Inode) throws(Errno) -> Inode) throws(Errno) -> Inode {
    let upper = try replacingWhiteout(name, create)
    return make(
      upper: upper, lower: nil, Place(parent: self, name: name), number: OverlayMark.number(ofUpper: upper))
  }

  /// Runs `body` on the upper directory without the whiteout of that name; if it fails the whiteout comes back.
  private func replacingWhiteout<Result>(
    _ name: ByteString, _ body: (Inode) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let upper = try copyUp()
    let whiteout = try upper.entry(name)
    if let whiteout { try upper.unlink(name, whiteout) }
    do throws(Errno) {
      return try body(upper)
    } catch {
      if whiteout != nil { try cover(name, in: upper) }
      throw error
    }
  }

  private func cover(_ name: ByteString, in upper: Inode) throws(Errno) {
    _ = try upper.makeNode(name, kind: .characterDevice, permissions: 0, device: .none, owner: .root)
  }

  // MARK: Removing

  public override func unlink(_ name: ByteString, _ inode: Inode) throws(Errno) {
    guard let file = inode as? OverlayInode else { throw .EIO }
    let upper = try copyUp()
    let hides = try lowerHas(name)
    if let entry = try upper.entry(name) {
      try upper.unlink(name, entry)
    } else {
      file.didLoseLowerName()
    }
    if hides { try cover(name, in: upper) }
    file.didRemove(name, from: self)
  }

  public override func removeDirectory(_ name: ByteString, _ inode: Inode) throws(Errno) {
    guard let directory = inode as? OverlayDirectory else { throw .EIO }
    guard try directory.isEmpty() else { throw .ENOTEMPTY }
    let upper = try copyUp()
    let hides = try lowerHas(name)
    if let entry = directory.upper {
      try directory.removeWhiteouts()
      try upper.removeDirectory(name, entry)
      overlay.setRedirect(of: entry, to: nil)
    }
    if hides { try cover(name, in: upper) }
    didHideDirectory()
    directory.didRemove(name, from: self)
  }

  private func removeWhiteouts() throws(Errno) {
    guard let upper else { return }
    var names: [ByteString] = []
    try upper.readDirectory(from: 0) { entry in
      names.append(entry.name)
      return true
    }
    for name in names {
      guard let whiteout = try upper.entry(name) else { continue }
      try upper.unlink(name, whiteout)
    }
  }

  // MARK: Moving

  public override func rename(_ name: ByteString, into directory: Inode, as newName: ByteString, _ flags: RenameFlags)
    throws(Errno)
  {
    guard let target = directory as? OverlayDirectory, target.superblock === superblock else { throw .EXDEV }
    guard !flags.contains(.whiteout) else { throw .EINVAL }
    let (fromUpper, toUpper) = (try copyUp(), try target.copyUp())
    let source = try bringUp(name)
    let (hidesSource, hidesTarget) = (try lowerHas(name), try target.lowerHas(newName))
    var upperFlags = flags
    if flags.contains(.exchange) {
      let other = try target.bringUp(newName)
      if other.kind == .directory { try target.detach(other, newName, over: hidesSource) }
    } else {
      try target.prepareReplacing(newName)
      if hidesSource { upperFlags.insert(.whiteout) }
    }
    if source.kind == .directory { try detach(source, name, over: hidesTarget) }
    try fromUpper.rename(name, into: toUpper, as: newName, upperFlags)
  }

  /// The upper layer's entry for a name, made if a file with several names has none under this one yet.
  private func bringUp(_ name: ByteString) throws(Errno) -> Inode {
    let upper = try copyUp()
    if let entry = try upper.entry(name) { return entry }
    guard let file = try lookup(name) as? OverlayInode else { throw .EIO }
    let copy = try file.copyUp()
    if let entry = try upper.entry(name) { return entry }
    try upper.link(copy, as: name)
    file.didLoseLowerName()
    return copy
  }

  /// A directory of the upper layer leaves this one: it stays joined with what it is joined with now, and with nothing that
  /// the lower layer has in its new place.
  private func detach(_ entry: Inode, _ name: ByteString, over hidesPlace: Bool) throws(Errno) {
    if let below = try lowerPart(of: entry, name, beneath: lower) { overlay.setRedirect(of: entry, to: below) }
    if hidesPlace { try makeOpaque(entry) }
  }

  private func makeOpaque(_ directory: Inode) throws(Errno) {
    try directory.setExtendedAttribute(OverlayMark.opaque, "y", .createOrReplace)
  }

  /// Prepares for a rename over `name`: counts a name that only the lower layer has, and takes an empty directory out of the
  /// upper layer, whose own rename knows nothing of whiteouts.
  private func prepareReplacing(_ name: ByteString) throws(Errno) {
    guard let replaced = try entry(name) as? OverlayInode else { return }
    let upper = try copyUp()
    guard let directory = replaced as? OverlayDirectory else {
      if replaced.upper != nil, try upper.entry(name) == nil { replaced.didLoseLowerName() }
      return
    }
    guard try directory.isEmpty() else { throw .ENOTEMPTY }
    guard let entry = directory.upper else { return didHideDirectory() }
    try directory.removeWhiteouts()
    try upper.removeDirectory(name, entry)
    overlay.setRedirect(of: entry, to: nil)
    if try lowerHas(name) { try cover(name, in: upper) }
  }
}
