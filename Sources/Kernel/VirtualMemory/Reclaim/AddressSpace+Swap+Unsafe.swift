// Anonymous pages as reclaim sees them: put on its lists when they are made, brought back from swap when they are touched.
//
// SAFETY: a slot points to an entry of a table of this space's tree and is used under its table lock only.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

extension AddressSpace {
  /// Notes fresh anonymous pages with reclaim: frames in a row for addresses in a row. Before they are in the tables.
  @inline(__always)
  func enlist(_ first: PageFrameNumber, count: Int = 1, at address: UInt64) {
    let page = address / pageSize
    for index in 0..<count {
      PageOwner.set(first.advanced(by: index), owner: family.number, page: page &+ UInt64(index))
    }
    PageLists.add(first, count: count, [.anonymous, .swapBacked], active: true)
  }

  /// Brings a page back from swap. The area lock is held for reading.
  func fillFromSwap(
    _ area: VirtualMemoryArea, _ page: UInt64, _ access: Access, _ entry: SwapEntry
  ) -> Resolution {
    let frame: PageFrameNumber
    do throws(Errno) {
      let found = try SwapIn.page(entry) {
        Counters.add(1, to: Counters.majorFaults)
        Thread.current.transfers.fetched &+= pageSize
        majorFaults.add(1, ordering: .relaxed)
      }
      // No entry names the slot: another thread of the program was faster, and the access is tried again.
      guard let found else { return .done }
      frame = found
    } catch {
      return error == .ENOMEM ? .outOfMemory : .failed(.bus)
    }
    var hasFrame = false
    do throws(Errno) {
      hasFrame = try tables.withLock { tables throws(Errno) in
        guard let slot = try unsafe tables.exclusiveSlot(page),
          unsafe slot.pointee == PageTableEntry(swap: entry).word,
          let ownership = SwapSpace.take(entry, frame, owner: family.number, page: page / pageSize)
        else { return false }
        // Alone with it: it may be written to. Otherwise a write copies it, as after fork.
        let new =
          ownership == .exclusive && area.protection.contains(.write)
          ? writable(frame, area, 0)
          : PageTableEntry(frame: frame, protection: area.protection, isWritable: false, marks: 0)
        _ = unsafe tables.replace(slot, by: new)
        Counters.add(1, to: Counters.anonymousPages)
        offer(page, new)
        return true
      }
    } catch {
      Frames.release(frame)
      return .outOfMemory
    }
    // The reference that came with the page is the table's now.
    if !hasFrame { Frames.release(frame) }
    return .done
  }
}
