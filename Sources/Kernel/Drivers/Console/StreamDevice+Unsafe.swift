// The driver of the host-stream device (Sources/Monitor/Devices/Console): requests on the streams behind the command's
// standard descriptors, the host's terminal, and the trace file.
//
// Reads and writes never wait in the device: it answers EAGAIN, and the driver asks for a notification when the stream is ready
// (`StreamPoll`). So nothing is read from the host before a program asks for it, and nothing more than it asks for.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory
import Virtio

/// The streams of the device, by number.
enum StreamNumber {
  static let terminal: UInt32 = 3
  static let trace: UInt32 = 4
}

/// What the device's configuration says of a stream.
enum StreamPresence: UInt8 {
  case absent = 0
  case stream = 1
  case terminal = 2
}

/// Operations of a request; the head is operation (32 bits), stream (32), argument (64), extra (64).
enum StreamOperation: UInt32 {
  case read = 1, write, seek, poll, attributes, close, window
}

/// Memory of one request: the head, the result, and data behind them.
@safe final class StreamSlot {
  static let headLength = 24
  static let resultOffset = 32
  static let dataOffset = 64
  let memory: DeviceMemory
  let request = VirtioRequest()

  init(order: Int) throws(Errno) { memory = try DeviceMemory(order: order) }

  /// How many bytes of data fit.
  var capacity: Int { memory.count - Self.dataOffset }

  func setHead(_ operation: StreamOperation, _ stream: UInt32, _ argument: UInt64, _ extra: UInt64) {
    // SAFETY: the memory is a page at least; head and result lie in its first 40 bytes.
    unsafe memory.bytes.storeBytes(of: operation.rawValue, toByteOffset: 0, as: UInt32.self)
    unsafe memory.bytes.storeBytes(of: stream, toByteOffset: 4, as: UInt32.self)
    unsafe memory.bytes.storeBytes(of: argument, toByteOffset: 8, as: UInt64.self)
    unsafe memory.bytes.storeBytes(of: extra, toByteOffset: 16, as: UInt64.self)
    unsafe memory.bytes.storeBytes(of: -Int64(Errno.EIO.rawValue), toByteOffset: Self.resultOffset, as: Int64.self)
  }

  var result: Int64 { unsafe memory.bytes.load(fromByteOffset: Self.resultOffset, as: Int64.self) }

  /// A word of the data.
  func word(_ index: Int) -> UInt64 {
    precondition(index >= 0 && Self.dataOffset + index * 8 + 8 <= memory.count)
    return unsafe memory.bytes.load(fromByteOffset: Self.dataOffset + index * 8, as: UInt64.self)
  }

  /// Fills the data from a program's buffer.
  func fill(from buffer: inout TransferBuffer, count: Int) throws(Errno) {
    precondition(count >= 0 && count <= capacity)
    // SAFETY: checked above; the base of device memory is never nil.
    if count > 0 { try unsafe buffer.copyIn(memory.bytes.baseAddress! + Self.dataOffset, count: count) }
  }

  /// Gives the first `count` bytes of the data to a program.
  func drain(to buffer: inout TransferBuffer, count: Int) throws(Errno) {
    precondition(count >= 0 && count <= capacity)
    // SAFETY: as above.
    if count > 0 { try unsafe buffer.copyOut(memory.bytes.baseAddress! + Self.dataOffset, count: count) }
  }

  func fill(_ bytes: ArraySlice<UInt8>) {
    precondition(bytes.count <= capacity)
    var offset = Self.dataOffset
    for byte in bytes {
      // SAFETY: the offset stays below the capacity checked above.
      unsafe memory.bytes[offset] = byte
      offset += 1
    }
  }

  func data(_ count: Int) -> [UInt8] {
    precondition(count >= 0 && count <= capacity)
    // SAFETY: the range was checked.
    return unsafe Array(memory.bytes[Self.dataOffset..<Self.dataOffset + count])
  }
}

/// The device.
final class StreamDevice {
  private let queue: Virtqueue
  /// What each stream is.
  let presence: [StreamPresence]
  /// Slots not in use, small ones and large ones.
  private let free = SpinLock(([StreamSlot](), [StreamSlot]()), rank: .device)
  /// Data in a large slot: 64 KiB, what a pipe holds.
  private static let largeOrder = 4

