// Page replacement: which pages leave memory when it is short.
//
//            new files' pages                         new anonymous pages
//                  │                                          │
//                  ▼                                          ▼
//     ┌──────── inactive ────────┐      used        ┌──────── active ────────┐
//     │ newest           oldest ─┼─────────────────▶│ newest          oldest │
//     └──────────────────────────┘                  └────────────────────────┘
//         ▲                 │ unused                                  │
//         │                 ▼                                         │ accessed bits cleared
//         │        dropped, or written to swap                        │
//         └───────────────────────────────────────────────────────────┘
//
// Each node has such a pair of lists for pages of files and one for what can only go to swap. A page on the inactive list has lost its
// accessed bits, so it has until it comes to the end of the list to show that it is in use. Nothing of this costs anything
// while there is memory: pages are put on a list when they are made, and looked at only when some are needed.

import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization

/// The shrinker of user memory and the page cache.
public final class Reclaim: Shrinker {
  /// /proc/sys/vm/swappiness: how willingly anonymous memory is written out instead of dropping pages of files: 0 to 200.
  public static let swappiness = Atomic<Int>(60)

  /// Pages of files that are left to the programs. Without them a machine whose memory is full of private pages would
  /// read the same few pages of program text again and again, each evicted for the next, and no allocation would fail: that
  /// is the time for the out-of-memory policy.
  private let floor: Int

  init(floor: Int = 0) { self.floor = floor }

  /// Makes user memory and the page cache give back what is needed; all but 1/32 of memory, or 8 MiB, of the latter.
  /// Called once, at boot.
  @export(interface)
  public static func initialize() {
    Shrinkers.register(system)
  }

  /// The one that works for the machine.
  static let system = Reclaim(floor: min(MemoryStatistics.snapshot().total / 32, 2048))

  /// The most that one look takes: a list's length divided by two to the power of this and one less each time.
  private static var leastEffort: Int { 10 }

  /// Frees about `frames` frames, on nodes that are short if there are any; returns how many. May sleep.
  @export(interface)
  public func reclaim(frames: Int) -> Int {
    let nodes = PageLists.nodeCount
    guard nodes > 1 else { return reclaim(frames: frames, on: 0) }
    let home = FrameAllocator.localNode
    let isAnyShort = (0..<nodes).contains { MemoryZone.shortage(ofNode: $0) > 0 }
    var freed = 0
    var effort = Self.leastEffort
    while freed < frames, effort >= 0 {
      for distance in 0..<nodes where freed < frames {
        let node = (home + distance) % nodes
        if isAnyShort, MemoryZone.shortage(ofNode: node) == 0 { continue }
        freed += shrink(node, frames - freed, effort)
      }
      effort -= 1
    }
    return freed
  }

  /// The same on one node.
  func reclaim(frames: Int, on node: Int) -> Int {
    var freed = 0
    var effort = Self.leastEffort
    while freed < frames, effort >= 0 {
      freed += shrink(node, frames - freed, effort)
      effort -= 1
    }
    return freed
  }

  private func shrink(_ node: Int, _ frames: Int, _ effort: Int) -> Int {
    var freed = 0
    let wanted = max(frames, PageBatch.capacity)
    let anonymous =
      Self.canSwap ? PageLists.count(.inactiveAnonymous, on: node) + PageLists.count(.activeAnonymous, on: node) : 0
    let files = min(
      max(0, PageLists.count(.inactiveFile) + PageLists.count(.activeFile) - floor),
      PageLists.count(.inactiveFile, on: node) + PageLists.count(.activeFile, on: node))
    var share = PageLists.anonymousShare(
      of: wanted, on: node, swappiness: Self.swappiness.load(ordering: .relaxed))
    if anonymous == 0 { share = 0 } else if files == 0 { share = wanted }
    if share < wanted, files > 0 {
      freed += Self.shrink(.file, node, scan: max(wanted - share, files >> effort), wanted: min(wanted, files))
    }
    if share > 0, freed < frames {
      freed += Self.shrink(.anonymous, node, scan: max(share, anonymous >> effort), wanted: wanted)
    }
    return freed
  }

  /// Whether anonymous memory has anywhere to go.
  static var canSwap: Bool { SwapSpace.freePages > 0 || SwapSpace.cachedPages > 0 }

  // MARK: The lists

  private enum Kind { case anonymous, file }

