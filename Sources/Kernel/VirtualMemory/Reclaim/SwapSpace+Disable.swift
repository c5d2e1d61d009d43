// swapoff(2): every page of an area comes back into memory. Nothing leads from a slot to those who name it, so all page
// tables are looked through.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension SwapSpace {
  /// Brings all pages of a swap area into memory and takes it out of use.
  ///
  /// - Parameter name: what the device calls itself.
  /// - Throws: EINVAL (no such area in use), ENOMEM (the pages do not fit), EINTR, EIO. The area stays in use then.
  @export(interface)
  public static func disable(_ name: ByteString) throws(Errno) {
    guard let (area, index) = beginDisabling(name) else { throw .EINVAL }
    do throws(Errno) {
      try empty(area, index)
    } catch {
      endDisabling(area, index, isEmpty: false)
      throw error
    }
    endDisabling(area, index, isEmpty: true)
  }

  private static func empty(_ area: SwapArea, _ index: Int) throws(Errno) {
    var relief = MemoryPressure.Relief()
    // A page on its way, or a space that was forked meanwhile, is found in the next round.
    for _ in 0..<200 {
      for space in ReverseMap.spaces() {
        while true {
          do throws(Errno) {
            try space.bringBack(from: index)
            break
          } catch {
            guard error == .ENOMEM, relief.find() else { throw error }
          }
        }
      }
      if state.withLock({ _ in area.freeSlots == area.capacity }) { return }
      if Thread.current.hasFatalSignal { throw .EINTR }
      try? Thread.sleep(.uninterruptible, until: Instant.now().advanced(byNanoseconds: 1_000_000)) { false }
    }
    throw .EBUSY
  }
}

extension AddressSpace {
  /// Brings the pages that are on a swap area into memory.
  ///
  /// - Throws: ENOMEM, EIO, EINTR.
  fileprivate func bringBack(from swapArea: Int) throws(Errno) {
    try areas.withReadLock { state throws(Errno) in
      try state.map.visitAll { area throws(Errno) in
        var position = area.start
        while position < area.end {
          if Thread.current.hasFatalSignal { throw .EINTR }
          let stop = min(area.end, (position | (PageTables.tableSpan &- 1)) &+ 1)
          var found: (page: UInt64, entry: SwapEntry)?
          tables.withLock { tables in
            tables.forEach(position, stop) { address, entry in
              if found == nil, entry.isSwapped, entry.swapEntry.area == swapArea { found = (address, entry.swapEntry) }
            }
          }
          guard let found else {
            position = stop
            continue
          }
          // The same page is looked at again: it may be busy, and come back at the next attempt.
          position = found.page
          switch fillFromSwap(area, found.page, .read, found.entry) {
          case .done: break
          case .outOfMemory: throw .ENOMEM
          default: throw .EIO
          }
        }
      }
    }
  }
}
