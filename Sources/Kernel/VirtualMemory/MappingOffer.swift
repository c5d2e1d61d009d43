// Offers the machine mappings which the page tables hold, in runs: pages that are neighbours in the address space and in
// guest memory, with the same rights, are one command. On the user machine each command costs a host mapping, and a
// mapping that is not offered costs a fault of 12–20 us when it is touched.

import Machine
import PhysicalMemory

/// A run in the making; end it with `finish()`, with the page-table lock still held.
struct MappingOffer {
  private let space: Int64
  /// MACHINE_MAP_FILL, or nothing.
  private let mark: UInt64
  private var address: UInt64 = 0
  private var physical: UInt64 = 0
  private var length: UInt64 = 0
  private var protection: UInt64 = 0
  /// Commands sent so far.
  private(set) var commands = 0

  /// `filling`: the program is about to write to all of it, and none of it is fresh.
  init(space: Int64, filling: Bool = false) {
    self.space = space
    mark = filling ? UInt64(MACHINE_MAP_FILL) : 0
  }

  @inline(__always)
  mutating func add(_ address: UInt64, _ entry: PageTableEntry) {
    // A page that reclaim has aged comes back through a fault, which notes the use.
    guard entry.isPresent, entry.isAccessed else { return }
    let physical = entry.frame.rawValue << 12
    let protection = entry.machineRights
    if length != 0, self.address &+ length == address, self.physical &+ length == physical,
      self.protection == protection
    {
      length &+= pageSize
      return
    }
    finish()
    (self.address, self.physical, self.length, self.protection) = (address, physical, pageSize, protection)
  }

  mutating func finish() {
    guard length != 0 else { return }
    machine_space_map(space, address, physical, length, protection | mark)
    Counters.add(1, to: Counters.machineMaps)
    commands &+= 1
    length = 0
  }
}
