// epoll(7). Each watched file has an item, whose entries sit in the file's wait queues for as long as it is watched. A
// wake-up of the file puts the item on the ready list; epoll_wait goes through the list and asks each file what is really there. An item
// leaves the list when its file has nothing, or has been told of for an edge: never while it is asked, so that nobody else who looks
// finds less than there is. Whatever happens to one item takes constant time, however many there are.

import DataStructures
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An epoll instance.
public final class EventPoll: OpenFile {
  private struct State {
    var items: [ItemKey: EventPollItem] = [:]
    /// Items to look at, in the order of their events.
    let ready = IntrusiveList<ReadyItems>()
    /// How many of them some epoll_wait is asking now.
    var asked = 0
  }
  struct ItemKey: Hashable {
    var descriptor: Int32
    var file: ObjectIdentifier
  }
  /// A result of epoll_wait(2).
  public struct Event: Sendable {
    public var events: UInt32
    public var data: UInt64
  }

  // Wake-ups arrive with the file's wait queue locked, so this lock is below that one.
  private let state = SpinLock(State(), rank: .eventPoll)
  /// Threads in epoll_wait, and those who watch or poll the instance itself.
  private let waiters = WaitQueue()
  private let observers = WaitQueue()
  /// Serialises epoll_ctl, which walks into files and other instances.
  private static let control = SleepLock(.pollControl)
  /// How many instances may watch the same one.
  private static var mostOuterInstances: Int { 4 }
  /// How many instances may be in each other: wake-ups and looks go through all of them, one within the other.
  private static var mostLevels: Int { 5 }
  /// Which items watch a file, so that they end with it. Guards `OpenFile.watchers`.
  private static let watchers = SpinLock((), rank: .fileSystem)

  @export(interface)
  public init(flags: OpenFlags) {
    super.init(
      path: AnonymousFiles.makePath(kind: .regular, name: "[eventpoll]"), flags: flags.union(.readWrite),
      isSeekable: false)
  }

  public override var eventPoll: EventPoll? { self }

  // MARK: epoll_ctl(2)

  /// EPOLL_CTL_ADD. The caller uses both files (`FileUse`), so neither is closed before the watch is there; a file that is
  /// closed later takes its watches away (`forget`).
  /// - Throws: EEXIST, EPERM for files that cannot be watched, EINVAL for an instance that
  ///   several watch already, ELOOP for instances that would watch each other in a circle
  ///   or more than five deep.
  @export(interface)
  public func add(_ descriptor: Int32, _ file: OpenFile, events: UInt32, data: UInt64) throws(Errno) {
    guard file.isPollable else { throw .EPERM }
    guard file !== self else { throw .EINVAL }
    // The dictionary grows under a spin lock.
    let (count, capacity) = state.withLock { ($0.items.count, $0.items.capacity) }
    try KernelMemory.admitGrowth(count: count, capacity: capacity, stride: 48)
    Self.control.acquire()
    defer { Self.control.release() }
    if let inner = file.eventPoll {
      if events & EPOLLEXCLUSIVE != 0 { throw .EINVAL }
      // The paths through instances are walked: few may lead to one (Linux: reverse_path_check).
      let outer = Self.watchers.withLock { _ in file.watchers?.count ?? 0 }
      guard outer < Self.mostOuterInstances else { throw .EINVAL }
      guard inner.depth(below: Self.mostLevels - levelsAbove, avoiding: self) else { throw .ELOOP }
    }
    let key = ItemKey(descriptor: descriptor, file: ObjectIdentifier(file))
    let item = EventPollItem(self, key, file, events: events, data: data)
    if file.watchers == nil { file.watchers = IntrusiveList() }
    try state.withLock { state throws(Errno) in
      guard state.items[key] == nil else { throw .EEXIST }
      state.items[key] = item
    }
    Self.watchers.withLock { _ in file.watchers?.append(item) }
    item.watch()
    if item.isReady { itemIsReady(item) }
  }

  /// EPOLL_CTL_MOD.
  @export(interface)
  public func modify(_ descriptor: Int32, _ file: OpenFile, events: UInt32, data: UInt64) throws(Errno) {
    Self.control.acquire()
    defer { Self.control.release() }
    guard let item = find(descriptor, file) else { throw .ENOENT }
    try state.withLock { _ throws(Errno) in
      if events & EPOLLEXCLUSIVE != 0 || item.events & EPOLLEXCLUSIVE != 0 { throw .EINVAL }
      item.events = events
      item.data = data
    }
    if item.isReady { itemIsReady(item) }
  }

