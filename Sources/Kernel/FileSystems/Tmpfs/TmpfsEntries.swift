// The entries of a tmpfs directory: found by name, listed in the order in which they were made. Each entry has a number
// that never changes, so that a listing can go on where it stopped while entries come and go.

import FileSystem
import KernelCore
import LinuxABI

/// The entries of a directory.
struct TmpfsEntries {
  struct Entry {
    var inode: TmpfsInode
    var cookie: UInt64
  }
  private var byName: [ByteString: Entry] = [:]
  /// Sorted by cookie. One without an inode is a removed entry, swept out when half are.
  private var order: [(cookie: UInt64, name: ByteString, inode: TmpfsInode?)] = []
  private var removed = 0
  /// Cookies up to 2 belong to "." and "..".
  private var nextCookie: UInt64 = 3

  var count: Int { byName.count }
  var isEmpty: Bool { byName.isEmpty }

  /// The bytes of the largest array that the next new entry makes, 0 when there is room.
  var growth: Int {
    // A dictionary keeps a third of its places free, and its number of places is a power of two.
    let table = byName.count >= byName.capacity ? 4 * byName.count * (MemoryLayout<ByteString>.stride + 16) : 0
    let list = order.count >= order.capacity ? 2 * order.count * 24 : 0
    return max(table, list)
  }

  func find(_ name: ByteString) -> TmpfsInode? { byName[name]?.inode }

  /// Adds an entry, or points an existing one to another inode.
  mutating func set(_ name: ByteString, _ inode: TmpfsInode) {
    if let entry = byName[name] {
      byName[name] = Entry(inode: inode, cookie: entry.cookie)
      order[position(of: entry.cookie)].inode = inode
      return
    }
    byName[name] = Entry(inode: inode, cookie: nextCookie)
    order.append((nextCookie, name, inode))
    nextCookie += 1
  }

  mutating func remove(_ name: ByteString) {
    guard let entry = byName.removeValue(forKey: name) else { return }
    order[position(of: entry.cookie)] = (entry.cookie, ByteString(), nil)
    removed += 1
    if removed > 16, removed * 2 > order.count {
      order.removeAll { $0.inode == nil }
      removed = 0
    }
  }

  /// Takes any inode out of a directory whose names nobody needs any more; nil when there is none left.
  mutating func popInode() -> TmpfsInode? {
    if !byName.isEmpty { byName = [:] }
    while let last = order.popLast() {
      if let inode = last.inode { return inode }
    }
    return nil
  }

  /// The first index whose cookie is not below `cookie`.
  private func position(of cookie: UInt64) -> Int {
    var low = 0
    var high = order.count
    while low < high {
      let middle = (low + high) / 2
      if order[middle].cookie < cookie { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Up to `limit` entries after `cookie`.
  func list(after cookie: UInt64, limit: Int) -> [DirectoryEntry] {
    var result: [DirectoryEntry] = []
    result.reserveCapacity(limit)
    var index = position(of: cookie + 1)
    while index < order.count, result.count < limit {
      let (cookie, name, inode) = order[index]
      index += 1
      guard let inode else { continue }
      result.append(DirectoryEntry(name: name, number: inode.number, kind: inode.kind, cookie: cookie, inode: inode))
    }
    return result
  }
}
