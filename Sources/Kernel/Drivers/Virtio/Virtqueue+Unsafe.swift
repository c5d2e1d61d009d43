// The driver's side of a split virtqueue (virtio 1.2, section 2.7).
//
// A request becomes a chain of descriptors; its head goes into the available ring, and the kick tells the device. On the
// user machine the kick is a plain call in which the device answers nearly everything: the used ring is looked at right
// after it, and most requests cost no sleep and no interrupt. What the device answers later it announces by its interrupt.
//
// Several CPUs may submit at once: the rings are changed under a spin lock, the kick is made without it. A kick can
// complete requests of other threads; the thread that finds a completed request in the used ring wakes its owner.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling
import Synchronization

/// A queue of requests to a device.
@safe public final class Virtqueue {
  private struct Rings {
    /// Unused descriptors are linked through their `next` field.
    var firstFree: UInt16 = 0
    var freeCount: Int
    var nextAvailable: UInt16 = 0
    var nextUsed: UInt16 = 0
    /// The requests under way, by the first descriptor of their chains.
    var requests: [VirtioRequest?]
    var isBroken = false
  }

  /// A descriptor as it lies in memory (virtio 1.2, section 2.7.5).
  private struct Descriptor {
    var address: UInt64
    var length: UInt32
    var flags: UInt16
    var next: UInt16
    static var hasNext: UInt16 { 1 }
    static var deviceWrites: UInt16 { 2 }
  }

  public let device: VirtioDevice
  public let index: Int
  /// Descriptors in the queue: the most that one request can have.
  public let size: Int
  private let memory: DeviceMemory
  private let availableOffset: Int
  private let usedOffset: Int
  private let rings: SpinLock<Rings>
  /// Threads that wait for free descriptors.
  private let room = WaitQueue()

  /// Sets up queue `index` of `device` and registers it with the machine.
  ///
  /// - Throws: ENOMEM; ENODEV when the device has no such queue; what the machine answers.
  @export(interface)
  public init(_ device: VirtioDevice, index: Int) throws(Errno) {
    guard index >= 0, index < device.queueCount, device.queueSize > 0 else { throw .ENODEV }
    self.device = device
    self.index = index
    // The largest power of two that the device takes, 256 at most: a 128 KiB transfer has 34 descriptors.
    size = 1 << (Int.bitWidth - 1 - min(device.queueSize, 256).leadingZeroBitCount)
    availableOffset = 16 * size
    usedOffset = (availableOffset + 6 + 2 * size + 3) & ~3
    var order = 0
    while PhysicalMemory.pageSize << order < usedOffset + 6 + 8 * size { order += 1 }
    memory = try DeviceMemory(order: order)
    rings = SpinLock(Rings(freeCount: size, requests: Array(repeating: nil, count: size)), rank: .device)
    unsafe memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    for number in 0..<size { unsafe descriptors[number].next = UInt16(truncatingIfNeeded: number + 1) }
    let base = memory.physicalAddress
    let status = machine_device_queue(
      UInt64(device.number), UInt64(index), UInt64(size), base, base + UInt64(availableOffset),
      base + UInt64(usedOffset))
    if status < 0 { throw Errno(rawValue: Int32(truncatingIfNeeded: -status)) }
  }

  deinit {
    // The device forgets the rings before their memory is freed.
    _ = machine_device_queue(UInt64(device.number), UInt64(index), 0, 0, 0, 0)
  }

  /// Looks for completed requests whenever the device interrupts. A device with several queues registers one handler that
  /// calls `collect()` on each.
  @export(interface)
  public func registerInterrupt() {
    Interrupts.register(device: device.number) { [self] in collect() }
  }

  // MARK: Requests

  /// Performs `request`: returns when the device has answered it.
  ///
  /// - Throws: EIO when the device broke the protocol, EINVAL for a request without segments or with more than `size`.
  /// - Locks: sleeps.
  @export(interface)
  public func perform(_ request: VirtioRequest) throws(Errno) {
    request.sleeper = Thread.current
    defer { request.sleeper = nil }
    try submit(request)
    if !request.isComplete {
      // Uninterruptible: the device may write to the request's memory until it has answered.
      try Thread.sleep(.uninterruptible) {
        collect()
        return request.isComplete
      }
    }
    if request.written < 0 { throw .EIO }
  }

  /// Hands `request` to the device; `didComplete` is called when it has been answered, maybe before this returns.
  ///
  /// - Throws: as `perform`.
  /// - Locks: sleeps while the queue is full.
  @export(interface)
  public func submit(_ request: VirtioRequest) throws(Errno) {
    if try trySubmit(request) { return }
    var outcome = Outcome.full
    try room.wait(.uninterruptible, exclusive: true) {
      outcome = enqueue(request)
      return outcome != .full
    }
    if outcome == .broken { throw .EIO }
    kick()
  }

