// The flusher: a thread that writes dirty pages before anybody has to wait for them.
//
//     over the background level ─┐
//     older than the expiry ─────┼─▶ flusher ──▶ objects in turn ──▶ runs of pages ──▶ stores
//     wanted by reclaim ─────────┘      │
//                                       └──▶ wakes writers that wait, and those who need memory
//
// It takes objects from the list of dirty ones and writes a part of each in turn. While nothing is dirty it sleeps without a
// timer. It waits only for stores, takes no sleeping lock, and needs no memory: so a thread that waits for it may
// hold any sleeping lock but those of stores. A page that cannot be written is given up: it counts as clean, every open
// file of the object will learn of the error (`WriteErrors`), and no thread waits for it in vain.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// The thread that writes dirty pages.
public enum Flusher {
  private static let queue = WaitQueue()
  /// Those who wait for pages to become clean.
  private static let progress = WaitQueue()
  private static let isStarted = Atomic<Bool>(false)
  private static let isWanted = Atomic<Bool>(false)
  /// Whether it looks again by itself: set by the first page that becomes dirty.
  private static let isArmed = Atomic<Bool>(false)
  /// How many pages reclaim would like to be clean.
  private static let requested = Atomic<Int>(0)
  /// What it writes of an object in one turn, in pages: 1 MiB.
  private static var turn: Int { 256 }

  /// Starts the thread. Called once, at boot.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public static func start() throws(Errno) {
    try Thread.spawn(name: "flush") { run() }
    isStarted.store(true, ordering: .releasing)
    DirtyObjects.isInUse.store(true, ordering: .releasing)
  }

  private static func run() {
    var deadline = Instant.never
    while true {
      // Ends at the deadline too.
      try? queue.wait(.uninterruptible, until: deadline) { isWanted.load(ordering: .acquiring) }
      isWanted.store(false, ordering: .relaxed)
      work()
      deadline = nextLook()
    }
  }

  /// When it looks by itself.
  private static func nextLook() -> Instant {
    if DirtyObjects.count == 0 {
      isArmed.store(false, ordering: .sequentiallyConsistent)
      // An object may have become dirty in between; if one does from here on, it arms us.
      if DirtyObjects.count == 0 { return .never }
      isArmed.store(true, ordering: .relaxed)
    }
    let interval = DirtyLimits.interval
    return interval == 0 ? .never : Instant.now().advanced(byNanoseconds: hundredths(interval))
  }

  private static func hundredths(_ count: Int) -> UInt64 { UInt64(clamping: count) &* 10_000_000 }

  // MARK: Asking for work. All of it is callable with spin locks held.

  /// Something is dirty that was not: from now on it looks by itself.
  static func arm() {
    if isArmed.load(ordering: .relaxed) || isArmed.exchange(true, ordering: .sequentiallyConsistent) { return }
    wake()
  }

  static func wake() {
    guard isStarted.load(ordering: .acquiring), !isWanted.exchange(true, ordering: .acquiringAndReleasing) else {
      return
    }
    queue.wakeAll()
  }

  /// Reclaim met dirty pages: it would like so many to be clean.
  static func request(pages: Int) {
    requested.max(pages, ordering: .relaxed)
    wake()
  }

  // MARK: Work

  /// Writes what is due.
  static func work() {
    let expiry = hundredths(DirtyLimits.expiry)
    let now = Instant.now()
    let horizon = now.nanoseconds > expiry ? Instant(nanoseconds: now.nanoseconds - expiry) : .distantPast
    // Turns in a row that brought nothing: others are writing, or the store has no memory.
    var vain = 0
    while vain <= DirtyObjects.count {
      let levels = DirtyLimits.refresh()
      let isMuch =
        Counters.dirtyPages.load(ordering: .relaxed) > levels.background
        || requested.load(ordering: .relaxed) > 0
      guard let entry = isMuch ? DirtyObjects.takeTurn() : DirtyObjects.takeExpired(before: horizon) else { break }
      let cleaned = entry.object.flush(limit: isMuch ? turn : .max)
      requested.store(max(0, requested.load(ordering: .relaxed) - cleaned), ordering: .relaxed)
      vain = cleaned > 0 ? 0 : vain + 1
      progress.wakeAll()
      Thread.checkReschedule()
    }
    requested.store(0, ordering: .relaxed)
    DirtyLimits.flusherRests()
    progress.wakeAll()
  }

  // MARK: Waiting for it

  /// For those who made pages dirty: waits while too many are.
  @inline(__always)
  static func throttleWriter() {
    if DirtyLimits.isReached { waitForRoom() }
  }

  /// - Locks: sleeps. Not for long: a store that does not answer holds up nobody for more than two seconds.
  @inline(never)
  private static func waitForRoom() {
    guard isStarted.load(ordering: .acquiring) else { return }
    let levels = DirtyLimits.refresh()
    guard DirtyLimits.unstored > levels.limit else { return }
    Counters.add(1, to: Counters.throttled)
    let deadline = Instant.now().advanced(byNanoseconds: 2_000_000_000)
    wake()
    try? progress.wait(.killable, until: deadline) { DirtyLimits.unstored <= levels.middle }
  }

  /// Has everything written that is dirty now, as far as stores answer within seconds: the machine is about to stop.
  ///
  /// - Locks: sleeps.
  @export(interface)
  public static func finish() {
    let amount = DirtyLimits.unstored
    guard isStarted.load(ordering: .acquiring), amount > 0 else { return }
    let before = Counters.cleaned.load(ordering: .relaxed)
    request(pages: amount)
    try? progress.wait(.uninterruptible, until: Instant.now().advanced(byNanoseconds: 5_000_000_000)) {
      DirtyLimits.unstored == 0 || Counters.cleaned.load(ordering: .relaxed) - before >= amount
    }
  }

  /// For those who need memory and found only dirty pages: waits until some of them are clean.
  ///
  /// - Returns: whether some are.
  /// - Locks: sleeps, a fifth of a second at most.
  static func relieve() -> Bool {
    guard isStarted.load(ordering: .acquiring), DirtyLimits.unstored > 0 else { return false }
    let before = Counters.cleaned.load(ordering: .relaxed)
    func isRelieved() -> Bool { Counters.cleaned.load(ordering: .relaxed) != before }
    request(pages: turn)
    try? progress.wait(.killable, until: Instant.now().advanced(byNanoseconds: 200_000_000)) { isRelieved() }
    return isRelieved()
  }
}
