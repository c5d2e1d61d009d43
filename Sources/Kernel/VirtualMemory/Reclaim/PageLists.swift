// The lists of pages that could leave memory, oldest last: in each node an active and an inactive one for each of anonymous
// memory and files. The links lie in the frames' descriptors. A list has no reference to its frames: one that is freed leaves its list on
// the way, and one that is taken off for inspection is retained, unless its end has begun.
//
// The lock is nearly the last in the order of ranks: frames are freed under most others.

import KernelCore
import PhysicalMemory
import Synchronization

/// Which list.
enum PageList: Int {
  case inactiveAnonymous, activeAnonymous, inactiveFile, activeFile

  var isActive: Bool { rawValue & 1 != 0 }
  var isFile: Bool { rawValue & 2 != 0 }

  static func list(isFile: Bool, isActive: Bool) -> PageList {
    if isFile { return isActive ? .activeFile : .inactiveFile }
    return isActive ? .activeAnonymous : .inactiveAnonymous
  }
}

/// Frames that were taken off their lists to be looked at, with `Frames.inspectionBias` references each.
struct PageBatch: ~Copyable {
  static var capacity: Int { 32 }
  private(set) var count = 0
  private var frames = InlineArray<32, PageFrameNumber>(repeating: PageFrameNumber(0))

  init() {}

  var isFull: Bool { count == Self.capacity }

  mutating func append(_ frame: PageFrameNumber) {
    frames[count] = frame
    count += 1
  }

  subscript(index: Int) -> PageFrameNumber { frames[index] }
}

/// The lists of all nodes.
enum PageLists {
  private struct List {
    var head: PageFrameNumber?
    var tail: PageFrameNumber?
    var count = 0
  }

  private struct State {
    var lists = InlineArray<4, List>(repeating: List())
    /// How much was looked at lately, and how much of that was found in use: by file (1) or not (0).
    var scanned = InlineArray<2, Int>(repeating: 0)
    var rotated = InlineArray<2, Int>(repeating: 0)
  }

  private final class Node { let state = SpinLock(State(), rank: .pageLists) }

  private static let nodes: [Node] = {
    FrameAllocator.leaveList = { PageLists.leave(PageFrameNumber($0)) }
    return (0..<MemoryZone.nodeCount).map { _ in Node() }
  }()

  @inline(__always)
  private static func withLists<Result>(_ number: PageFrameNumber, _ body: (inout State) -> Result) -> Result {
    nodes[nodes.count == 1 ? 0 : number.node].state.withLock { body(&$0) }
  }

  // MARK: Coming and going

  /// Puts fresh frames in a row, of one node, on the list for their kind. `flags` are the marks that they get with it.
  @inline(__always)
  static func add(_ first: PageFrameNumber, count: Int = 1, _ flags: FrameFlags, active: Bool) {
    let marks = flags.union(.listed).union(active ? .active : [])
    let list = PageList.list(isFile: !flags.contains(.swapBacked), isActive: active)
    withLists(first) { state in
      for index in 0..<count {
        let number = first.advanced(by: index)
        number.frame.set(marks)
        link(&state.lists[list.rawValue], number)
      }
    }
  }

  /// Takes a frame off its list, if it is on one. The caller has a reference, or the frame's last one is gone.
  static func leave(_ number: PageFrameNumber) {
    withLists(number) { state in
      let frame = number.frame
      let flags = frame.flags
      guard flags.contains(.listed) else { return }
      unlink(&state.lists[list(flags).rawValue], number)
      frame.clear(.listed)
    }
  }

  /// Puts a frame back that `isolate` took, in front. The caller keeps its reference.
  static func putBack(_ number: PageFrameNumber, active: Bool) {
    withLists(number) { state in
      let frame = number.frame
      guard !frame.flags.contains(.listed) else { return }
      frame.clear(active ? [] : .active)
      frame.set(active ? [.listed, .active] : .listed)
      link(&state.lists[list(frame.flags).rawValue], number)
    }
  }

  /// Makes a frame on an inactive list the next that leaves memory: it is clean now. The caller has a reference.
  static func moveToEnd(_ number: PageFrameNumber) {
    withLists(number) { state in
      let flags = number.frame.flags
      number.frame.clear(.wantedClean)
      guard flags.contains(.listed), !flags.contains(.active) else { return }
      unlink(&state.lists[list(flags).rawValue], number)
      linkLast(&state.lists[list(flags).rawValue], number)
    }
  }

