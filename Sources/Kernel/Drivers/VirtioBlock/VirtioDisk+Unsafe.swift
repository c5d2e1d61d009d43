// A disk of the machine: requests of the block layer become requests of the queue. Heads and status bytes lie in a page
// that is made with the disk, and so do the requests themselves: nothing is allocated on the way to the disk.

import Block
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Virtio

/// A disk.
final class VirtioDisk: BlockDevice {
  private let virtqueue: Virtqueue
  private let hasFlush: Bool
  private let free: SpinLock<[DiskRequest]>
  /// Requests under way, at most: a page of heads.
  private static let requestCount = PhysicalMemory.pageSize / DiskRequest.size

  /// - Throws: ENOMEM; what the machine answers.
  init(
    _ device: VirtioDevice, _ configuration: DiskConfiguration, name: ByteString, number: DeviceNumber
  ) throws(Errno) {
    virtqueue = try Virtqueue(device, index: 0)
    hasFlush = configuration.hasFlush
    let memory = try DeviceMemory(order: 0)
    free = SpinLock([], rank: .device)
    super.init(
      name: name, number: number, sectorCount: configuration.sectorCount, isReadOnly: configuration.isReadOnly,
      limits: configuration.limits)
    let requests = (0..<Self.requestCount).map { slot in
      DiskRequest(self, memory, slot: slot, segments: configuration.limits.segments)
    }
    free.withLock { $0 = requests }
    virtqueue.registerInterrupt()
  }

  override func poll() { virtqueue.collect() }

  override func start(_ request: BlockIO) -> Bool {
    if request.operation == .flush, !hasFlush {
      complete(request, nil)
      return true
    }
    guard let slot = free.withLock({ $0.popLast() }) else { return false }
    slot.describe(request)
    do throws(Errno) {
      if try virtqueue.trySubmit(slot) { return true }
    } catch {
      _ = slot.take()
      free.withLock { $0.append(slot) }
      complete(request, error)
      return true
    }
    _ = slot.take()
    free.withLock { $0.append(slot) }
    return false
  }

  /// The device has answered.
  fileprivate func didComplete(_ slot: DiskRequest) {
    let error = slot.error
    guard let request = slot.take() else { panic("a disk's request was answered twice") }
    free.withLock { $0.append(slot) }
    complete(request, error)
  }
}

/// A request to a disk: a head of 16 bytes, for discards and the like a range of 16 more, the data, a status byte.
private final class DiskRequest: VirtioRequest {
  static let size = 64
  private static let rangeOffset = 16
  private static let statusOffset = 32

  // SAFETY: a disk is never freed, and owns its requests.
  private unowned(unsafe) let disk: VirtioDisk
  private let memory: DeviceMemory
  private let offset: Int
  private var request: BlockIO?

  init(_ disk: VirtioDisk, _ memory: DeviceMemory, slot: Int, segments: Int) {
    unsafe self.disk = disk
    self.memory = memory
    offset = slot * Self.size
    super.init()
    reserveCapacity(segments + 3)
  }

  // SAFETY (of this file): `offset` and what follows it lie in `memory`, a page; the slot is this request's alone.

  /// Writes the head and lists the memory.
  func describe(_ request: BlockIO) {
    self.request = request
    reset()
    let kind: UInt32 =
      switch request.operation {
      case .read: 0
      case .write: 1
      case .flush: 4
      case .discard: 11
      case .clear: 13
      }
    let sector = request.operation.hasData ? request.sector : 0
    unsafe memory.bytes.storeBytes(of: kind.littleEndian, toByteOffset: offset, as: UInt32.self)
    unsafe memory.bytes.storeBytes(of: 0, toByteOffset: offset + 4, as: UInt32.self)
    unsafe memory.bytes.storeBytes(of: sector.littleEndian, toByteOffset: offset + 8, as: UInt64.self)
    unsafe memory.bytes.storeBytes(of: 0xff, toByteOffset: offset + Self.statusOffset, as: UInt8.self)
    addReadable(memory.segment(offset, 16))
    switch request.operation {
    case .read: request.forEachSegment { addWritable($0) }
    case .write: request.forEachSegment { addReadable($0) }
    case .flush: break
    case .discard, .clear:
      let place = offset + Self.rangeOffset
      // The one flag lets the device give the space of cleared sectors back.
      let flags: UInt32 = request.operation == .clear ? 1 : 0
      unsafe memory.bytes.storeBytes(of: request.sector.littleEndian, toByteOffset: place, as: UInt64.self)
      unsafe memory.bytes.storeBytes(
        of: UInt32(truncatingIfNeeded: request.rangeCount).littleEndian, toByteOffset: place + 8, as: UInt32.self)
      unsafe memory.bytes.storeBytes(of: flags.littleEndian, toByteOffset: place + 12, as: UInt32.self)
      addReadable(memory.segment(place, 16))
    }
    addWritable(memory.segment(offset + Self.statusOffset, 1))
  }

  /// What the device says of the outcome; a queue that was given up has written nothing.
  var error: Errno? {
    switch unsafe memory.bytes.load(fromByteOffset: offset + Self.statusOffset, as: UInt8.self) {
    case 0 where written > 0: nil
    case 2: .EOPNOTSUPP
    default: .EIO
    }
  }

  /// The request of the block layer, which is not this one's any more.
  func take() -> BlockIO? {
    defer { request = nil }
    return request
  }

  override func didComplete() { unsafe disk.didComplete(self) }
}
