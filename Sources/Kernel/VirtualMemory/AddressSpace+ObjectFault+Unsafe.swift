// Page faults on memory objects: the object's page, or a private copy of it, and its resident neighbours enter the tables.
//
// A fault and a truncation meet by the object's version, which the fault reads first and compares under the table lock.
//
// SAFETY: as in AddressSpace+Fault: a slot is used under the table lock only, and its neighbours are reached within its table.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Synchronization

extension AddressSpace {
  func fillFromObject(_ area: VirtualMemoryArea, _ page: UInt64, _ access: Access) -> Resolution {
    guard let object = area.object else { return .failed(.notMapped) }
    let fresh = prefill(area, page, object)
    while true {
      let version = object.version
      let found: PageFrameNumber?
      do throws(Errno) {
        found = try object.pageForFault(area.objectIndex(page), allocating: area.isShared || access != .write) {
          majorFaults.add(1, ordering: .relaxed)
        }
      } catch {
        switch error {
        case .ENOMEM: return .outOfMemory
        default: return .failed(.bus)
        }
      }
      // nil: a hole of a storeless object, about to be written privately.
      let result: Resolution? = tables.withLock { tables in
        // Truncation first changes the version, then empties entries under this lock: either it sees our entry, or we
        // see its version.
        guard object.version == version else { return nil }
        return install(&tables, area, page, access, found, object, fresh)
      }
      if let found { Frames.release(found) }
      if let result { return result }
    }
  }

  /// Puts the object's page, or a private copy of it, into the tables.
  private func install(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64, _ access: Access,
    _ found: PageFrameNumber?, _ object: MemoryObject, _ fresh: Range<UInt64>?
  ) -> Resolution {
    do throws(Errno) {
      let place =
        access == .write
        ? try tables.ensurePlace(page, area, object) : try tables.placeForReading(page, area, object)
      guard let slot = unsafe place.slot, unsafe slot.pointee == 0 else {
        // Another thread was faster, or the object's table has it: if that is not enough, the access is tried again.
        offerAround(&tables, area, page)
        return .done
      }
      if access == .write, !area.isShared {
        let frame = if let found { try copy(of: found) } else { try Frames.allocateZeroed() }
        Counters.add(1, to: Counters.anonymousPages)
        enlist(frame, at: page)
        unsafe tables.install(writable(frame, area, 0), in: slot)
        offer(page, unsafe PageTableEntry(word: slot.pointee))
        return .done
      }
      guard let found else { return .failed(.bus) }
      // Clean pages of a store are shown read-only, so that the first write is noticed; memory without a store has
      // nothing to be written back to.
      let isWritable = area.isShared && (access == .write || !object.hasStore)
      if isWritable { object.markDirty(area.objectIndex(page)) }
      Frames.retain(found)
      let entry = PageTableEntry(
        frame: found, protection: area.protection, isWritable: isWritable, marks: PageTableEntry.objectPage)
      guard tables.installInPlace(entry, in: place) else {
        Frames.release(found)
        return .done
      }
      if let fresh {
        area.nextFault = fresh.upperBound
        area.faultWindow = (fresh.upperBound &- fresh.lowerBound) / pageSize
      }
      var offer = MappingOffer(space: machineSpace, filling: access == .write && fresh == nil)
      installAround(&tables, area, fresh ?? nextReadWindow(area, page), page, place, object, &offer)
      offer.finish()
      return .done
    } catch {
      return .outOfMemory
    }
  }

  /// The pages that are mapped with `page`, if the object has them: more while faults follow each other and memory is
  /// plenty. MADV_RANDOM does not matter here, for nothing is read.
  private func nextReadWindow(_ area: VirtualMemoryArea, _ page: UInt64) -> Range<UInt64> {
    var pages = Self.faultAroundPages
    let isNext = area.nextRead == page  // what lies below has been mapped
    if isNext, FrameAllocator.shortage == 0 { pages = min(area.readWindow &* 4, Self.tableWindow) }
    let window = around(area, page, pages)
    area.nextRead = window.upperBound
    area.readWindow = pages
    return isNext ? page..<window.upperBound : window
  }

  /// Makes a window of fresh pages around `page` in shared memory without a name, which grows while faults follow each
  /// other; nil if `page` gets none so.
  private func prefill(_ area: VirtualMemoryArea, _ page: UInt64, _ object: MemoryObject) -> Range<UInt64>? {
    guard area.isShared, area.source == nil, !object.hasStore else { return nil }
    var pages = tables.withLock { _ in nextWindow(area, page) }
    while pages > 1 {
      let start = page & ~(pages &* pageSize &- 1)
      if start >= area.start, start &+ pages &* pageSize <= area.end,
        object.makeFresh(from: area.objectIndex(start), order: pages.trailingZeroBitCount)
      {
        return start..<start &+ pages &* pageSize
      }
      pages /= 2
    }
    return nil
  }

  /// Maps the neighbours of `page` in `window` that the object has in memory, and offers the pages that are new in the tables:
  /// the machine has been offered the others.
  private func installAround(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ window: Range<UInt64>, _ page: UInt64,
    _ place: PageTables.Place, _ object: MemoryObject, _ offer: inout MappingOffer
  ) {
    let before = Int(truncatingIfNeeded: (page &- window.lowerBound) / pageSize)
    let first = place.advanced(by: -before)
    let count = Int(truncatingIfNeeded: (window.upperBound &- window.lowerBound) / pageSize)
    let isWritable = area.isShared && !object.hasStore
    object.forEachResident(from: area.objectIndex(window.lowerBound), count: count) { index, frame in
      let place = first.advanced(by: index)
      let address = window.lowerBound &+ UInt64(index) &* pageSize
      guard unsafe place.slot?.pointee == 0 else {
        if index == before { offer.add(address, tables.entry(address)) }
        return
      }
      Frames.retain(frame)
      let entry = PageTableEntry(
        frame: frame, protection: area.protection, isWritable: isWritable, marks: PageTableEntry.objectPage)
      if tables.installInPlace(entry, in: place) { offer.add(address, entry) } else { Frames.release(frame) }
    }
  }
}
