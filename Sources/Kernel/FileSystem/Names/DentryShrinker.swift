// Names are remembered for speed only: when memory is short, those not in use are forgotten, and with them the inodes
// that only they kept.

import PhysicalMemory
import Synchronization

/// Gives up cached names under memory pressure.
final class DentryShrinker: Shrinker {
  /// Registers the shrinker on the first use, which is the making of the first mount namespace.
  static let isRegistered: Bool = {
    Shrinkers.register(DentryShrinker())
    return true
  }()

  func dropAll() { DentryCache.dropUnused() }

  /// A dentry, its name and its inode take about a quarter of a page.
  func reclaim(frames: Int) -> Int {
    let target = frames * 4 * DentryCache.pressure.load(ordering: .relaxed) / 100
    return target == 0 ? 0 : DentryCache.shrink(target) / 4
  }
}
