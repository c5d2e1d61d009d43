// The cached children of a directory: a hash table with chaining in arrays, keyed by name, that is asked with a slice of
// the path being walked, so that a hit allocates nothing. It doubles as it fills.

import KernelCore

/// A hash table of dentries. Guarded by the cache's lock; the references are the cache's (`DentryCache` owns them).
@safe struct DentryTable {
  // SAFETY: a dentry leaves the table before the cache gives up the reference that owns it.
  private var buckets: [[Unmanaged<Dentry>]]
  private(set) var count = 0

  init() { unsafe buckets = Array(repeating: [], count: 4) }

  /// FNV-1a over a component of a path.
  @inline(__always)
  static func hash(_ bytes: [UInt8], _ range: Range<Int>) -> UInt32 {
    var hash: UInt32 = 0x811c_9dc5
    for index in range { hash = (hash ^ UInt32(bytes[index])) &* 0x0100_0193 }
    return hash
  }

  @inline(__always)
  private func bucket(_ hash: UInt32) -> Int { unsafe Int((hash ^ hash >> 15) & UInt32(buckets.count - 1)) }

  /// The child whose name is `path[range]`.
  @inline(__always)
  func find(_ path: [UInt8], _ range: Range<Int>, hash: UInt32) -> Dentry? {
    let index = bucket(hash)
    for position in unsafe buckets[index].indices {
      let entry = unsafe buckets[index][position]
      let found = unsafe entry._withUnsafeGuaranteedRef {
        $0.nameHash == hash && Self.equal($0.name.bytes, path, range)
      }
      if found { return unsafe entry.takeUnretainedValue() }
    }
    return nil
  }

  @inline(__always)
  private static func equal(_ name: [UInt8], _ path: [UInt8], _ range: Range<Int>) -> Bool {
    guard name.count == range.count else { return false }
    var index = range.lowerBound
    for byte in name {
      if byte != path[index] { return false }
      index += 1
    }
    return true
  }

  mutating func insert(_ dentry: Dentry) {
    if unsafe count >= 2 * buckets.count { grow() }
    unsafe buckets[bucket(dentry.nameHash)].append(.passUnretained(dentry))
    count += 1
  }

  mutating func remove(_ dentry: Dentry) {
    let index = bucket(dentry.nameHash)
    guard
      let position = unsafe buckets[index].firstIndex(where: {
        unsafe $0.toOpaque() == Unmanaged.passUnretained(dentry).toOpaque()
      })
    else { return }
    unsafe buckets[index].remove(at: position)
    count -= 1
  }

  private mutating func grow() {
    let old = unsafe buckets
    unsafe buckets = Array(repeating: [], count: old.count * 2)
    for chain in unsafe old.indices {
      for position in unsafe old[chain].indices {
        let entry = unsafe old[chain][position]
        let hash = unsafe entry._withUnsafeGuaranteedRef { $0.nameHash }
        unsafe buckets[bucket(hash)].append(entry)
      }
    }
  }
}
