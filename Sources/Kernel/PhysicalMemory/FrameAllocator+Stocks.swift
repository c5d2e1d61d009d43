// The CPUs' stocks of single frames: filled and drained in batches; and frames put aside for those who must not fail.

import KernelCore
import LinuxABI
import Synchronization

extension PhysicalMemory {
  // SAFETY (of this file): a CPU's stock is used by that CPU only, and every number in it is that of a frame below
  // frameCount. A stock never has more than FrameStock.capacity entries.

  /// Finds a stock with at least one frame for an allocation: this CPU's own of the type, filled from the zones, or the
  /// frames put aside.
  @inline(never)
  func refill(_ options: AllocationOptions) throws(Errno) -> UnsafeMutablePointer<FrameStock> {
    let type = min(options.migrateType, Int(MigrateType.reclaimable.rawValue))
    if options.contains(.mayReclaim), shortage > 0 { _ = Shrinkers.reclaim(frames: shortage) }
    while true {
      // Reclaim may sleep and wake up on another CPU: the stock is looked up again each time.
      let stock = unsafe stock(type, localFrames)
      // What was reclaimed may have come to this CPU's own stock.
      if unsafe stock.pointee.count > 0 || fill(stock, type, options) { return unsafe stock }
      noteFailure(order: 0)
      if options.contains(.mayReclaim), Shrinkers.reclaim(frames: max(unsafe state.pointee.batch, shortage)) > 0 {
        continue
      }
      // Frames of other types that lie in this CPU's stocks will do as well.
      drainLocalFrames()
      if unsafe fill(stock, type, options) { return unsafe stock }
      let aside = unsafe self.stock(LocalMemory.putAside, localFrames)
      if options.contains(.reserved), unsafe aside.pointee.count > 0 { return unsafe aside }
      throw .ENOMEM
    }
  }

  /// Moves frames from the first zone that has any to spare, or else has any, into an empty stock.
  private func fill(_ stock: UnsafeMutablePointer<FrameStock>, _ type: Int, _ options: AllocationOptions) -> Bool {
    if unsafe state.pointee.zoneCount > 1 && fill(stock, type, options, fromAny: false) { return true }
    return unsafe fill(stock, type, options, fromAny: true)
  }

  private func fill(
    _ stock: UnsafeMutablePointer<FrameStock>, _ type: Int, _ options: AllocationOptions, fromAny: Bool
  ) -> Bool {
    let type = MigrateType(rawValue: UInt8(truncatingIfNeeded: type)).unsafelyUnwrapped
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe preferredZone(place)
      if unsafe !fromAny && isLeftAlone(zone, state.pointee.batch) { continue }
      unsafe zone.pointee.lock.acquire()
      let buddy = unsafe buddy(zone)
      // The per-CPU list serves every caller: frames that only this caller may have are taken for it alone.
      let ordinary = unsafe available(zone, [])
      let wanted = unsafe ordinary > 0 ? min(state.pointee.batch, ordinary) : min(1, available(zone, options))
      var taken = 0
      while taken < wanted {
        guard let block = buddy.take(order: 0, type: type) ?? (ordinary > 0 ? nil : buddy.takeSetAside(order: 0)) else {
          break
        }
        let entry = UInt32(truncatingIfNeeded: block.number) | (block.isKnownZero ? FrameStock.knownZero : 0)
        unsafe stock.pointee.entries[taken] = entry
        unsafe state.pointee.frames[Int(block.number)].kind = .cached
        taken &+= 1
      }
      let extent = unsafe takeFreshExtent(zone)
      unsafe zone.pointee.lock.release()
      enlarge(extent)
      guard taken > 0 else { continue }
      unsafe stock.pointee.count = taken
      unsafe noteLevel(zone, order: 0)
      // The stock is a stack: turned round, the lowest frame leaves it first.
      var low = 0
      var high = taken &- 1
      while low < high {
        let entry = unsafe stock.pointee.entries[low]
        unsafe stock.pointee.entries[low] = stock.pointee.entries[high]
        unsafe stock.pointee.entries[high] = entry
        low &+= 1
        high &-= 1
      }
      return true
    }
    return false
  }

  /// Gives back the `count` frames that have been in the stock longest.
  @inline(never)
  func drain(_ stock: UnsafeMutablePointer<FrameStock>, _ count: Int) {
    let total = unsafe stock.pointee.count
    let amount = min(count, total)
    guard amount > 0 else { return }
    var locked: UnsafeMutablePointer<Zone>?
    for index in 0..<amount {
      let entry = unsafe stock.pointee.entries[index]
      let number = UInt64(entry & ~FrameStock.knownZero)
      let zone = unsafe zone(holding: number)
      if unsafe locked != zone {
        if let locked = unsafe locked { unsafe locked.pointee.lock.release() }
        unsafe zone.pointee.lock.acquire()
        unsafe locked = zone
      }
      unsafe state.pointee.frames[Int(number)].kind = .unused
      unsafe buddy(zone).put(number, order: 0, isKnownZero: entry & FrameStock.knownZero != 0)
    }
    if let locked = unsafe locked { unsafe locked.pointee.lock.release() }
    for index in amount..<total { unsafe stock.pointee.entries[index &- amount] = stock.pointee.entries[index] }
    unsafe stock.pointee.count = total &- amount
  }

  /// Gives all of this CPU's stock back, except what is put aside.
  func drainLocalFrames() {
    let local = unsafe localFrames
    for type in 0..<LocalMemory.putAside { unsafe drain(stock(type, local), FrameStock.capacity) }
  }

  // MARK: Frames put aside

  func reserveLocalFrames(_ count: Int, options: AllocationOptions) throws(Errno) {
    guard count >= 0, count <= FrameStock.capacity else { throw .EINVAL }
    while unsafe stock(LocalMemory.putAside, localFrames).pointee.count < count {
      let number: UInt64
      do throws(Errno) {
        number = try allocateSingle(options.subtracting([.reserved, .zeroed])).rawValue
      } catch {
        guard options.contains(.reserved) else { throw error }
        // Not from what is put aside already.
        number = try takeBlock(order: 0, options: .reserved).number
      }
      // Reclaim may have slept: again this CPU's.
      let aside = unsafe stock(LocalMemory.putAside, localFrames)
      guard unsafe aside.pointee.count < FrameStock.capacity else { return giveBack(number, order: 0) }
      let descriptor = unsafe descriptor(number)
      unsafe descriptor.pointee.references.store(0, ordering: .relaxed)
      unsafe descriptor.pointee.kind = .cached
      unsafe aside.pointee.entries[aside.pointee.count] = UInt32(truncatingIfNeeded: number)
      unsafe aside.pointee.count &+= 1
    }
  }

  func releaseLocalReservation() {
    unsafe drain(stock(LocalMemory.putAside, localFrames), FrameStock.capacity)
  }
}
