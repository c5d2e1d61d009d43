// The cached children of a directory: a hash table whose chains go through the dentries themselves, keyed by name, that is
// asked with a slice of the path being walked, so that a hit allocates nothing. It doubles as it fills.

import KernelCore

/// A link of a chain, which does not keep its dentry. Guarded by the cache's lock.
@safe struct DentryLink {
  // SAFETY: a dentry leaves the table before the cache gives up the reference that owns it.
  private var reference: Unmanaged<Dentry>?

  init(_ dentry: Dentry? = nil) { unsafe reference = dentry.map { unsafe .passUnretained($0) } }

  var dentry: Dentry? {
    @inline(__always) get { unsafe reference?.takeUnretainedValue() }
  }
}

/// A hash table of dentries. Guarded by the cache's lock; the references are the cache's (`DentryCache` owns them).
struct DentryTable {
  private var chains: [DentryLink]
  private(set) var count = 0

  private static var fewest: Int { 4 }

  init() { chains = Array(repeating: DentryLink(), count: Self.fewest) }

  /// Whether the table has grown and is empty now.
  var isOversized: Bool { count == 0 && chains.count > Self.fewest }

  /// FNV-1a over a component of a path.
  @inline(__always)
  static func hash(_ bytes: [UInt8], _ range: Range<Int>) -> UInt32 {
    var hash: UInt32 = 0x811c_9dc5
    for index in range { hash = (hash ^ UInt32(bytes[index])) &* 0x0100_0193 }
    return hash
  }

  @inline(__always)
  private func chain(_ hash: UInt32) -> Int { Int((hash ^ hash >> 15) & UInt32(chains.count - 1)) }

  /// The child whose name is `path[range]`.
  @inline(__always)
  func find(_ path: [UInt8], _ range: Range<Int>, hash: UInt32) -> Dentry? {
    var next = chains[chain(hash)].dentry
    while let entry = next {
      if entry.nameHash == hash, Self.equal(entry.name.bytes, path, range) { return entry }
      next = entry.nextInTable.dentry
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
    if count >= 2 * chains.count { grow() }
    link(dentry)
    count += 1
  }

  private mutating func link(_ dentry: Dentry) {
    let index = chain(dentry.nameHash)
    dentry.nextInTable = chains[index]
    chains[index] = DentryLink(dentry)
  }

  mutating func remove(_ dentry: Dentry) {
    let index = chain(dentry.nameHash)
    let following = dentry.nextInTable
    if chains[index].dentry === dentry {
      chains[index] = following
    } else {
      var before = chains[index].dentry
      while let entry = before, entry.nextInTable.dentry !== dentry { before = entry.nextInTable.dentry }
      guard let before else { return }
      before.nextInTable = following
    }
    dentry.nextInTable = DentryLink()
    count -= 1
  }

  private mutating func grow() {
    let old = chains
    chains = Array(repeating: DentryLink(), count: old.count * 2)
    for chain in old {
      var next = chain.dentry
      while let entry = next {
        next = entry.nextInTable.dentry
        link(entry)
      }
    }
  }
}
