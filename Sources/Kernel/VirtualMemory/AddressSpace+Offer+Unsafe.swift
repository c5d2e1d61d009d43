// Offers to the machine after a fault: the page that was wanted, and what lies around it in memory anyway, in as few
// commands as possible. The machine may forget all of it; a fault brings it back.
//
// SAFETY: a slot points to an entry of a table of this space's tree, whose lock is held; neighbours of a slot are reached
// within its table only.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling

extension AddressSpace {
  func offer(_ page: UInt64, _ entry: PageTableEntry) {
    var offer = MappingOffer(space: machineSpace)
    offer.add(page, entry)
    offer.finish()
  }

  /// Offers the pages that the tables hold around `page`, and all of the run of frames that it lies in.
  func offerAround(_ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64) {
    let run = runAround(page, tables, area)
    let near = around(area, page, Self.faultAroundPages)
    let window = min(near.lowerBound, run.lowerBound)..<max(near.upperBound, run.upperBound)
    offer(window, of: tables)
  }

  /// Offers what the tables hold in `window`; see `MappingOffer` for `filling`.
  func offer(_ window: Range<UInt64>, of tables: borrowing PageTables, filling: Bool = false) {
    var offer = MappingOffer(space: machineSpace, filling: filling)
    tables.forEach(window.lowerBound, window.upperBound) { address, entry in offer.add(address, entry) }
    offer.finish()
  }

  /// Offers what the table of `page` holds of the area.
  func offerTable(_ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64) {
    let begin = page & ~(PageTables.tableSpan &- 1)
    var offer = MappingOffer(space: machineSpace)
    tables.forEach(max(begin, area.start), min(begin &+ PageTables.tableSpan, area.end)) { address, entry in
      // The page itself in any case.
      if offer.commands < Self.largestOffer || address == page { offer.add(address, entry) }
    }
    offer.finish()
  }

  /// Code at `address` makes system calls that the machine could make cheaper: lets it replace them in its copy of the
  /// page, when that is a file's and nobody but programs that map it privately can see the difference. The copy is shared
  /// by programs of the same owner, an identity other than 0.
  ///
  /// - Locks: the area lock for reading. May sleep.
  @export(interface)
  public func offerReplacement(at address: UInt64, owner: UInt64) {
    let page = address & ~pageMask
    areas.withReadLock { state in
      guard let area = state.map.find(page), !area.isShared, area.object?.hasStore == true else { return }
      tables.withLock { tables in
        let entry = tables.entry(page)
        guard entry.isPresent, entry.machineRights & UInt64(MACHINE_MAP_TEXT) != 0 else { return }
        machine_text_replace(machineSpace, page, entry.frame.rawValue << 12, owner)
      }
    }
  }

  /// The pages of `page`'s table and of the area that lie around it in a row, in memory too, with the same rights.
  private func runAround(_ page: UInt64, _ tables: PageTables, _ area: VirtualMemoryArea) -> Range<UInt64> {
    guard let slot = unsafe tables.find(page).slot else { return page..<page }
    let begin = page & ~(PageTables.tableSpan &- 1)
    let below = Int(truncatingIfNeeded: (page &- max(begin, area.start)) / pageSize)
    let above = Int(truncatingIfNeeded: (min(begin &+ PageTables.tableSpan, area.end) &- page) / pageSize)
    var first = 0
    var last = 1
    // Entries that reclaim has aged are not offered: they end the run.
    while first > -below, unsafe slot[first - 1] &+ pageSize == slot[first] { first -= 1 }
    while last < above, unsafe slot[last - 1] &+ pageSize == slot[last] { last += 1 }
    return page &- UInt64(-first) &* pageSize..<page &+ UInt64(last) &* pageSize
  }

  /// The aligned window of so many pages (a power of two, at most a table's) around `page`, cut to the area.
  func around(_ area: VirtualMemoryArea, _ page: UInt64, _ pages: UInt64) -> Range<UInt64> {
    let size = pages &* pageSize
    let start = page & ~(size &- 1)
    return max(start, area.start)..<min(start &+ size, area.end)
  }
}
