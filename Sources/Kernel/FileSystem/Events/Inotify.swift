// inotify(7): events about files and the entries of directories. The operations of FileTree report what they did; an inode
// without watches pays one load.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization
import VirtualMemory

/// The kinds of events, and the flags of a watch; the bits are Linux's.
public struct FileEvents: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static var access: FileEvents { FileEvents(rawValue: 0x1) }
  public static var modify: FileEvents { FileEvents(rawValue: 0x2) }
  public static var attributes: FileEvents { FileEvents(rawValue: 0x4) }
  public static var closeWrite: FileEvents { FileEvents(rawValue: 0x8) }
  public static var closeNoWrite: FileEvents { FileEvents(rawValue: 0x10) }
  public static var open: FileEvents { FileEvents(rawValue: 0x20) }
  public static var movedFrom: FileEvents { FileEvents(rawValue: 0x40) }
  public static var movedTo: FileEvents { FileEvents(rawValue: 0x80) }
  public static var create: FileEvents { FileEvents(rawValue: 0x100) }
  public static var delete: FileEvents { FileEvents(rawValue: 0x200) }
  public static var deleteSelf: FileEvents { FileEvents(rawValue: 0x400) }
  public static var moveSelf: FileEvents { FileEvents(rawValue: 0x800) }
  /// IN_ALL_EVENTS.
  public static var all: FileEvents { FileEvents(rawValue: 0xfff) }
  public static var overflow: FileEvents { FileEvents(rawValue: 0x4000) }
  /// The watch has ended (IN_IGNORED).
  public static var ignored: FileEvents { FileEvents(rawValue: 0x8000) }
  public static var onlyDirectory: FileEvents { FileEvents(rawValue: 0x0100_0000) }
  public static var dontFollow: FileEvents { FileEvents(rawValue: 0x0200_0000) }
  /// No events of entries that have been removed.
  public static var excludeUnlinked: FileEvents { FileEvents(rawValue: 0x0400_0000) }
  public static var maskCreate: FileEvents { FileEvents(rawValue: 0x1000_0000) }
  public static var maskAdd: FileEvents { FileEvents(rawValue: 0x2000_0000) }
  public static var isDirectory: FileEvents { FileEvents(rawValue: 0x4000_0000) }
  public static var oneShot: FileEvents { FileEvents(rawValue: 0x8000_0000) }
}

/// A watch that an inotify instance has on an inode.
final class InodeWatch {
  let descriptor: Int32
  let inode: Inode
  let instance: InotifyFile
  var mask: FileEvents
  private let account = Thread.current.account
  private static var kernelBytes: Int { 512 }

  init(descriptor: Int32, inode: Inode, instance: InotifyFile, mask: FileEvents) {
    self.descriptor = descriptor
    self.inode = inode
    self.instance = instance
    self.mask = mask
    account.charge(Self.kernelBytes)
  }

  deinit { account.release(Self.kernelBytes) }
}

/// An inotify instance.
public final class InotifyFile: OpenFile {
  private struct Event: Equatable {
    var watch: Int32
    var events: UInt32
    var cookie: UInt32
    var name: ByteString

    /// The size of struct inotify_event with the name, padded with at least one NUL to a multiple of 16.
    var size: Int { 16 + (name.isEmpty ? 0 : (name.count + 16) / 16 * 16) }
  }
  private struct State {
    var watches: [Int32: InodeWatch] = [:]
    var next: Int32 = 1
    var events: [Event] = []
  }
  private let state = SpinLock(State(), rank: .pipe)
  private let queue = WaitQueue()
  /// fs.inotify.max_queued_events; fewer in small memories, because the queue is one array.
  private static let queueLimit = min(16384, max(256, MemoryStatistics.snapshot().total / 16))
  /// How many watches there are in all: while there are none, nothing is reported.
  public static let watchCount = Atomic<Int>(0)
  /// fs.inotify.max_user_watches, for each instance.
  private static var watchLimit: Int { 65536 }

