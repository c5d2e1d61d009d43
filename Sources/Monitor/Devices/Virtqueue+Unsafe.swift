// The device's side of a split virtqueue (virtio 1.2, section 2.7). The rings are the guest's memory and can change under
// the device's hands: each field is read once and checked; chains have a bounded length, so that a loop of descriptors
// ends.

import Synchronization

/// A request of the guest: the buffers of one descriptor chain.
@safe public struct DescriptorChain {
  let head: UInt16
  /// What the guest hands to the device, in order.
  public let readable: [UnsafeMutableRawBufferPointer]
  /// What the device fills, in order.
  public let writable: [UnsafeMutableRawBufferPointer]

  public var readableCount: Int { unsafe readable.reduce(0) { $0 + $1.count } }
  public var writableCount: Int { unsafe writable.reduce(0) { $0 + $1.count } }

  /// A copy of the first `limit` readable bytes.
  public func copyReadable(limit: Int) -> [UInt8] {
    var copy: [UInt8] = []
    for index in unsafe readable.indices where copy.count < limit {
      // SAFETY: the buffers were checked against guest memory when the chain was taken.
      unsafe copy.append(contentsOf: readable[index].prefix(limit - copy.count))
    }
    return copy
  }

  /// Writes `bytes` into the writable buffers from byte `offset` on; how many fitted.
  @discardableResult
  public func write(_ bytes: [UInt8], at offset: Int = 0) -> Int {
    var skip = offset
    var written = 0
    for index in unsafe writable.indices where written < bytes.count {
      let buffer = unsafe writable[index]
      if unsafe skip >= buffer.count {
        unsafe skip -= buffer.count
        continue
      }
      let count = unsafe min(buffer.count - skip, bytes.count - written)
      unsafe bytes.withUnsafeBytes { source in
        // SAFETY: `skip + count` ≤ the buffer's size, `written + count` ≤ the array's.
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[skip..<skip + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[written..<written + count]))
      }
      written += count
      skip = 0
    }
    return written
  }
}

/// A queue that the guest has registered.
@safe public final class Virtqueue: @unchecked Sendable {
  /// A chain with more descriptors than this is malformed.
  static let longestChain = 512

  private let memory: GuestMemory
  private let size: UInt16
  private let descriptors: UnsafeMutableRawBufferPointer
  private let available: UnsafeMutableRawBufferPointer
  private let used: UnsafeMutableRawBufferPointer
  private var nextAvailable: UInt16 = 0
  private var nextUsed: UInt16 = 0
  /// Set when the guest broke the protocol; the queue is dead from then on.
  public private(set) var isBroken = false

  /// - Returns: nil when the rings do not lie in guest memory or the size is no power of two up to 32,768.
  public init?(memory: GuestMemory, size: UInt64, descriptors: UInt64, available: UInt64, used: UInt64) {
    guard size > 0, size <= 32768, size & (size - 1) == 0, descriptors % 16 == 0, available % 2 == 0, used % 4 == 0,
      let descriptorTable = unsafe memory.bytes(at: descriptors, count: 16 * size),
      let availableRing = unsafe memory.bytes(at: available, count: 4 + 2 * size),
      let usedRing = unsafe memory.bytes(at: used, count: 4 + 8 * size)
    else { return nil }
    self.memory = memory
    self.size = UInt16(size)
    unsafe self.descriptors = descriptorTable
    unsafe self.available = availableRing
    unsafe self.used = usedRing
  }

  /// Takes the next request, nil when there is none (or the queue is broken).
  public func next() -> DescriptorChain? {
    guard !isBroken else { return nil }
    // SAFETY: all offsets lie in the rings, whose sizes `init` checked against guest memory.
    let produced = unsafe load16(available, 2, ordering: .acquiring)
    guard produced != nextAvailable else { return nil }
    let slot = Int(nextAvailable % size)
    let head = unsafe load16(available, 4 + 2 * slot, ordering: .relaxed)
    nextAvailable &+= 1
    guard let chain = chain(from: head) else {
      isBroken = true
      return nil
    }
    return chain
  }

  /// The guest broke the protocol in a way that only the device sees: nothing more is taken from it.
  func giveUp() { isBroken = true }

  private func chain(from head: UInt16) -> DescriptorChain? {
    var readable: [UnsafeMutableRawBufferPointer] = unsafe []
    var writable: [UnsafeMutableRawBufferPointer] = unsafe []
    var index = head
    for _ in 0..<Self.longestChain {
      guard index < size else { return nil }
      let entry = unsafe UnsafeRawBufferPointer(rebasing: descriptors[Int(index) * 16..<Int(index) * 16 + 16])
      let address = unsafe entry.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
      let length = unsafe entry.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
      let flags = unsafe entry.loadUnaligned(fromByteOffset: 12, as: UInt16.self)
      let next = unsafe entry.loadUnaligned(fromByteOffset: 14, as: UInt16.self)
      guard let buffer = unsafe memory.bytes(at: address, count: UInt64(length)), flags & 4 == 0 else { return nil }
      if flags & 2 != 0 {
        unsafe writable.append(buffer)
      } else {
        guard unsafe writable.isEmpty else { return nil }
        unsafe readable.append(buffer)
      }
      if flags & 1 == 0 { return unsafe DescriptorChain(head: head, readable: readable, writable: writable) }
      index = next
    }
    return nil
  }

  /// Hands a request back; `written` counts the bytes put into its writable buffers.
  public func complete(_ chain: DescriptorChain, written: Int) {
    let slot = Int(nextUsed % size)
    // SAFETY: as in `next`.
    unsafe used.storeBytes(of: UInt32(chain.head), toByteOffset: 4 + 8 * slot, as: UInt32.self)
    unsafe used.storeBytes(of: UInt32(clamping: written), toByteOffset: 8 + 8 * slot, as: UInt32.self)
    nextUsed &+= 1
    unsafe store16(used, 2, nextUsed)
  }

  private func load16(_ buffer: UnsafeMutableRawBufferPointer, _ offset: Int, ordering: Ordering) -> UInt16 {
    let address = unsafe (buffer.baseAddress! + offset).assumingMemoryBound(to: Atomic<UInt16>.self)
    return switch ordering {
    case .acquiring: unsafe address.pointee.load(ordering: .acquiring)
    case .relaxed: unsafe address.pointee.load(ordering: .relaxed)
    }
  }

  private enum Ordering { case acquiring, relaxed }

  private func store16(_ buffer: UnsafeMutableRawBufferPointer, _ offset: Int, _ value: UInt16) {
    let address = unsafe (buffer.baseAddress! + offset).assumingMemoryBound(to: Atomic<UInt16>.self)
    unsafe address.pointee.store(value, ordering: .releasing)
  }
}
