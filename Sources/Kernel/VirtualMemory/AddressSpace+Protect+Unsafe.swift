// mprotect(2).
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension AddressSpace {
  /// Where a change of protection ends.
  public enum ProtectionExtent: Sendable {
    case range
    /// PROT_GROWSDOWN: from the beginning of the growing area that contains the address.
    case fromAreaStart
  }

  /// Changes what programs may do with [address, address + length).
  ///
  /// - Throws: EINVAL for an unaligned address; ENOMEM where nothing is mapped (what lies below is changed already);
  ///   EACCES when a shared mapping of a file opened for reading would become writable.
  @export(interface)
  public func protect(
    _ address: UInt64, _ length: UInt64, _ protection: Protection, extent: ProtectionExtent = .range
  ) throws(Errno) {
    guard address & pageMask == 0 else { throw .EINVAL }
    if length == 0 { return }
    guard let length = roundedUpToPage(length) else { throw .ENOMEM }
    guard Self.isUserRange(address, length) else { throw .ENOMEM }
    var gather = MappingGather(space: machineSpace)
    try changeAreas { state throws(Errno) in
      defer { gather.finish() }
      var start = address
      let end = address &+ length
      if extent == .fromAreaStart {
        guard let area = state.map.find(address) else { throw .ENOMEM }
        guard area.flags.contains(.growsDown) else { throw .EINVAL }
        start = area.start
      }
      var position = start
      while position < end {
        guard let area = state.map.find(position) else { throw .ENOMEM }
        guard protection.isSubset(of: area.maximumProtection) else { throw .EACCES }
        let stop = min(area.end, end)
        if area.protection != protection { try change(&state, area, position, stop, protection, &gather) }
        position = stop
        Thread.checkReschedule()
      }
    }
  }

  private func change(
    _ state: inout AreaState, _ area: VirtualMemoryArea, _ start: UInt64, _ end: UInt64, _ protection: Protection,
    _ gather: inout MappingGather
  ) throws(Errno) {
    try split(&state, at: start)
    try split(&state, at: end)
    guard let area = state.map.find(start) else { throw .ENOMEM }
    try state.makingTables { () throws(Errno) in
      try tables.withLock { tables throws(Errno) in
        try tables.unlinkObjectTables(area.start, area.end, into: &gather)
        try tables.makeExclusive(area.start, area.end)
      }
    }
    // Memory that becomes writable is a promise from now on; it stays one when it becomes read-only again.
    if Self.isAccountable(protection, area.flags), !area.flags.contains(.accounted) {
      if state.limits.data != .max,
        UInt64(max(0, state.dataPages &+ area.pageCount)) > state.limits.data / pageSize
      {
        throw .ENOMEM
      }
      try commit(&state, area.pageCount)
      area.flags.insert(.accounted)
    }
    state.count(area, by: -area.pageCount)
    area.protection = protection
    state.count(area, by: area.pageCount)
    apply(area, &gather)
    mergeAround(&state, area)
  }

  /// Brings the entries of `area` in line with its protection.
  private func apply(_ area: VirtualMemoryArea, _ gather: inout MappingGather) {
    var first: UInt64 = .max
    var last: UInt64 = 0
    var losesRights = false
    // The rights that every present page of the range has now: more must not be given to the machine in one command.
    var common: Protection = .all
    let protection = area.protection
    tables.withLock { tables in
      var offer = MappingOffer(space: machineSpace)
      unsafe tables.forEachSlot(area.start, area.end) { tables, address, slot in
        let old = unsafe PageTableEntry(word: slot.pointee)
        // What is on swap gets its rights when it comes back.
        if old.isSwapped { return }
        var new = old.with(protection: protection, keepingWritable: true)
        if protection.contains(.write), !area.isShared, !old.isObjectPage, old.isCounted,
          Frames.isExclusive(old.frame)
        {
          // Nobody else has the page: spare the program the fault.
          new = PageTableEntry(
            frame: old.frame, protection: protection, isWritable: true, marks: PageTableEntry.dirty)
        }
        guard new != old else { return }
        unsafe slot.pointee = new.word
        let before: Protection = old.isPresent ? old.machineProtection : []
        let after: Protection = new.isPresent ? new.machineProtection : []
        if !before.isSubset(of: after) {
          losesRights = true
          first = min(first, address)
          last = max(last, address &+ pageSize)
        }
        if new.isPresent { common.formIntersection(after) }
      }
      guard losesRights else {
        // More rights: what is left out here comes back through faults.
        tables.forEach(area.start, area.end) { address, entry in
          if offer.commands < Self.largestOffer { offer.add(address, entry) }
        }
        offer.finish()
        return
      }
      if protection.isEmpty {
        gather.unmap(first, length: last &- first)
        gather.flushRun()
      } else {
        common.formIntersection(protection)
        tables.forEach(first, last) { _, entry in
          if entry.isPresent { common.formIntersection(entry.machineProtection) }
        }
        gather.protect(first, length: last &- first, common)
      }
    }
  }
}
