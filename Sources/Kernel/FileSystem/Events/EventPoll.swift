// epoll(7). Each watched file has an item, whose entries sit in the file's wait queues for as long as it is watched. A
// wake-up of the file puts the item on the ready list; epoll_wait takes items from the list, asks the file what is
// really there, and puts level-triggered ones back.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An epoll instance.
public final class EventPoll: OpenFile {
  private struct State {
    var items: [ItemKey: EventPollItem] = [:]
    /// Items to look at, in the order of their events.
    var ready: [EventPollItem] = []
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
  private let queue = WaitQueue()
  /// Serialises epoll_ctl, which walks into files and other instances.
  private static let control = SleepLock(.pollControl)
  /// How many instances may watch the same one.
  private static var mostOuterInstances: Int { 4 }
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
    // The dictionary and the list of ready items grow under a spin lock.
    let (count, capacity) = state.withLock { ($0.items.count, min($0.items.capacity, $0.ready.capacity)) }
    try KernelMemory.admitGrowth(count: count, capacity: capacity, stride: 48)
    Self.control.acquire()
    defer { Self.control.release() }
    if let inner = file.eventPoll {
      if events & EPOLLEXCLUSIVE != 0 { throw .EINVAL }
      // The paths through instances are walked: few may lead to one (Linux: reverse_path_check).
      guard Self.watchers.withLock({ _ in file.watchers.count }) < Self.mostOuterInstances else { throw .EINVAL }
      guard inner.depth(below: 5, avoiding: self) else { throw .ELOOP }
    }
    let key = ItemKey(descriptor: descriptor, file: ObjectIdentifier(file))
    let item = EventPollItem(self, key, file, events: events, data: data)
    try state.withLock { state throws(Errno) in
      guard state.items[key] == nil else { throw .EEXIST }
      state.items[key] = item
    }
    Self.watchers.withLock { _ in file.watchers.append(item) }
    item.watch()
    if item.isReady { itemIsReady(item) }
  }

  /// EPOLL_CTL_MOD.
  @export(interface)
  public func modify(_ descriptor: Int32, _ file: OpenFile, events: UInt32, data: UInt64) throws(Errno) {
    Self.control.acquire()
    defer { Self.control.release() }
    guard let item = find(descriptor, file) else { throw .ENOENT }
    if events & EPOLLEXCLUSIVE != 0 || item.events & EPOLLEXCLUSIVE != 0 { throw .EINVAL }
    state.withLock { _ in
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
    Self.watchers.withLock { _ in item.file.watchers.removeAll { $0 === item } }
    state.withLock { state in
      item.owner = nil
      state.items[item.key] = nil
      state.ready.removeAll { $0 === item }
    }
  }

  /// Whether the instances below this one are at most `limit` deep and do not include `other`.
  private func depth(below limit: Int, avoiding other: EventPoll) -> Bool {
    guard self !== other, limit > 0 else { return false }
    let inner = state.withLock { state in state.items.values.compactMap { $0.file.eventPoll } }
    for poll in inner where !poll.depth(below: limit - 1, avoiding: other) { return false }
    return true
  }

  /// A file has been closed for good: nobody watches it any more.
  static func forget(_ file: OpenFile) {
    guard !file.watchers.isEmpty else { return }
    control.acquire()
    defer { control.release() }
    let items = watchers.withLock { _ in file.watchers }
    for item in items { item.owner?.discard(item) }
  }

  // MARK: Readiness

  /// Called by entries, with a wait queue locked.
  func itemIsReady(_ item: EventPollItem) {
    let isNew = state.withLock { state in
      guard !item.isListed, item.owner != nil else { return false }
      item.isListed = true
      state.ready.append(item)
      return true
    }
    if isNew { queue.wakeAll() }
  }

  /// epoll_wait(2): up to `limit` events, waiting until `deadline` for the first.
  /// - Returns: none at the deadline.
  @export(interface)
  public func wait(limit: Int, until deadline: Instant) throws(Errno) -> [Event] {
    while true {
      let events = collect(limit)
      if !events.isEmpty || deadline <= Instant.now() { return events }
      do throws(Errno) {
        try queue.wait(.interruptible, until: deadline) { state.withLock { !$0.ready.isEmpty } }
      } catch {
        guard error == .ETIMEDOUT else { throw error }
        return collect(limit)
      }
    }
  }

  /// Takes what is ready now.
  private func collect(_ limit: Int) -> [Event] {
    // The candidates leave the list before their files are asked: an event from here on puts them back.
    let candidates = state.withLock { state in
      let ready = state.ready
      state.ready = []
      for item in ready { item.isListed = false }
      return ready
    }
    var result: [Event] = []
    var again: [EventPollItem] = []
    var next = 0
    while next < candidates.count, result.count < limit {
      let item = candidates[next]
      next += 1
      if next & 255 == 0 { Thread.checkReschedule() }
      let found = item.file.poll().rawValue & (item.events | POLLERR | POLLHUP) & 0xffff
      guard found != 0, item.events & 0xffff != 0 || item.events & EPOLLONESHOT == 0 else { continue }
      result.append(Event(events: found, data: item.data))
      if item.events & EPOLLONESHOT != 0 {
        state.withLock { _ in item.events &= EPOLLONESHOT | EPOLLET }
      } else if item.events & EPOLLET == 0 {
        again.append(item)
      }
    }
    // Level-triggered items go to the end, so that many ready files all get their turn.
    let rest = candidates[next...] + again
    if !rest.isEmpty {
      state.withLock { state in
        for item in rest where !item.isListed && item.owner != nil {
          item.isListed = true
          state.ready.append(item)
        }
      }
    }
    return result
  }

  public override func poll() -> PollEvents {
    let ready = state.withLock { $0.ready }
    for item in ready where item.isReady { return .readable }
    return []
  }

  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(queue) }
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
  /// Whether the item is on the ready list.
  fileprivate(set) var isListed = false
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

/// An item's place in a wait queue of its file.
private final class EventPollEntry: WaitEntry {
  private let item: EventPollItem

  init(_ item: EventPollItem) {
    self.item = item
    super.init()
  }

  override func wake() { item.owner?.itemIsReady(item) }
}
