// Listing a joined directory: first what the upper directory has, then what the lower one has besides. Within the upper
// part cookies are the upper directory's; those of the lower part have bit 62 set.
//
// A program that lists a directory while its files are copied up must not miss one of them. An open directory therefore
// takes the whole list when it is read from the start, as Linux's overlayfs does.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI

extension OverlayDirectory {
  private static let lowerPart: UInt64 = 1 << 62

  func list(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    let (upper, lower) = layers.withLock { ($0.upper, $0.lower) }
    var isFull = false
    if let upper, cookie & Self.lowerPart == 0 {
      try upper.readDirectory(from: cookie) { entry in
        guard let inode = entry.inode ?? (try? upper.lookup(entry.name)), !OverlayMark.isWhiteout(inode) else {
          return true
        }
        var shown = entry
        shown.number = OverlayMark.number(ofUpper: inode)
        shown.inode = nil
        isFull = !emit(shown)
        return !isFull
      }
      if isFull { return }
    }
    guard let lower else { return }
    try lower.readDirectory(from: cookie & Self.lowerPart != 0 ? cookie & ~Self.lowerPart : 0) { entry in
      if let upper, (try? upper.lookup(entry.name)) != nil { return true }
      var shown = entry
      shown.cookie |= Self.lowerPart
      shown.inode = nil
      return emit(shown)
    }
  }

  /// Whether the directory has no entries but "." and "..".
  func isEmpty() throws(Errno) -> Bool {
    var isEmpty = true
    try list(from: 0) { _ in
      isEmpty = false
      return false
    }
    return isEmpty
  }

}

/// An open directory of two layers, with the list of its entries.
final class OverlayDirectoryFile: DirectoryFile {
  private var list = PagedList<DirectoryEntry>()

  /// Cookies are places in the list, from 3 on. Called with the position's lock held.
  override func readEntries(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    if cookie == 0 {
      var fresh = PagedList<DirectoryEntry>()
      try inode.readDirectory(from: 0) { entry in
        fresh.append(entry)
        return true
      }
      list = fresh
    }
    var index = Int(clamping: cookie == 0 ? 0 : cookie - 2)
    while index < list.count {
      var entry = list[index]
      entry.cookie = UInt64(index) + 3
      guard emit(entry) else { return }
      index += 1
    }
  }
}
