// On which nodes a space's pages lie: get_mempolicy(2), move_pages(2).

import KernelCore
import LinuxABI
import PhysicalMemory

extension AddressSpace {
  /// The node of the page at an address; nil when none is there. The page of zeros is nobody's.
  @export(interface)
  public func node(at address: UInt64) -> Int? {
    tables.withLock { tables in
      let entry = tables.entry(address & ~pageMask)
      guard entry.isPresent, entry.frame != Frames.zeroPage else { return nil }
      return entry.frame.node
    }
  }
}