  @export(interface)
  public init(flags: OpenFlags) {
    super.init(
      path: AnonymousFiles.makePath(kind: .regular, name: "inotify"), flags: flags.intersection(.nonBlocking),
      isSeekable: false)
  }

  public override var inotify: InotifyFile? { self }

  /// inotify_add_watch(2).
  @export(interface)
  public func add(_ inode: Inode, _ mask: FileEvents) throws(Errno) -> Int32 {
    guard !mask.intersection(.all).isEmpty else { throw .EINVAL }
    let existing = state.withLock { state in state.watches.values.first { $0.inode === inode } }
    if let existing {
      if mask.contains(.maskCreate) { throw .EEXIST }
      existing.mask = mask.contains(.maskAdd) ? existing.mask.union(mask) : mask
      return existing.descriptor
    }
    // The dictionary grows under a spin lock.
    let (count, capacity) = state.withLock { ($0.watches.count, $0.watches.capacity) }
    try KernelMemory.admitGrowth(count: count, capacity: capacity, stride: 32)
    let watch: InodeWatch? = state.withLock { state in
      guard state.watches.count < Self.watchLimit else { return nil }
      let watch = InodeWatch(descriptor: state.next, inode: inode, instance: self, mask: mask)
      state.next += 1
      state.watches[watch.descriptor] = watch
      return watch
    }
    guard let watch else { throw .ENOSPC }
    let attachments = inode.attachments
    attachments.watches.withLock { $0.append(watch) }
    Self.watchCount.add(1, ordering: .relaxed)
    attachments.isWatched.store(true, ordering: .releasing)
    return watch.descriptor
  }

  /// inotify_rm_watch(2).
  @export(interface)
  public func remove(_ descriptor: Int32) throws(Errno) {
    let watch = state.withLock { state in state.watches.removeValue(forKey: descriptor) }
    guard let watch else { throw .EINVAL }
    detach(watch)
    post(descriptor, .ignored, cookie: 0, name: ByteString())
  }

  private func detach(_ watch: InodeWatch) {
    guard let attachments = watch.inode.attachmentsIfPresent else { return }
    Self.watchCount.subtract(1, ordering: .relaxed)
    attachments.watches.withLock { watches in
      watches.removeAll { $0 === watch }
      if watches.isEmpty { attachments.isWatched.store(false, ordering: .releasing) }
    }
  }

  /// An event for one of the instance's watches.
  func report(_ watch: InodeWatch, _ events: FileEvents, cookie: UInt32, name: ByteString) {
    post(watch.descriptor, events, cookie: cookie, name: name)
    if watch.mask.contains(.oneShot) { end(watch) }
  }

  /// The watch ends by itself.
  func end(_ watch: InodeWatch) {
    guard state.withLock({ $0.watches.removeValue(forKey: watch.descriptor) }) != nil else { return }
    detach(watch)
    post(watch.descriptor, .ignored, cookie: 0, name: ByteString())
  }

