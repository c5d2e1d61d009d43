// What a device is to the machine: a kind, a configuration, and queues that the guest registers and kicks.

/// A virtio device.
///
/// `kick` runs on the thread of the CPU that kicked, on its host stack: what can be answered at once is answered before
/// it returns; what cannot is handed to a thread of the device, which calls `interrupt` when it is done.
public protocol VirtioDevice: AnyObject, Sendable {
  /// The virtio device identifier (virtio 1.2, section 5).
  var kind: UInt32 { get }
  var queueCount: Int { get }
  /// The feature bits on offer; a driver need not accept any.
  var features: UInt64 { get }
  /// The device-specific configuration, constant.
  var configuration: [UInt8] { get }

  /// Called once when the device gets its place: `interrupt` may be called by any thread.
  func attach(memory: GuestMemory, interrupt: @escaping @Sendable () -> Void)
  /// The guest registered queue `index`, or with nil took it away.
  func setQueue(_ index: Int, _ queue: Virtqueue?)
  /// The guest added requests to queue `index`. Calls for one queue never overlap.
  func kick(_ index: Int)
  /// The machine ends: flush what is under way.
  func shutDown()
}

extension VirtioDevice {
  /// VERSION_1 alone.
  public var features: UInt64 { 1 << 32 }
  public func shutDown() {}
}