  /// Looks at about `scan` pages of one kind on a node, until `wanted` are free; returns how many it freed.
  private static func shrink(_ kind: Kind, _ node: Int, scan: Int, wanted: Int) -> Int {
    let inactive: PageList = kind == .file ? .inactiveFile : .inactiveAnonymous
    let active: PageList = kind == .file ? .activeFile : .activeAnonymous
    var freed = 0
    var left = scan
    while left > 0, freed < wanted {
      // Where ageing takes a page away from the machine, few anonymous pages wait on the inactive list at a time.
      let ratio = kind == .file ? 1 : 3
      if PageLists.count(inactive, on: node) * ratio < PageLists.count(active, on: node) { deactivate(active, node) }
      var batch = PageBatch()
      PageLists.isolate(inactive, on: node, limit: min(left, PageBatch.capacity), into: &batch)
      if batch.count == 0 {
        guard PageLists.count(active, on: node) > 0 else { break }
        deactivate(active, node)
        left -= PageBatch.capacity
        continue
      }
      left -= batch.count
      ReclaimCounters.add(batch.count, to: ReclaimCounters.scanned)
      if Kswapd.isRunningHere { ReclaimCounters.add(batch.count, to: ReclaimCounters.scannedByDaemon) }
      let gone = kind == .file ? dropFiles(batch) : SwapOut.run(batch)
      ReclaimCounters.add(gone, to: ReclaimCounters.stolen)
      if Kswapd.isRunningHere { ReclaimCounters.add(gone, to: ReclaimCounters.stolenByDaemon) }
      freed += gone
    }
    return freed
  }

  /// Moves some of the oldest pages of an active list to the inactive one, without their accessed bits.
  private static func deactivate(_ list: PageList, _ node: Int) {
    var batch = PageBatch()
    PageLists.isolate(list, on: node, limit: PageBatch.capacity, into: &batch)
    var gather = MappingGather()
    var staying: UInt32 = 0
    ReverseMap.owners.withLock { owners in
      for index in 0..<batch.count {
        let use = ReverseMap.testUse(batch[index], owners, &gather)
        batch[index].frame.clear(.referenced)
        // Code that is being executed is worth more than other pages of files.
        if use == .fixed || (use == .executed && list.isFile) { staying |= 1 << UInt32(index) }
      }
      gather.flushRun()
    }
    // Others look at them only when each use is noticed.
    gather.finish()
    for index in 0..<batch.count {
      let stays = staying & 1 << UInt32(index) != 0
      if stays { PageLists.noteRotation(batch[index], isFile: list.isFile) }
      PageLists.putBack(batch[index], active: stays)
    }
    ReclaimCounters.add(batch.count, to: ReclaimCounters.deactivated)
    batch.releaseAll()
  }

  /// Drops clean pages of files that are not in use; returns how many. Gives up the batch's references.
  static func dropFiles(_ batch: borrowing PageBatch) -> Int {
    var (dropped, dirty) = (0, 0)
    var gather = MappingGather()
    var used: UInt32 = 0
    ReverseMap.owners.withLock { owners in
      for index in 0..<batch.count {
        let frame = batch[index]
        let use = ReverseMap.testUse(frame, owners, &gather)
        let wasReferenced = frame.frame.clear(.referenced).contains(.referenced)
        guard use != .idle || wasReferenced else { continue }
        // Used for the second time, or executed: it goes to the active list. Used once: it may stay where it is.
        let isActive = use == .fixed || use == .executed || (use == .used && wasReferenced)
        if use == .used, !isActive { frame.frame.set(.referenced) }
        if isActive { ReclaimCounters.add(1, to: ReclaimCounters.activated) }
        PageLists.noteRotation(frame, isFile: true)
        PageLists.putBack(frame, active: isActive)
        used |= 1 << UInt32(index)
      }
      gather.flushRun()
    }
    // The machine has forgotten what was taken from it before anything is decided by it.
    gather.finish()
    ReverseMap.owners.withLock { owners in
      for index in 0..<batch.count where used & 1 << UInt32(index) == 0 {
        let frame = batch[index]
        let outcome = ReverseMap.evict(frame, owners, &gather)
        switch outcome {
        case .evicted: dropped += 1
        case .used: PageLists.putBack(frame, active: true)
        case .dirty:
          dirty += 1
          frame.frame.set(.wantedClean)
          PageLists.putBack(frame, active: false)
        }
      }
      gather.flushRun()
    }
    // What has left its object is the batch's alone, and free only when no machine shows it any more.
    gather.finish()
    batch.releaseAll()
    if dirty > 0 {
      // No thread waits here: what the flusher has written is found at the end of the list.
      ReclaimCounters.add(dirty, to: ReclaimCounters.skippedDirty)
      Flusher.request(pages: PageBatch.capacity * dirty)
    }
    return dropped
  }
}

extension PageBatch {
  /// Gives up the batch's references; those that left memory are free then.
  borrowing func releaseAll() { for index in 0..<count { self[index].frame.release(count: Frames.inspectionBias) } }
}
