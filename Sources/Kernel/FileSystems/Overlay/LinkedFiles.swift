// Files with several names. Whatever name it is reached by, such a file is one inode: one copy in the upper layer, one lock,
// one set of watches. The table finds the inode by the file of either layer that stands for it.

import FileSystem
import KernelCore

/// The inodes of an overlay whose files have more than one name.
struct LinkedFiles {
  private var places: [ObjectIdentifier: Int] = [:]
  private var slots: [OverlayInode?] = []
  private var free: [Int] = []
  private var hand = 0
  /// Inodes beyond this are given up when nothing else refers to them.
  private static let limit = 1024

  /// Inodes that were given up; they die when no lock is held. Without memory of the heap, of which there may be hardly any.
  struct Victims {
    static let capacity = 16
    private var inodes = InlineArray<16, OverlayInode?>(repeating: nil)
    private(set) var count = 0

    mutating func append(_ inode: OverlayInode) {
      inodes[count] = inode
      count += 1
    }
  }

  /// The inode for a file of a layer.
  func find(_ file: Inode) -> OverlayInode? { places[ObjectIdentifier(file)].flatMap { slots[$0] } }

  /// Enters `inode`, or its copy in the upper layer that has been made since, unless another inode stands for the file.
  /// The table's reference keeps the files of the layers alive, so that no other object takes over their identity.
  ///
  /// - Parameter victims: what the caller releases when no lock is held.
  /// - Returns: the inode that stands for the file.
  mutating func keep(_ inode: OverlayInode, _ victims: inout Victims) -> OverlayInode {
    let files = Self.files(of: inode)
    let known = files.compactMap { places[$0] }.first
    if let known, let other = slots[known], other !== inode { return other }
    if known == nil, slots.count - free.count >= Self.limit { evict(&victims) }
    let place = known ?? free.popLast() ?? slots.count
    if place == slots.count {
      slots.append(nil)
      // Giving up memory takes none.
      free.reserveCapacity(slots.capacity)
    }
    slots[place] = inode
    for file in files { places[file] = place }
    return inode
  }

  /// Takes out an inode whose file has no name any more: deleted content does not stay for the table's sake.
  ///
  /// - Returns: the table's reference, which the caller releases when no lock is held.
  mutating func remove(_ inode: OverlayInode) -> OverlayInode? {
    let files = Self.files(of: inode)
    guard let place = files.compactMap({ places[$0] }).first, slots[place] === inode else { return nil }
    for file in files { places[file] = nil }
    slots[place] = nil
    free.append(place)
    return inode
  }

  /// The files of the layers that stand for an inode.
  private static func files(of inode: OverlayInode) -> [ObjectIdentifier] {
    inode.layers.withLock { [$0.upper, $0.lower] }.compactMap { $0 }.map { ObjectIdentifier($0) }
  }

  /// How many calls of `evict` pass over all.
  var passes: Int { slots.count / Victims.capacity + 1 }

  /// Passes over some inodes, and gives up those that nothing else refers to.
  mutating func evict(_ victims: inout Victims) {
    for _ in 0..<min(Victims.capacity, slots.count) {
      if hand >= slots.count { hand = 0 }
      let place = hand
      hand += 1
      guard slots[place] != nil, isKnownUniquelyReferenced(&slots[place]), let inode = slots[place] else { continue }
      // What the layers alone do not tell must not be forgotten.
      let (upper, lower, isKnownHereOnly) = inode.layers.withLock { layers in
        (layers.upper, layers.lower, layers.removedNames > 0 || layers.upper != nil && layers.lowerNames > 0)
      }
      if isKnownHereOnly { continue }
      if let upper { places[ObjectIdentifier(upper)] = nil }
      if let lower { places[ObjectIdentifier(lower)] = nil }
      slots[place] = nil
      free.append(place)
      victims.append(inode)
    }
  }
}