  /// Finds the machine's device; nil when it has none.
  static func find() throws(Errno) -> StreamDevice? {
    guard let device = VirtioDevice.all(kind: VirtioDevice.Kind.hostStreams).first else { return nil }
    return try StreamDevice(device)
  }

  init(_ device: VirtioDevice) throws(Errno) {
    queue = try Virtqueue(device, index: 0)
    presence = device.configuration.map { StreamPresence(rawValue: $0) ?? .absent }
    queue.registerInterrupt()
  }

  func presence(of stream: Int) -> StreamPresence { presence.indices.contains(stream) ? presence[stream] : .absent }

  // MARK: Slots

  /// A slot with room for `count` bytes, or for as many as there is memory for.
  func slot(for count: Int) throws(Errno) -> StreamSlot {
    let isSmall = count <= 4096 - StreamSlot.dataOffset
    let kept = free.withLock { isSmall ? $0.0.popLast() : $0.1.popLast() }
    if let kept { return kept }
    if !isSmall, let large = try? StreamSlot(order: Self.largeOrder) { return large }
    return try StreamSlot(order: 0)
  }

  /// Gives a slot back; a few are kept.
  func giveBack(_ slot: StreamSlot) {
    free.withLock { free in
      if slot.memory.count <= 4096 {
        if free.0.count < 8 { free.0.append(slot) }
      } else if free.1.count < 2 {
        free.1.append(slot)
      }
    }
  }

  // MARK: Requests

  /// Performs a request whose data is in `slot`, from `offset` on: `output` bytes for the host or room for `input` bytes.
  ///
  /// - Returns: the host's result, never negative.
  /// - Throws: the host's error.
  func perform(
    _ operation: StreamOperation, _ stream: UInt32, argument: UInt64 = 0, extra: UInt64 = 0, slot: StreamSlot,
    offset: Int = 0, output: Int = 0, input: Int = 0
  ) throws(Errno) -> Int {
    slot.setHead(operation, stream, argument, extra)
    let request = slot.request
    request.reset()
    request.addReadable(slot.memory.segment(0, StreamSlot.headLength))
    if output > 0 { request.addReadable(slot.memory.segment(StreamSlot.dataOffset + offset, output)) }
    request.addWritable(slot.memory.segment(StreamSlot.resultOffset, 8))
    if input > 0 { request.addWritable(slot.memory.segment(StreamSlot.dataOffset, input)) }
    try queue.perform(request)
    let result = slot.result
    if result < 0 { throw Errno(rawValue: Int32(clamping: -result)) }
    // The host never moves more than it was given room for; a larger answer is not believed.
    return operation == .read || operation == .write ? min(Int(result), max(input, output)) : Int(result)
  }

  /// Performs a request without data.
  func perform(_ operation: StreamOperation, _ stream: UInt32, argument: UInt64 = 0, extra: UInt64 = 0) throws(Errno)
    -> Int
  {
    let slot = try slot(for: 0)
    defer { giveBack(slot) }
    return try perform(operation, stream, argument: argument, extra: extra, slot: slot)
  }

  /// Hands over a request that may take long.
  func submit(_ poll: StreamPoll) throws(Errno) { try queue.submit(poll) }
}

/// A request that waits in the device: for readiness, or for a new window size. Used again and again.
class StreamPoll: VirtioRequest {
  private let slot: StreamSlot
  private let device: StreamDevice
  private let pending = Atomic<Bool>(false)
  /// Called with the answer, maybe in an interrupt: it must not sleep.
  private let answered: (Int64) -> Void

  init(_ device: StreamDevice, answered: @escaping (Int64) -> Void) throws(Errno) {
    self.device = device
    self.answered = answered
    slot = try StreamSlot(order: 0)
    super.init()
  }

  var isPending: Bool { pending.load(ordering: .acquiring) }

  /// Sends the request unless it is under way; the answer may come before this returns.
  func start(_ operation: StreamOperation, _ stream: UInt32, argument: UInt64) {
    guard pending.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else {
      return
    }
    slot.setHead(operation, stream, argument, 0)
    reset()
    addReadable(slot.memory.segment(0, StreamSlot.headLength))
    addWritable(slot.memory.segment(StreamSlot.resultOffset, 8))
    do throws(Errno) {
      try device.submit(self)
    } catch {
      pending.store(false, ordering: .releasing)
      answered(-Int64(error.rawValue))
    }
  }

  override func didComplete() {
    let result = slot.result
    pending.store(false, ordering: .releasing)
    answered(result)
  }
}
