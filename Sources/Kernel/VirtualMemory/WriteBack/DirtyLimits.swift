// How much may be dirty, and since when: /proc/sys/vm/dirty_* (Linux: Documentation/admin-guide/sysctl/vm.rst).
//
//     dirty pages   0 ──────────── background ────────── middle ────────── limit
//                        nothing        │     the flusher writes               │  writers wait until the middle
//
// A share of the memory that could be dirty (free memory and pages of files), or a number of bytes: what was set last
// counts, and the other is 0. The levels are recomputed now and then, not for each page.

import KernelCore
import PhysicalMemory
import Synchronization

/// The parameters of write-back.
public enum DirtyLimits {
  private static let limitParameter = Parameter(ratio: 20)
  private static let backgroundParameter = Parameter(ratio: 10)
  private static let intervalValue = Atomic<Int>(500)
  private static let expiryValue = Atomic<Int>(3000)

  /// Writers wait beyond it: percent, or bytes.
  public static var ratio: Int {
    @export(interface) get { limitParameter.ratio.load(ordering: .relaxed) }
    @export(interface) set { limitParameter.set(ratio: newValue, bytes: 0) }
  }
  public static var bytes: Int {
    @export(interface) get { limitParameter.bytes.load(ordering: .relaxed) }
    @export(interface) set { limitParameter.set(ratio: 0, bytes: newValue) }
  }
  /// The flusher begins beyond it: percent, or bytes.
  public static var backgroundRatio: Int {
    @export(interface) get { backgroundParameter.ratio.load(ordering: .relaxed) }
    @export(interface) set { backgroundParameter.set(ratio: newValue, bytes: 0) }
  }
  public static var backgroundBytes: Int {
    @export(interface) get { backgroundParameter.bytes.load(ordering: .relaxed) }
    @export(interface) set { backgroundParameter.set(ratio: 0, bytes: newValue) }
  }
  /// How often the flusher looks for old pages while something is dirty, in hundredths of a second; 0: never.
  public static var interval: Int {
    @export(interface) get { intervalValue.load(ordering: .relaxed) }
    @export(interface) set {
      intervalValue.store(newValue, ordering: .relaxed)
      lookAgain()
    }
  }
  /// The age at which a page is old, in hundredths of a second.
  public static var expiry: Int {
    @export(interface) get { expiryValue.load(ordering: .relaxed) }
    @export(interface) set {
      expiryValue.store(newValue, ordering: .relaxed)
      lookAgain()
    }
  }

  /// A share or an amount; the one that is not 0 counts.
  private struct Parameter: ~Copyable {
    let ratio: Atomic<Int>
    let bytes = Atomic<Int>(0)

    init(ratio: Int) { self.ratio = Atomic(ratio) }

    func set(ratio: Int, bytes: Int) {
      self.bytes.store(bytes, ordering: .relaxed)
      self.ratio.store(ratio, ordering: .relaxed)
      lookAgain()
    }

    func pages(of dirtyable: Int) -> Int {
      let bytes = bytes.load(ordering: .relaxed)
      if bytes > 0 { return (bytes - 1) / Int(pageSize) + 1 }
      return dirtyable * ratio.load(ordering: .relaxed) / 100
    }
  }

  /// In pages.
  public struct Levels: Equatable, Sendable {
    public var background: Int
    public var limit: Int
    /// How far the level falls while writers wait: so that they do not wait again for each page.
    var middle: Int { (background + limit) / 2 }
  }

  /// The levels that hold for memory as it is now.
  @export(interface)
  public static func levels() -> Levels {
    let frames = MemoryStatistics.snapshot()
    let files = PageLists.count(.inactiveFile) + PageLists.count(.activeFile)
    return levels(dirtyable: max(0, frames.free - frames.minimum - frames.setAside) + files)
  }

  static func levels(dirtyable: Int) -> Levels {
    let limit = max(2, limitParameter.pages(of: dirtyable))
    let background = backgroundParameter.pages(of: dirtyable)
    return Levels(background: background >= limit ? limit / 2 : background, limit: limit)
  }

  // MARK: Noticing

  /// The number of dirty pages at which the levels are worked out next.
  private static let nextLook = Atomic<Int>(0)
  /// The limit when the levels were worked out last.
  private static let limit = Atomic<Int>(0)

  /// Pages that are not stored yet: dirty, or in flight.
  static var unstored: Int {
    @inline(__always) get {
      Counters.dirtyPages.load(ordering: .relaxed) &+ Counters.writeBackPages.load(ordering: .relaxed)
    }
  }

  /// Whether writers have to wait, as far as is known without working it out.
  static var isReached: Bool { @inline(__always) get { unstored > limit.load(ordering: .relaxed) } }

  /// A page became dirty. Callable with locks held.
  @inline(__always)
  static func didDirty() {
    Counters.add(1, to: Counters.dirtied)
    let dirty = Counters.dirtyPages.add(1, ordering: .relaxed).newValue
    if dirty >= nextLook.load(ordering: .relaxed) { look(dirty) }
  }

  @inline(never)
  private static func look(_ dirty: Int) {
    let levels = refresh()
    // Soon again beyond the level, for the flusher may have stopped; before it in time.
    let step = dirty > levels.background ? (levels.limit - levels.background) / 8 : (levels.background - dirty) / 2
    nextLook.store(dirty + max(16, step), ordering: .relaxed)
    if dirty > levels.background { Flusher.wake() }
  }

  /// Works the levels out.
  @discardableResult
  static func refresh() -> Levels {
    let levels = levels()
    limit.store(levels.limit, ordering: .relaxed)
    return levels
  }

  /// A parameter changed.
  private static func lookAgain() {
    refresh()
    nextLook.store(0, ordering: .relaxed)
    Flusher.wake()
  }

  /// The flusher rests: the next page that becomes dirty makes us look.
  static func flusherRests() { nextLook.store(0, ordering: .relaxed) }
}