  /// Takes up to `limit` of the oldest frames off a node's list.
  static func isolate(_ list: PageList, on node: Int, limit: Int, into batch: inout PageBatch) {
    // The closure may not capture an inout value that cannot be copied: frame by frame, the lock is cheap.
    var left = min(limit, count(list, on: node))
    while left > 0, !batch.isFull {
      left -= 1
      let taken: PageFrameNumber? = nodes[node].state.withLock { state in
        guard let number = state.lists[list.rawValue].tail else { return nil }
        unlink(&state.lists[list.rawValue], number)
        // The last reference is gone: the thread that frees the frame waits for this lock, and finds it off the list.
        guard number.frame.retainIfReferenced() else {
          number.frame.clear(.listed)
          return nil
        }
        number.frame.retain(count: Frames.inspectionBias - 1)
        number.frame.clear(.listed)
        state.scanned[list.isFile ? 1 : 0] &+= 1
        return number
      }
      if let taken { batch.append(taken) }
    }
  }

  /// Takes this frame off its list, with references like a batch's for the caller; false if it is on none.
  static func isolate(_ number: PageFrameNumber) -> Bool {
    withLists(number) { state in
      let frame = number.frame
      let flags = frame.flags
      guard flags.contains(.listed), frame.retainIfReferenced() else { return false }
      frame.retain(count: Frames.inspectionBias - 1)
      unlink(&state.lists[list(flags).rawValue], number)
      frame.clear(.listed)
      return true
    }
  }

  // MARK: Balance

  /// How many nodes there are.
  static var nodeCount: Int { nodes.count }

  static func count(_ list: PageList, on node: Int) -> Int {
    nodes[node].state.withLock { $0.lists[list.rawValue].count }
  }

  /// The sum over all nodes.
  static func count(_ list: PageList) -> Int {
    var sum = 0
    for node in 0..<nodes.count { sum += count(list, on: node) }
    return sum
  }

  /// A page was found in use: its kind is worth more.
  static func noteRotation(_ frame: PageFrameNumber, isFile: Bool) {
    withLists(frame) { $0.rotated[isFile ? 1 : 0] &+= 1 }
  }

  /// How much of `frames` to look for among a node's anonymous memory, going by the use that either kind was found in lately and
  /// by `swappiness` (0: never before files, 100: as files, 200: only anonymous memory).
  static func anonymousShare(of frames: Int, on node: Int, swappiness: Int) -> Int {
    nodes[node].state.withLock { state in
      for kind in 0..<2 where state.scanned[kind] > 8192 {
        state.scanned[kind] /= 2
        state.rotated[kind] /= 2
      }
      let anonymous = swappiness * (state.scanned[0] + 1) / (state.rotated[0] + 1)
      let files = (200 - swappiness) * (state.scanned[1] + 1) / (state.rotated[1] + 1)
      return anonymous + files == 0 ? 0 : frames * anonymous / (anonymous + files)
    }
  }

  // MARK: Links

  private static func list(_ flags: FrameFlags) -> PageList {
    .list(isFile: !flags.contains(.swapBacked), isActive: flags.contains(.active))
  }

  private static func link(_ list: inout List, _ number: PageFrameNumber) {
    let frame = number.frame
    frame.previous = nil
    frame.next = list.head
    if let head = list.head { head.frame.previous = number } else { list.tail = number }
    list.head = number
    list.count &+= 1
  }

  private static func linkLast(_ list: inout List, _ number: PageFrameNumber) {
    let frame = number.frame
    frame.next = nil
    frame.previous = list.tail
    if let tail = list.tail { tail.frame.next = number } else { list.head = number }
    list.tail = number
    list.count &+= 1
  }

  private static func unlink(_ list: inout List, _ number: PageFrameNumber) {
    let frame = number.frame
    let (next, previous) = (frame.next, frame.previous)
    if let previous { previous.frame.next = next } else { list.head = next }
    if let next { next.frame.previous = previous } else { list.tail = previous }
    frame.next = nil
    frame.previous = nil
    list.count &-= 1
  }

  // MARK: For tests

  /// The frames of a list, newest first, with its links checked.
  static func contents(_ list: PageList) -> [PageFrameNumber]? {
    var all: [PageFrameNumber] = []
    for node in nodes {
      guard let frames = contents(list, of: node) else { return nil }
      all += frames
    }
    return all
  }

  private static func contents(_ list: PageList, of node: Node) -> [PageFrameNumber]? {
    node.state.withLock { state in
      var result: [PageFrameNumber] = []
      var previous: PageFrameNumber?
      var next = state.lists[list.rawValue].head
      while let number = next {
        let frame = number.frame
        guard frame.previous == previous, frame.flags.contains(.listed), Self.list(frame.flags) == list,
          result.count < state.lists[list.rawValue].count
        else { return nil }
        result.append(number)
        (previous, next) = (number, frame.next)
      }
      guard state.lists[list.rawValue].tail == previous, result.count == state.lists[list.rawValue].count else {
        return nil
      }
      return result
    }
  }
}
