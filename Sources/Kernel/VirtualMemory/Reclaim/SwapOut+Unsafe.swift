// Writing pages to swap: a batch gets slots in a row, its page-table entries are replaced by the slots' names, and what nobody
// uses any more is written with one request and freed.
//
// It is what brings memory when there is none, so nothing is allocated on the way: candidates and frame numbers lie on
// the stack (a list of the spaces that were visited may grow a little), slots in the area's own frames, requests and descriptors in pools of the disk. For what a thread may need
// beside that (an object of the kernel heap in a driver) each CPU keeps some frames aside.
//
// SAFETY: a buffer of frame numbers is handed to the device for the time of the call; the frames are held by the batch.

import KernelCore
import LinuxABI
import PhysicalMemory

enum SwapOut {
  private struct Candidate {
    var frame = PageFrameNumber(0)
    var entry = SwapEntry(rawValue: 0)
  }
  private typealias Candidates = InlineArray<32, Candidate>

  /// Frames that are put aside on the CPU before a batch, as long as there are any.
  private static var framesAside: Int { 4 }

  /// Takes pages that can only go to swap out of memory, those that are not in use; returns how many. Gives up the batch's
  /// references. May sleep.
  static func run(_ batch: borrowing PageBatch) -> Int {
    try? FrameAllocator.reserveLocalPages(framesAside, options: .reserved)
    var pages = Candidates(repeating: Candidate())
    var count = 0
    var gather = MappingGather()
    ReverseMap.owners.withLock { owners in
      for index in 0..<batch.count {
        let frame = batch[index]
        guard Frames.isPinned(frame) || isUsed(frame, owners, &gather) else {
          pages[count].frame = frame
          count += 1
          continue
        }
        ReclaimCounters.add(1, to: ReclaimCounters.activated)
        PageLists.noteRotation(frame, isFile: false)
        PageLists.putBack(frame, active: true)
      }
      gather.flushRun()
    }
    gather.finish()
    count = assignSlots(&pages, count)
    evict(pages, count)
    let stored = store(&pages, count)
    batch.releaseAll()
    return stored
  }

  /// Whether a program used the page through its tables or, if it belongs to an object, by read(2) and write(2).
  private static func isUsed(
    _ frame: PageFrameNumber, _ owners: borrowing ReverseMap.Owners, _ gather: inout MappingGather
  ) -> Bool {
    let wasReferenced = frame.frame.clear(.referenced).contains(.referenced)
    let use = ReverseMap.testUse(frame, owners, &gather)
    return use != .idle || (wasReferenced && !frame.frame.flags.contains(.anonymous))
  }

  /// Gives each page a slot, if it has none yet; those for which there is none go back to their list.
  private static func assignSlots(_ pages: inout Candidates, _ count: Int) -> Int {
    var ready = 0
    var fresh = Candidates(repeating: Candidate())
    var freshCount = 0
    for index in 0..<count {
      let frame = pages[index].frame
      if let entry = PageOwner.swapEntry(frame) {
        if SwapSpace.makeBusy(entry, frame) {
          pages[ready] = Candidate(frame: frame, entry: entry)
          ready += 1
        } else {
          PageLists.putBack(frame, active: true)
        }
      } else {
        fresh[freshCount].frame = frame
        freshCount += 1
      }
    }
    var done = 0
    while done < freshCount, let run = SwapSpace.reserve(count: freshCount - done, { fresh[done + $0].frame }) {
      for place in 0..<run.count {
        let frame = fresh[done + place].frame
        // Not on the device yet.
        frame.frame.set(.dirty)
        pages[ready] = Candidate(frame: frame, entry: run.entry.advanced(by: place))
        ready += 1
      }
      done += run.count
    }
    for index in done..<freshCount { PageLists.putBack(fresh[index].frame, active: true) }
    return ready
  }

  /// Puts the slots' names in the place of the pages, wherever they are shown. When it returns no machine shows a page that no table
  /// has any more: nobody comes by it until its slot is done with (`store`), so what is written is all that was.
  private static func evict(_ pages: Candidates, _ count: Int) {
    var gather = MappingGather()
    ReverseMap.owners.withLock { owners in
      for index in 0..<count { ReverseMap.evict(pages[index].frame, to: pages[index].entry, owners, &gather) }
      gather.flushRun()
    }
    gather.finish()
  }

  /// Writes what is not on the device yet, frees what is not in use; returns how many frames that are.
  private static func store(_ pages: inout Candidates, _ count: Int) -> Int {
    var stored = 0
    var first = 0
    while first < count {
      let page = pages[first]
      // Only the swap cache has it: no page table shows it, and none can find it while it is busy.
      guard Frames.isIdle(page.frame) else {
        keep(page)
        first += 1
        continue
      }
      guard page.frame.frame.flags.contains(.dirty) else {
        SwapSpace.finish(page.entry, .stored)
        stored += 1
        first += 1
        continue
      }
      var next = first + 1
      while next < count, pages[next].entry == page.entry.advanced(by: next - first),
        Frames.isIdle(pages[next].frame), pages[next].frame.frame.flags.contains(.dirty)
      {
        next += 1
      }
      let isWritten = write(pages, first, next - first)
      for index in first..<next {
        if isWritten {
          SwapSpace.finish(pages[index].entry, .stored)
          stored += 1
        } else {
          keep(pages[index])
        }
      }
      first = next
    }
    return stored
  }

  private static func keep(_ page: Candidate) {
    SwapSpace.finish(page.entry, .kept)
    PageLists.putBack(page.frame, active: true)
  }

  private static func write(_ pages: Candidates, _ first: Int, _ count: Int) -> Bool {
    guard let device = SwapSpace.device(pages[first].entry) else { return false }
    var numbers = InlineArray<32, PageFrameNumber>(repeating: PageFrameNumber(0))
    for index in 0..<count { numbers[index] = pages[first + index].frame }
    let slot = pages[first].entry.slot
    do throws(Errno) {
      try unsafe withUnsafePointer(to: &numbers) { pointer throws(Errno) in
        let start = unsafe UnsafeRawPointer(pointer).assumingMemoryBound(to: PageFrameNumber.self)
        try unsafe device.writeSwap(slot: slot, frames: UnsafeBufferPointer(start: start, count: count))
      }
    } catch {
      Log.error("swap: writing failed (\(error))")
      return false
    }
    ReclaimCounters.add(count, to: ReclaimCounters.swappedOut)
    if FrameAllocator.isExhausted { ReclaimCounters.add(count, to: ReclaimCounters.swappedOutExhausted) }
    return true
  }
}