  private func post(_ watch: Int32, _ events: FileEvents, cookie: UInt32, name: ByteString) {
    let event = Event(watch: watch, events: events.rawValue, cookie: cookie, name: name)
    state.withLock { state in
      if state.events.last == event { return }
      if state.events.count < Self.queueLimit {
        state.events.append(event)
      } else if state.events.count == Self.queueLimit {
        state.events.append(
          Event(watch: -1, events: FileEvents.overflow.rawValue, cookie: 0, name: ByteString()))
      }
    }
    queue.wakeAll()
  }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    if isNonBlocking, state.withLock({ $0.events.isEmpty }) { throw .EAGAIN }
    try queue.wait { state.withLock { !$0.events.isEmpty } }
    let room = buffer.remaining
    let (taken, isTooSmall): ([Event], Bool) = state.withLock { state in
      var total = 0
      var count = 0
      for event in state.events {
        guard total + event.size <= room else { break }
        total += event.size
        count += 1
      }
      let taken = Array(state.events.prefix(count))
      state.events.removeFirst(count)
      return (taken, count == 0 && !state.events.isEmpty)
    }
    if isTooSmall { throw .EINVAL }
    var text = TextBuffer()
    for event in taken {
      let length = event.size - 16
      for word in [UInt32(bitPattern: event.watch), event.events, event.cookie, UInt32(length)] {
        for shift in 0..<4 { text.append(byte: UInt8(truncatingIfNeeded: word >> UInt32(8 * shift))) }
      }
      text.append(event.name)
      text.pad(length - event.name.count, with: 0)
    }
    let bytes = text.byteString
    try buffer.copyOut(bytes)
    return bytes.count
  }

  public override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    guard request == FIONREAD else { throw .ENOTTY }
    let total = state.withLock { $0.events.reduce(0) { $0 + $1.size } }
    try UserMemory.write(Int32(truncatingIfNeeded: total), to: argument)
    return 0
  }

  public override func poll() -> PollEvents { state.withLock { $0.events.isEmpty } ? [] : .readable }
  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(queue) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:inotify" }

  public override func close() {
    let watches = state.withLock { state in
      let watches = Array(state.watches.values)
      state.watches = [:]
      return watches
    }
    for watch in watches { detach(watch) }
  }
}

extension Inode {
  private static let nextCookie = Atomic<UInt32>(1)

  static func makeEventCookie() -> UInt32 { nextCookie.add(1, ordering: .relaxed).oldValue }

  /// Reports an event to the watches on this inode itself.
  @inline(__always)
  final func notify(
    _ events: FileEvents, name: ByteString = ByteString(), cookie: UInt32 = 0, isDirectory: Bool = false,
    isUnlinked: Bool = false
  ) {
    guard let attachments = attachmentsIfPresent, attachments.isWatched.load(ordering: .acquiring) else { return }
    notifyWatches(attachments, events, name, cookie, isDirectory, isUnlinked)
  }

  private final func notifyWatches(
    _ attachments: InodeAttachments, _ events: FileEvents, _ name: ByteString, _ cookie: UInt32, _ isDirectory: Bool,
    _ isUnlinked: Bool
  ) {
    let watches = attachments.watches.withLock { $0 }
    let told = isDirectory ? events.union(.isDirectory) : events
    for watch in watches {
      if !watch.mask.isDisjoint(with: events), !isUnlinked || !watch.mask.contains(.excludeUnlinked) {
        watch.instance.report(watch, told, cookie: cookie, name: name)
      }
      if events.contains(.deleteSelf) { watch.instance.end(watch) }
    }
  }

  /// Reports an event about this file to the watches of its directory, with its name, and then to its own.
  @inline(__always)
  final func notify(_ events: FileEvents, _ dentry: Dentry) {
    if InotifyFile.watchCount.load(ordering: .relaxed) != 0 { notifyBoth(events, dentry) }
  }

  private final func notifyBoth(_ events: FileEvents, _ dentry: Dentry) {
    let isDirectory = kind == .directory
    let (name, parent, isUnlinked) = DentryCache.place(of: dentry)
    parent?.inode?.notify(events, name: name, isDirectory: isDirectory, isUnlinked: isUnlinked)
    notify(events, isDirectory: isDirectory)
  }
}

extension OpenFile {
  /// The file has been opened for a program, by the kernel.
  @inline(__always)
  public final func didOpen() { report(.open) }

  /// A program has read from the file.
  @inline(__always)
  public final func didRead() { report(.access) }

  /// A program has written to the file.
  @inline(__always)
  public final func didWrite() { report(.modify) }

  @inline(__always)
  private final func report(_ event: FileEvents) {
    if InotifyFile.watchCount.load(ordering: .relaxed) != 0 { inode.notify(event, path.dentry) }
  }
}
