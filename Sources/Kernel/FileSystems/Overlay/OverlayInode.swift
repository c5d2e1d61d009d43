// A file of the overlay: what the upper layer has of it, what the lower layer has, and where it is, for the copy.

import FileSystem
import KernelCore
import LinuxABI
import Synchronization
import VirtualMemory

/// A file of an overlay.
public class OverlayInode: Inode {
  /// Where a file was found, which is where its copy goes.
  struct Place {
    var parent: OverlayDirectory
    var name: ByteString
  }
  struct Layers {
    var upper: Inode?
    let lower: Inode?
    /// nil for the root and for files without a name. Only `setPlace` changes it.
    fileprivate(set) var place: Place?
    /// Names removed while the file was in the lower layer, whose link count does not change.
    var removedNames: UInt64 = 0
    /// Once there is a copy: the names that only the lower layer has.
    var lowerNames: UInt64 = 0
    /// Of a directory: subdirectories of the lower one whose names the upper one has, too; nil while that is not known.
    var hiddenDirectories: UInt64?
  }
  let layers: SpinLock<Layers>

  init(kind: FileKind, upper: Inode?, lower: Inode?, place: Place?, number: UInt64, on superblock: Superblock) {
    layers = SpinLock(Layers(upper: upper, lower: lower, place: place), rank: .inode)
    super.init(superblock: superblock, number: number, kind: kind)
    place?.parent.places.add(1, ordering: .relaxed)
  }

  deinit { layers.withLock { $0.place }?.parent.places.subtract(1, ordering: .relaxed) }

  final var overlay: OverlaySuperblock {
    guard let overlay = superblock as? OverlaySuperblock else { panic("an overlay inode on another file system") }
    return overlay
  }
  final var upper: Inode? { layers.withLock { $0.upper } }
  final var lower: Inode? { layers.withLock { $0.lower } }

  /// The file that stands for this one now.
  final var real: Inode {
    guard let real = layers.withLock({ $0.upper ?? $0.lower }) else { panic("an overlay inode without a layer") }
    return real
  }

  // MARK: Reading: whichever layer has it

  public override func attributes() throws(Errno) -> Attributes {
    let layers = layers.withLock { $0 }
    guard let real = layers.upper ?? layers.lower else { throw .EIO }
    var attributes = try real.attributes()
    attributes.number = number
    attributes.device = superblock.device
    if kind == .directory {
      if layers.upper != nil, let lower = layers.lower {
        attributes.linkCount = try joinedLinkCount(attributes.linkCount, try lower.attributes().linkCount)
      }
    } else {
      if layers.upper == nil {
        attributes.linkCount -= min(attributes.linkCount, layers.removedNames)
      } else {
        attributes.linkCount += layers.lowerNames
      }
    }
    // Flags (chattr) guard the file below, which no change here touches.
    (attributes.flags, attributes.knownFlags) = (0, 0)
    return attributes
  }

  /// The links of a directory that both layers have.
  func joinedLinkCount(_ upper: UInt64, _ lower: UInt64) throws(Errno) -> UInt64 { upper }

  public override func accessControl() throws(Errno) -> AccessControl { try real.accessControl() }
  public override func size() throws(Errno) -> UInt64 { try real.size() }
  public override func readLink() throws(Errno) -> ByteString { try real.readLink() }
  public override func sync() throws(Errno) { try upper?.sync() }

  public override var keepsAccessTime: Bool { upper?.keepsAccessTime ?? false }
  public override func touchAccessTime(_ time: FileTime) { upper?.touchAccessTime(time) }

  public override func extendedAttribute(_ name: ByteString) throws(Errno) -> ByteString {
    if OverlayMark.isPrivate(name) { throw .ENODATA }
    return try real.extendedAttribute(name)
  }

  public override func extendedAttributeNames() throws(Errno) -> [ByteString] {
    try real.extendedAttributeNames().filter { !OverlayMark.isPrivate($0) }
  }

  // MARK: Changing: in the upper layer

