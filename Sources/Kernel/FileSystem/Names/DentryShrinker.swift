// Names are remembered for speed only: when memory is short, those that nobody uses are forgotten, and with them the inodes
// that only they kept.

import PhysicalMemory

/// Gives up cached names under memory pressure.
final class DentryShrinker: Shrinker {
  /// Registers the shrinker on the first use, which is the making of the first mount namespace.
  static let isRegistered: Bool = {
    Shrinkers.register(DentryShrinker())
    return true
  }()

  /// A dentry, its name and its inode take about a quarter of a page.
  func reclaim(frames: Int) -> Int { DentryCache.shrink(frames * 4) / 4 }
}
