// Swap of memory objects without a store: files of tmpfs, shared anonymous memory. In the place of a page that has left
// memory the object's tree has the name of its slot: the object is the only one that names it.
//
//     ready ── leaves all page tables, nobody has a reference ──▶ name of a slot ── touched ──▶ ready, the slot is free

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension MemoryObject {
  /// Takes a page out of all page tables and puts the name of its slot in its place in the object, if it is not in use.
  /// Reclaim is looking at it, and it is in the swap cache under `entry`, busy.
  func evict(_ frame: PageFrameNumber, to entry: SwapEntry, _ gather: inout MappingGather) {
    let index = PageOwner.page(frame)
    guard isSwappable, pages.withLock({ $0.find(index) == .ready(frame) }), unmap(frame, index, .ifIdle, &gather) else {
      return
    }
    let hasLeft = pages.withLock { pages in
      // The object, the swap cache and reclaim have it; from now on no thread can get a reference, not even a look-up
      // without the lock. The swap cache gives out none while the slot is busy.
      guard pages.find(index) == .ready(frame), Frames.freeze(frame, cached: 1) else { return false }
      pages.replace(at: index, by: entry)
      // The object's reference goes with it.
      Frames.thaw(frame, cached: 1)
      return true
    }
    if hasLeft { countPages(-1) }
  }

  /// The page whose name `entry` is at `index`, with a reference for the caller; nil when it has to be looked up again. May
  /// sleep.
  ///
  /// - Throws: ENOMEM, the device's errors.
  func bringBack(
    _ index: UInt64, _ entry: SwapEntry, options: AllocationOptions = [], onRead: () -> Void = {}
  ) throws(Errno) -> PageFrameNumber? {
    guard let frame = try SwapIn.page(entry, options: options, onRead: onRead) else { return nil }
    if restore(index, entry, frame) { return frame }
    Frames.release(frame)
    return nil
  }

  /// Puts a page of the swap cache, to which the caller has a reference, in the place of its name; false if it is not the
  /// page's time: another thread was faster, or the slot is busy.
  func restore(_ index: UInt64, _ entry: SwapEntry, _ frame: PageFrameNumber) -> Bool {
    let isRestored = pages.withLock { pages in
      guard pages.find(index) == .swapped(entry),
        SwapSpace.take(entry, frame, owner: number, page: index) != nil
      else { return false }
      // It may have been read as a neighbour of another page, and nobody knew whose it was.
      frame.frame.clear(.anonymous)
      Frames.retain(frame)
      pages.restore(frame, at: index)
      return true
    }
    if isRestored { countPages(1) }
    return isRestored
  }

  /// The page at `index` with a reference, brought back from swap if it is there; nil when there is none. For those who
  /// change a page's bytes and cannot fail: it uses the last frames if it must. May sleep.
  func pageIfPresent(_ index: UInt64) -> PageFrameNumber? {
    while true {
      switch lookUp(index) {
      case .ready(let frame): return frame
      case .absent, .busy: return nil
      case .swapped(let entry):
        do throws(Errno) {
          let found = try MemoryPressure.retrying { () throws(Errno) in try bringBack(index, entry) }
          if let found { return found }
        } catch {
          guard error == .ENOMEM else { return nil }
          if let found = try? bringBack(index, entry, options: .reserved) { return found }
          try? Thread.sleep(.uninterruptible, until: Instant.now().advanced(byNanoseconds: 1_000_000)) { false }
        }
      }
    }
  }

  func nextSwapped(from start: UInt64, area: Int) -> (index: UInt64, entry: SwapEntry)? {
    pages.withLock { $0.nextSwapped(from: start, area: area) }
  }

  /// Pages of a range that are on swap areas.
  func swappedPages(_ range: Range<UInt64>) -> Int {
    pages.withLock { pages in
      guard pages.swapped > 0 else { return 0 }
      var count = 0
      var position = range.lowerBound
      while let (index, _) = pages.tree.next(from: position, tagged: ObjectPages.swappedTag), index < range.upperBound {
        count += 1
        position = index &+ 1
      }
      return count
    }
  }
}