  /// `submit` for those who cannot sleep: false when the queue is full. It has room again after a completion.
  ///
  /// - Throws: as `perform`.
  @export(interface)
  public func trySubmit(_ request: VirtioRequest) throws(Errno) -> Bool {
    guard !request.segments.isEmpty, request.segments.count <= size else { throw .EINVAL }
    request.state.store(false, ordering: .relaxed)
    request.written = 0
    switch enqueue(request) {
    case .broken: throw .EIO
    case .full: return false
    case .queued:
      kick()
      return true
    }
  }

  private func kick() {
    machine_device_kick(UInt64(device.number), UInt64(index))
    collect()
  }

  private enum Outcome { case queued, full, broken }

  private func enqueue(_ request: VirtioRequest) -> Outcome {
    rings.withLock { rings in
      if rings.isBroken { return .broken }
      let count = request.segments.count
      guard count <= rings.freeCount else { return .full }
      let head = rings.firstFree
      var number = head
      for place in 0..<count {
        let segment = request.segments[place]
        let isLast = place == count - 1
        // SAFETY: free descriptors are linked, and there are `count` of them: `number` is below `size`. The device does
        // not look at descriptors before they are in the available ring.
        let next = unsafe descriptors[Int(number)].next
        let flags = (place < request.readableCount ? 0 : Descriptor.deviceWrites) | (isLast ? 0 : Descriptor.hasNext)
        unsafe descriptors[Int(number)] = Descriptor(
          address: segment.physicalAddress, length: segment.length, flags: flags, next: next)
        number = next
      }
      rings.firstFree = number
      rings.freeCount -= count
      rings.requests[Int(head)] = request
      // SAFETY: the slot lies in the available ring, which has `size` of them.
      unsafe base.storeBytes(
        of: head, toByteOffset: availableOffset + 4 + 2 * (Int(rings.nextAvailable) & (size - 1)), as: UInt16.self)
      rings.nextAvailable &+= 1
      unsafe counter(availableOffset + 2).pointee.store(rings.nextAvailable, ordering: .releasing)
      return .queued
    }
  }

  /// Takes the answered requests out of the used ring and tells those who wait for them. Callable from interrupts.
  @export(interface)
  public func collect() {
    guard var request = takeComplete() else { return }
    room.wakeAll()
    while true {
      let next = request.nextComplete
      request.nextComplete = nil
      // The request is the waiter's again, and may be gone, as soon as it is marked.
      if let sleeper = request.sleeper {
        request.state.store(true, ordering: .releasing)
        if sleeper !== Thread.current { sleeper.wake() }
      } else {
        request.state.store(true, ordering: .releasing)
        request.didComplete()
      }
      guard let next else { return }
      request = next
    }
  }

  private func takeComplete() -> VirtioRequest? {
    rings.withLock { rings in
      var list: VirtioRequest?
      // SAFETY: the counter and the slots lie in the used ring.
      let produced = unsafe counter(usedOffset + 2).pointee.load(ordering: .acquiring)
      while rings.nextUsed != produced {
        let slot = usedOffset + 4 + 8 * (Int(rings.nextUsed) & (size - 1))
        let head = unsafe base.load(fromByteOffset: slot, as: UInt32.self)
        let written = unsafe base.load(fromByteOffset: slot + 4, as: UInt32.self)
        guard let head = Int(exactly: head), head < size, let request = rings.requests[head] else {
          breakQueue(&rings, &list)
          return list
        }
        rings.nextUsed &+= 1
        rings.requests[head] = nil
        free(UInt16(truncatingIfNeeded: head), count: request.segments.count, &rings)
        request.written = Int(written)
        request.nextComplete = list
        list = request
      }
      return list
    }
  }

  /// The device answered what nobody asked. Nothing that it says counts any more: all requests fail with EIO.
  private func breakQueue(_ rings: inout Rings, _ list: inout VirtioRequest?) {
    Log.error("virtio: device \(device.number) queue \(index): an answer to no request; the queue is given up")
    rings.isBroken = true
    for head in 0..<size {
      guard let request = rings.requests[head] else { continue }
      rings.requests[head] = nil
      request.written = -1
      request.nextComplete = list
      list = request
    }
  }

  private func free(_ head: UInt16, count: Int, _ rings: inout Rings) {
    // The links of a chain are the driver's own: the device only reads descriptors.
    var last = head
    // SAFETY: the chain was made of `count` linked descriptors.
    for _ in 1..<max(count, 1) { last = unsafe descriptors[Int(last)].next }
    unsafe descriptors[Int(last)].next = rings.firstFree
    rings.firstFree = head
    rings.freeCount += count
  }

  // MARK: Memory
  // SAFETY: `memory` holds the three parts; descriptors and indices are written only under the lock.

  private var base: UnsafeMutableRawPointer {
    @inline(__always) get { unsafe memory.bytes.baseAddress.unsafelyUnwrapped }
  }
  private var descriptors: UnsafeMutablePointer<Descriptor> {
    @inline(__always) get { unsafe base.assumingMemoryBound(to: Descriptor.self) }
  }
  @inline(__always)
  private func counter(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt16>> {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt16>.self)
  }
}
