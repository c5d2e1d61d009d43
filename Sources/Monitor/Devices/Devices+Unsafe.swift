// The device table: which devices the machine has, and the entry points behind the VMI's device operations.

import CDevices
import CMachine
import Glibc
import Synchronization

/// The machine's devices. Filled before the machine starts, constant afterwards.
public enum Devices {
  /// Descriptors in a queue.
  static let queueSize: UInt32 = 256

  @safe private final class Slot {
    let device: any VirtioDevice
    let configuration: UnsafeMutableBufferPointer<UInt8>
    /// One at a time in each queue.
    let locks: [QueueLock]

    init(_ device: any VirtioDevice) {
      self.device = device
      // Lives as long as the process: the kernel reads it.
      unsafe configuration = .allocate(capacity: device.configuration.count + 1)
      _ = unsafe configuration.initialize(from: device.configuration + [0])
      locks = (0..<device.queueCount).map { _ in QueueLock() }
    }
  }

  private nonisolated(unsafe) static var slots: [Slot] = []
  private nonisolated(unsafe) static var memory: GuestMemory?

  /// Adds a device, in the order in which the guest sees them.
  ///
  /// - Parameter interrupt: makes the device's interrupt pending; callable from any thread.
  public static func add(_ device: any VirtioDevice, memory: GuestMemory, interrupt: @escaping @Sendable () -> Void) {
    Self.memory = memory
    device.attach(memory: memory, interrupt: interrupt)
    slots.append(Slot(device))
  }

  /// The table for the boot record.
  public static var descriptions: [machine_device] {
    unsafe slots.map { slot in
      unsafe machine_device(
        kind: slot.device.kind, queues: UInt32(slot.device.queueCount), queue_size: queueSize,
        config_length: UInt32(slot.device.configuration.count), features: slot.device.features,
        config: UnsafePointer(slot.configuration.baseAddress))
    }
  }

  /// The host's files behind disks, for the confinement of the process.
  public static var disks: [HostDisk] { slots.compactMap { ($0.device as? Disk)?.file } }

  /// The VMI's device_queue.
  public static func setQueue(
    device: UInt64, queue: UInt64, size: UInt64, descriptors: UInt64, available: UInt64, used: UInt64
  ) -> Int64 {
    guard let memory, let slot = slot(device, queue) else { return -Int64(ENODEV) }
    let lock = slot.locks[Int(queue)]
    lock.acquire()
    defer { lock.release() }
    if size == 0 {
      slot.device.setQueue(Int(queue), nil)
      return 0
    }
    guard size <= queueSize,
      let ring = Virtqueue(memory: memory, size: size, descriptors: descriptors, available: available, used: used)
    else { return -Int64(EINVAL) }
    slot.device.setQueue(Int(queue), ring)
    return 0
  }

  // SAFETY (slots, memory): constant while the machine runs.
  private static func slot(_ device: UInt64, _ queue: UInt64) -> Slot? {
    guard device < UInt64(slots.count), queue < UInt64(slots[Int(device)].locks.count) else { return nil }
    return slots[Int(device)]
  }

  /// The VMI's device_kick.
  public static func kick(device: UInt64, queue: UInt64) {
    guard let slot = slot(device, queue) else { return }
    let lock = slot.locks[Int(queue)]
    lock.acquire()
    defer { lock.release() }
    slot.device.kick(Int(queue))
  }

  /// The machine ends.
  public static func shutDown() {
    for slot in slots { slot.device.shutDown() }
  }
}

/// A mutex of the host.
@safe final class QueueLock: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>

  init() {
    unsafe mutex = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    unsafe pthread_mutex_init(mutex, nil)
  }

  func acquire() { unsafe pthread_mutex_lock(mutex) }
  func release() { unsafe pthread_mutex_unlock(mutex) }

  @inline(__always)
  func withLock<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    acquire()
    defer { release() }
    return try body()
  }

  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }
}