  /// EPOLL_CTL_DEL.
  @export(interface)
  public func remove(_ descriptor: Int32, _ file: OpenFile) throws(Errno) {
    Self.control.acquire()
    defer { Self.control.release() }
    guard let item = find(descriptor, file) else { throw .ENOENT }
    discard(item)
  }

  private func find(_ descriptor: Int32, _ file: OpenFile) -> EventPollItem? {
    state.withLock { $0.items[ItemKey(descriptor: descriptor, file: ObjectIdentifier(file))] }
  }

  private func discard(_ item: EventPollItem) {
    // No wake-up is under way when its entries have left the queues.
    item.unwatch()
    Self.watchers.withLock { _ in item.file.watchers?.remove(item) }
    // The caller has the item: nothing is released under the lock.
    var owner: EventPoll?
    state.withLock { state in
      swap(&item.owner, &owner)
      state.items[item.key] = nil
      if item.readyLinks.isLinked {
        state.ready.remove(item)
        if item.isAsked { state.asked -= 1 }
      }
    }
  }

  /// Whether the instances below this one are at most `limit` deep and do not include `other`.
  private func depth(below limit: Int, avoiding other: EventPoll) -> Bool {
    guard self !== other, limit > 0 else { return false }
    let inner = state.withLock { state in state.items.values.compactMap { $0.file.eventPoll } }
    for poll in inner where !poll.depth(below: limit - 1, avoiding: other) { return false }
    return true
  }

  /// The longest way down to this instance through those that watch it, itself included. `control` is held.
  private var levelsAbove: Int {
    let outer = Self.watchers.withLock { _ in
      var outer: [EventPoll] = []
      watchers?.visit { item in
        if let owner = item.owner { outer.append(owner) }
        return true
      }
      return outer
    }
    return 1 + (outer.map { $0.levelsAbove }.max() ?? 0)
  }

  /// A file has been closed: no epoll watches it any more.
  static func forget(_ file: OpenFile) {
    guard file.watchers != nil else { return }
    control.acquire()
    defer { control.release() }
    while let item = watchers.withLock({ _ in file.watchers?.first }) { item.owner?.discard(item) }
  }

  // MARK: Readiness

  /// Called by entries, with a wait queue locked.
  func itemIsReady(_ item: EventPollItem) {
    let isWatched = state.withLock { state in
      guard item.owner != nil else { return false }
      item.hasNews = true
      if !item.readyLinks.isLinked { state.ready.append(item) }
      return true
    }
    // Also for an item that is listed already: its file may have had nothing at the last look.
    guard isWatched else { return }
    waiters.wakeAll()
    observers.wakeAll()
  }

  /// epoll_wait(2): up to `limit` events, waiting until `deadline` for the first.
  /// - Returns: none at the deadline.
  @export(interface)
  public func wait(limit: Int, until deadline: Instant) throws(Errno) -> [Event] {
    while true {
      let events = collect(limit)
      if !events.isEmpty || deadline <= Instant.now() { return events }
      do throws(Errno) {
        try waiters.wait(.interruptible, until: deadline) { state.withLock { $0.ready.count > $0.asked } }
      } catch {
        guard error == .ETIMEDOUT else { throw error }
        return collect(limit)
      }
    }
  }

  /// Takes what is ready now.
  private func collect(_ limit: Int) -> [Event] {
    var result: [Event] = []
    var staysReady = false
    // What stays, or comes meanwhile, is for the next call.
    var left = state.withLock { $0.ready.count }
    while left > 0, result.count < limit, let (item, events, data) = takeToAsk() {
      left -= 1
      if left & 255 == 0 { Thread.checkReschedule() }
      var found = item.file.poll().rawValue & (events | POLLERR | POLLHUP) & 0xffff
      if events & 0xffff == 0, events & EPOLLONESHOT != 0 { found = 0 }  // it has been told of
      if found != 0 { result.append(Event(events: found, data: data)) }
      let isLevel = events & (EPOLLET | EPOLLONESHOT) == 0
      state.withLock { state in
        if found != 0, events & EPOLLONESHOT != 0 { item.events &= EPOLLONESHOT | EPOLLET }
        if didAsk(item, keeps: found != 0 && isLevel, &state) { staysReady = true }
      }
    }
    // A waiter that came while the items were polled may be asleep.
    if staysReady { waiters.wakeAll() }
    return result
  }

