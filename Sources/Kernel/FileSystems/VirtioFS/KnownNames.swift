// What a directory remembers of its names besides the dentry cache: the entries of listings, which nobody has looked up
// yet, and names that were absent.

import FileSystem
import KernelCore
import LinuxABI
import Synchronization

/// Names of a directory, as the server told of them.
struct KnownNames {
  enum Name: Equatable {
    case absent
    case node(UInt64)
  }
  private var known: [ByteString: (name: Name, until: Instant)] = [:]
  /// `DentryCache.drops` when they were noted.
  private var drops: UInt64 = 0
  /// Changes with each change of the directory: an answer to a request from before is not noted.
  private(set) var version: UInt64 = 0
  private(set) var wereListed = false
  /// More than this are not kept: a directory so large is not looked at entry by entry.
  private static var limit: Int { 1024 }

  func find(_ name: ByteString) -> Name? {
    guard let found = known[name], found.until > Instant.now(), !areDropped else { return nil }
    return found.name
  }

  mutating func note(_ name: ByteString, _ what: Name, _ valid: Validity, ifStill version: UInt64) {
    guard version == self.version else { return }
    if known.count >= Self.limit || areDropped { known = [:] }
    drops = DentryCache.drops.load(ordering: .relaxed)
    known[name] = (what, valid.until)
  }

  private var areDropped: Bool { drops != DentryCache.drops.load(ordering: .relaxed) }

  mutating func beginListing() { wereListed = true }

  mutating func forgetAll() {
    version += 1
    if !known.isEmpty { known = [:] }
  }
}

/// Whether listings should bring attributes along: when, lately, at least half of the listed entries were looked up.
final class ListingPolicy {
  private struct Counts {
    var listed = 0
    var lookedUp = 0
  }
  private let counts = SpinLock(Counts(), rank: .device)
  private let answer = Atomic<Bool>(false)
  /// So many entries are remembered, the older ones half as much.
  private static var window: Int { 256 }

  var wantsAttributes: Bool { answer.load(ordering: .relaxed) }

  func didList(_ entries: Int) {
    counts.withLock { counts in
      counts.listed += entries
      decide(&counts)
    }
  }

  func didLookUp() {
    counts.withLock { counts in
      counts.lookedUp += 1
      decide(&counts)
    }
  }

  private func decide(_ counts: inout Counts) {
    answer.store(counts.listed >= 16 && counts.lookedUp * 2 >= counts.listed, ordering: .relaxed)
    if counts.listed > Self.window {
      counts.listed /= 2
      counts.lookedUp /= 2
    }
  }
}
