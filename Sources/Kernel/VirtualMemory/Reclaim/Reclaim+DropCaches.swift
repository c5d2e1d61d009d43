// /proc/sys/vm/drop_caches: forgetting what could be read again, for those who measure or want to be sure.

import KernelCore
import PhysicalMemory

extension Reclaim {
  /// Drops the clean pages of files that no program shows or has used lately; returns how many. May sleep.
  @export(interface) @discardableResult
  public static func dropPageCache() -> Int {
    ReclaimCounters.add(1, to: ReclaimCounters.cacheDrops)
    var dropped = 0
    for node in 0..<PageLists.nodeCount {
      for list in [PageList.inactiveFile, .activeFile] { dropped += drop(list, node) }
    }
    return dropped
  }

  private static func drop(_ list: PageList, _ node: Int) -> Int {
    var dropped = 0
    // Each page once: what stays goes to the other end.
    var left = PageLists.count(list, on: node)
    while left > 0 {
      var batch = PageBatch()
      PageLists.isolate(list, on: node, limit: min(left, PageBatch.capacity), into: &batch)
      guard batch.count > 0 else { break }
      left -= batch.count
      dropped += drop(batch, list)
    }
    return dropped
  }

  private static func drop(_ batch: borrowing PageBatch, _ list: PageList) -> Int {
    var dropped = 0
    var gather = MappingGather()
    ReverseMap.owners.withLock { owners in
      for index in 0..<batch.count {
        let frame = batch[index]
        if ReverseMap.evict(frame, owners, &gather) == .evicted {
          dropped += 1
        } else {
          PageLists.putBack(frame, active: list.isActive)
        }
      }
      gather.flushRun()
    }
    gather.finish()
    batch.releaseAll()
    return dropped
  }
}
