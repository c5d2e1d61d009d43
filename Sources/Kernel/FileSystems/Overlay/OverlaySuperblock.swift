// The overlay file system: a writable directory tree (the upper layer) over one that is never changed (the lower layer).
// A name is looked up in both; what is in the upper layer hides what is below, except that two directories of one name
// become one. Everything that changes a file of the lower layer first copies it up (CopyUp).
//
// The marks in the upper layer are those of Linux's overlayfs (Documentation/filesystems/overlayfs.rst): a character
// device 0:0 is a whiteout, "nothing here"; a directory with the attribute trusted.overlay.opaque = y hides the lower
// directory of its name instead of joining it.

import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// An overlay of two directory trees.
public final class OverlaySuperblock: Superblock {
  let upperRoot: Inode
  let lowerRoot: Inode
  /// One copy at a time: a copy may need copies of its parents, and nothing is gained by racing.
  let copyUpLock = SleepLock(.copyUp)
  /// A lock that is held for a few dictionary accesses; it sleeps because those allocate.
  private let tablesLock = SleepLock(.overlayTables)
  private var linked = LinkedFiles()
  private var isShrinker = false
  /// Directories of the upper layer that were renamed: the lower directory that each goes on being joined with. The entry
  /// holds the upper directory, so that its identity stays its own.
  private var redirects: [ObjectIdentifier: (upper: Inode, lower: Inode)] = [:]
  let options: ByteString

  /// - Parameters:
  ///   - upper: a directory of a writable file system that has O_TMPFILE, extended attributes and device files (a
  ///     tmpfs). Nobody else may change it.
  ///   - lower: a directory. Changes made behind the overlay's back show up when the dentry cache forgets a name.
  /// - Throws: ENOTDIR.
  @export(interface)
  public init(upper: Inode, lower: Inode, description: ByteString) throws(Errno) {
    guard upper.kind == .directory, lower.kind == .directory else { throw .ENOTDIR }
    upperRoot = upper
    lowerRoot = lower
    options = description
    super.init(typeName: "overlay", source: "overlay")
    setRoot(OverlayDirectory(upper: upper, lower: lower, place: nil, number: lower.number, on: self))
  }

  public override var shownOptions: ByteString { options }

  public override var shownStatistics: ByteString {
    lowerRoot.superblock.shownStatistics + upperRoot.superblock.shownStatistics
  }

  public override func statistics() throws(Errno) -> FileSystemStatistics {
    var statistics = try upperRoot.superblock.statistics()
    statistics.magic = 0x794c_7630  // OVERLAYFS_SUPER_MAGIC
    return statistics
  }

  public override func sync() throws(Errno) { try upperRoot.superblock.sync() }

  // MARK: Files with several names

  /// The inode that stands for a file of either layer already.
  func known(_ file: Inode) -> OverlayInode? {
    tablesLock.acquire()
    defer { tablesLock.release() }
    return linked.find(file)
  }

  /// Keeps an inode that is to be found by each name of its file; the one that stands for the file already, if there is one.
  @discardableResult
  func keep(_ inode: OverlayInode) -> OverlayInode {
    var victims = LinkedFiles.Victims()
    tablesLock.acquire()
    let kept = linked.keep(inode, &victims)
    let isFirst = !isShrinker
    isShrinker = true
    tablesLock.release()
    withExtendedLifetime(victims) {}
    // Behind the cache of names, which keeps the files in use.
    if isFirst { Shrinkers.register(self) }
    return kept
  }

  /// Forgets an inode whose file has no name any more.
  func forget(_ inode: OverlayInode) {
    tablesLock.acquire()
    let kept = linked.remove(inode)
    tablesLock.release()
    withExtendedLifetime(kept) {}
  }

  // MARK: Renamed directories

  /// The lower directory with which a renamed directory of the upper layer is joined.
  func redirect(of upper: Inode) -> Inode? {
    tablesLock.acquire()
    defer { tablesLock.release() }
    return redirects[ObjectIdentifier(upper)]?.lower
  }

  /// Joins a directory of the upper layer with `lower`, wherever it goes; nil: it is removed.
  func setRedirect(of upper: Inode, to lower: Inode?) {
    tablesLock.acquire()
    let old = redirects.removeValue(forKey: ObjectIdentifier(upper))
    if let lower { redirects[ObjectIdentifier(upper)] = (upper, lower) }
    tablesLock.release()
    withExtendedLifetime(old) {}
  }
}

extension OverlaySuperblock: Shrinker {
  /// Forgets files with several names that nobody uses. One of them takes about a page, with its files in the layers.
  public func reclaim(frames: Int) -> Int {
    var freed = 0
    var pass = 0
    while freed < frames {
      var victims = LinkedFiles.Victims()
      // The thread that looks for memory may hold the lock.
      guard tablesLock.tryAcquire() else { break }
      let isOver = pass >= linked.passes
      if !isOver { linked.evict(&victims) }
      tablesLock.release()
      if isOver { break }
      freed += victims.count
      pass += 1
    }
    return freed
  }

  public func dropAll() { _ = reclaim(frames: .max) }
}

/// The marks and numbers of the upper layer.
enum OverlayMark {
  static var opaque: ByteString { "trusted.overlay.opaque" }
  /// On a copied file: the number of the file that it was copied from, so that its number stays the same.
  static let origin: ByteString = "trusted.overlay.origin"
  /// Whether a name is one of the overlay's own attributes, which programs do not see.
  static func isPrivate(_ name: ByteString) -> Bool { name.hasPrefix("trusted.overlay.") }

  static func isWhiteout(_ inode: Inode) -> Bool {
    guard inode.kind == .characterDevice, let attributes = try? inode.attributes() else { return false }
    return attributes.specialDevice == .none
  }

  static func isOpaque(_ directory: Inode) -> Bool {
    (try? directory.extendedAttribute(opaque)) == ByteString("y")
  }

  /// The number that the overlay shows for a file of the upper layer: that of its origin, or one that no file of the
  /// lower layer has.
  static func number(ofUpper inode: Inode) -> UInt64 {
    if let origin = (try? inode.extendedAttribute(origin))?.decimal() { return origin }
    return 1 << 48 | inode.number
  }
}

extension Inode {
  /// The entry of that name, nil when there is none.
  func entry(_ name: ByteString) throws(Errno) -> Inode? {
    do throws(Errno) {
      return try lookup(name)
    } catch .ENOENT {
      return nil
    }
  }
}