  public override func setAttributes(_ change: AttributeChange) throws(Errno) {
    try copyUp(keeping: change.size).setAttributes(change)
  }

  public override func setExtendedAttribute(_ name: ByteString, _ value: ByteString, _ mode: ExtendedAttributeMode)
    throws(Errno)
  {
    if OverlayMark.isPrivate(name) { throw .EPERM }
    try copyUp().setExtendedAttribute(name, value, mode)
  }

  public override func removeExtendedAttribute(_ name: ByteString) throws(Errno) {
    if OverlayMark.isPrivate(name) { throw .EPERM }
    try copyUp().removeExtendedAttribute(name)
  }

  /// A rename takes the file away from its place: from now on it must be in the upper layer.
  public override func willMove() throws(Errno) { try copyUp() }

  public override func didMove(into directory: Inode, as name: ByteString) {
    guard let parent = directory as? OverlayDirectory else { return }
    setPlace(Place(parent: parent, name: name)) { _ in true }
  }

  public override func wasReplaced(as name: ByteString, in directory: Inode) {
    guard let directory = directory as? OverlayDirectory else { return }
    // Of a file with a copy, the rename has counted the name.
    if upper == nil { didLoseLowerName() }
    didRemove(name, from: directory)
  }

  /// A name of this file has been removed. With its last name a file leaves the table of those that have several.
  final func didRemove(_ name: ByteString, from directory: OverlayDirectory) {
    setPlace(nil) { $0.place?.parent === directory && $0.place?.name == name }
    if kind != .directory, (try? attributes())?.linkCount == 0 { overlay.forget(self) }
  }

  /// A name that only the lower layer had is covered, or has got an entry in the upper layer.
  final func didLoseLowerName() {
    layers.withLock { layers in
      if layers.upper == nil {
        layers.removedNames += 1
      } else if layers.lowerNames > 0 {
        layers.lowerNames -= 1
      }
    }
  }

  /// The file has been found under a name: its copy goes there if it has lost the place where it would have gone.
  final func wasFound(_ place: Place) {
    setPlace(place) { $0.upper == nil && $0.place == nil }
  }

  /// Gives the file a new place if `condition` holds. What it had is released when no lock is held.
  private final func setPlace(_ new: Place?, if condition: (Layers) -> Bool) {
    var place = new
    place?.parent.places.add(1, ordering: .relaxed)
    layers.withLock { layers in
      if condition(layers) { swap(&layers.place, &place) }
    }
    place?.parent.places.subtract(1, ordering: .relaxed)
  }
}

/// A regular file of an overlay. Its pages are those of the layer that has it: nothing is cached twice.
///
/// As on Linux, a program that maps a file before the first write to it goes on seeing the old content.
public final class OverlayFile: OverlayInode {
  public override var memoryObject: MemoryObject? { real.memoryObject }

  public override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    if flags.allowsWriting {
      try copyUp(keeping: flags.contains(.truncate) ? 0 : nil)
    } else if let lower = layers.withLock({ $0.upper == nil ? $0.lower : nil }) {
      // The lower file system has its say: the host may refuse to read the file, or have changed it.
      _ = try lower.open(.readOnly, path: path, by: caller)
    }
    return RegularFile(path: path, flags: flags)
  }

  public override func read(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try real.read(at: offset, &buffer)
  }

  public override func write(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try copyUp().write(at: offset, &buffer)
  }

  public override func readDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try real.readDirectly(at: offset, &buffer)
  }

  public override func writeDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try copyUp().writeDirectly(at: offset, &buffer)
  }

  public override var directAlignment: UInt32? { real.directAlignment }

  public override func allocate(_ mode: AllocationMode, offset: UInt64, length: UInt64) throws(Errno) {
    try copyUp().allocate(mode, offset: offset, length: length)
  }

  public override func seek(_ target: SparseSeek, from offset: UInt64) throws(Errno) -> UInt64 {
    try real.seek(target, from: offset)
  }
}
