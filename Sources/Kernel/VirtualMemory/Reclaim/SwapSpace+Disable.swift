// swapoff(2): every page of an area comes back into memory. Nothing leads from a slot to those who name it, so all page
// tables and objects are looked through.

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
        try persevere(&relief) { () throws(Errno) in try space.bringBack(from: index) }
      }
      try persevere(&relief) { () throws(Errno) in try emptyObjects(index) }
      if state.withLock({ _ in area.freeSlots == area.capacity }) { return }
      if Thread.current.hasFatalSignal { throw .EINTR }
      try? Thread.sleep(.uninterruptible, until: Instant.now().advanced(byNanoseconds: 1_000_000)) { false }
    }
    throw .EBUSY
  }

  /// Repeats `body` while memory is short and some can be found.
  private static func persevere(
    _ relief: inout MemoryPressure.Relief, _ body: () throws(Errno) -> Void
  ) throws(Errno) {
    while true {
      do throws(Errno) { return try body() } catch {
        guard error == .ENOMEM, relief.find() else { throw error }
      }
    }
  }

  /// Brings the pages of objects back. An object is looked at under the lock of all owners, for it may end at any time, and
  /// by its number again when its page has been read.
  private static func emptyObjects(_ area: Int) throws(Errno) {
    for raw in 1..<UInt32(max(1, ReverseMap.capacity)) {
      let number = OwnerNumber(rawValue: raw)
      var position: UInt64 = 0
      while let found = ReverseMap.withObject(number, { $0.nextSwapped(from: position, area: area) }) ?? nil {
        if Thread.current.hasFatalSignal { throw .EINTR }
        position = found.index &+ 1
        guard let frame = try SwapIn.page(found.entry) else { continue }
        _ = ReverseMap.withObject(number) { $0.restore(found.index, found.entry, frame) }
        Frames.release(frame)
      }
    }
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