  /// Claims the first ready item that no other thread is polling, and returns it with its event mask and data.
  private func takeToAsk() -> (EventPollItem, events: UInt32, data: UInt64)? {
    state.withLock { state in
      var next = state.ready.first
      while let item = next, item.isAsked { next = state.ready.next(after: item) }
      guard let item = next else { return nil }
      item.isAsked = true
      item.hasNews = false
      state.asked += 1
      return (item, item.events, item.data)
    }
  }

  /// The item's file has answered. An item that stays goes to the end, so that many ready files all get their turn.
  ///
  /// - Returns: whether it stays on the ready list: if `keeps`, or for an event since it was asked.
  private func didAsk(_ item: EventPollItem, keeps: Bool, _ state: inout State) -> Bool {
    item.isAsked = false
    // The watch may have ended meanwhile.
    guard item.owner != nil else { return false }
    state.asked -= 1
    state.ready.remove(item)
    guard keeps || item.hasNews else { return false }
    state.ready.append(item)
    return true
  }

  public override func poll() -> PollEvents {
    var next = state.withLock { $0.ready.first }
    var left = state.withLock { $0.ready.count }
    while left > 0, let item = next {
      if item.isReady { return .readable }
      left -= 1
      next = state.withLock { item.readyLinks.isLinked ? $0.ready.next(after: item) : $0.ready.first }
    }
    return []
  }

  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(observers) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[eventpoll]" }

  public override func close() {
    Self.control.acquire()
    defer { Self.control.release() }
    let items = state.withLock { Array($0.items.values) }
    for item in items { discard(item) }
  }
}

/// A watched file.
public final class EventPollItem {
  /// nil when the watch has ended. The instance lives as long as its items are watched: `close` ends them. Written under
  /// the lock of the instance's state.
  fileprivate(set) var owner: EventPoll?
  let key: EventPoll.ItemKey
  let file: OpenFile
  fileprivate(set) var events: UInt32
  fileprivate(set) var data: UInt64
  /// Whether an epoll_wait is asking the file, and whether there was an event since it began to.
  fileprivate var isAsked = false
  fileprivate var hasNews = false
  /// The places on the instance's ready list, and among those that watch the file.
  fileprivate var readyLinks = ListLinks<EventPollItem>()
  fileprivate var watcherLinks = ListLinks<EventPollItem>()
  private var entries: [(WaitQueue, WaitEntry)] = []
  private let account = Thread.current.account
  private static var kernelBytes: Int { 512 }

  fileprivate init(_ owner: EventPoll, _ key: EventPoll.ItemKey, _ file: OpenFile, events: UInt32, data: UInt64) {
    self.owner = owner
    self.key = key
    self.file = file
    self.events = events
    self.data = data
    account.charge(Self.kernelBytes)
  }

  deinit { account.release(Self.kernelBytes) }

  /// Whether the file has an event that is asked for.
  fileprivate var isReady: Bool {
    events & 0xffff != 0 && file.poll().rawValue & (events | POLLERR | POLLHUP) & 0xffff != 0
  }

  fileprivate func watch() {
    file.pollQueues { queue in
      let entry = EventPollEntry(self)
      entries.append((queue, entry))
      queue.add(entry)
    }
  }

  fileprivate func unwatch() {
    for (queue, entry) in entries { queue.remove(entry) }
    entries = []
  }
}

enum ReadyItems: ListMembership {
  static func links(of item: EventPollItem) -> ListLinks<EventPollItem> { item.readyLinks }
  static func setLinks(_ links: ListLinks<EventPollItem>, of item: EventPollItem) { item.readyLinks = links }
}

enum FileWatchers: ListMembership {
  static func links(of item: EventPollItem) -> ListLinks<EventPollItem> { item.watcherLinks }
  static func setLinks(_ links: ListLinks<EventPollItem>, of item: EventPollItem) { item.watcherLinks = links }
}

/// An item's place in a wait queue of its file.
private final class EventPollEntry: WaitEntry {
  private let item: EventPollItem

  init(_ item: EventPollItem) {
    self.item = item
    super.init()
  }

  override func wake() { item.owner?.itemIsReady(item) }
}
