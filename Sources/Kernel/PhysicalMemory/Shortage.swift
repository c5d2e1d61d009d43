// Noticing that memory runs short, and telling those who can do something about it.
//
// An allocation that leaves a zone below its low watermark, or finds no block of its order, notes so. Reclaim is a thread
// of a higher room: it installs a waker. Allocations happen under spin locks, those of the heap among them, where nobody
// may be woken; then the note stays until the next allocation without a lock, or until `FrameAllocator.wakeReclaim`.

import KernelCore
import Synchronization

/// What wakes the thread that reclaims memory.
public protocol ReclaimWaker: AnyObject {
  /// A node runs short: it should have more free frames, and a free block of this order. Called without spin locks, once
  /// until `FrameAllocator.takeShortage`; it must not sleep.
  func memoryIsShort(node: Int, order: Int)
}

extension PhysicalMemory {
  // SAFETY (of this file): zones are never freed; the waker is installed once, at boot.

  var isShort: Bool { unsafe state.pointee.isShort.load(ordering: .relaxed) }

  func takeShortage() -> Int {
    unsafe state.pointee.isShort.store(false, ordering: .relaxed)
    AdmissionGate.open(.shortage)
    unsafe state.pointee.wakeIsDue.store(false, ordering: .relaxed)
    return shortage
  }

  func takeWantedOrder() -> Int { unsafe state.pointee.wantedOrder.exchange(0, ordering: .relaxed) }

  func install(_ waker: any ReclaimWaker) { unsafe state.pointee.waker = waker }

  /// Notes when the zone is below its low watermark, or has no second block of this order.
  @inline(__always)
  func noteLevel(_ zone: UnsafeMutablePointer<Zone>, order: Int) {
    if unsafe !zone.pointee.isOK(order: order, mark: .low) { noteFailure(order: order) }
  }

  @inline(never)
  func noteFailure(order: Int) {
    let wanted = unsafe state.pointee.wantedOrder.load(ordering: .relaxed)
    let isMore = order > wanted
    if isMore { unsafe state.pointee.wantedOrder.store(order, ordering: .relaxed) }
    if unsafe !state.pointee.isShort.load(ordering: .relaxed) || isMore {
      unsafe state.pointee.isShort.store(true, ordering: .relaxed)
      AdmissionGate.close(.shortage)
      unsafe state.pointee.wakeIsDue.store(true, ordering: .relaxed)
    }
    if CPU.lockDepth == 0 { wakeReclaim() }
  }

  func wakeReclaim() {
    guard unsafe state.pointee.wakeIsDue.load(ordering: .relaxed), let waker = unsafe state.pointee.waker,
      unsafe state.pointee.wakeIsDue.exchange(false, ordering: .relaxed)
    else { return }
    let order = unsafe state.pointee.wantedOrder.load(ordering: .relaxed)
    for node in 0..<(unsafe state.pointee.nodeCount) where isShort(node: node, order: order) {
      waker.memoryIsShort(node: node, order: order)
    }
  }

  /// Whether none of a node's zones has a block of this order above the low watermark, or one is below it.
  private func isShort(node: Int, order: Int) -> Bool {
    var hasBlock = false
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      guard unsafe zone.pointee.node == node else { continue }
      if unsafe !zone.pointee.isOK(order: 0, mark: .low) { return true }
      if unsafe zone.pointee.isOK(order: order, mark: .low) { hasBlock = true }
    }
    return !hasBlock
  }
}
