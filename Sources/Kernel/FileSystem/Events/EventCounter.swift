// eventfd(2): a 64-bit counter that can be waited for.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An eventfd.
public final class EventCounter: OpenFile {
  /// Whether a read takes 1 (EFD_SEMAPHORE) or everything.
  public enum Mode: Sendable { case counter, semaphore }

  private let value: SpinLock<UInt64>
  private let mode: Mode
  private let queue = WaitQueue()
  /// The counter stays below 2^64-1.
  private static var maximum: UInt64 { .max - 1 }

  @export(interface)
  public init(_ initial: UInt64, _ mode: Mode, flags: OpenFlags) {
    value = SpinLock(initial, rank: .pipe)
    self.mode = mode
    super.init(
      path: AnonymousFiles.makePath(kind: .regular, name: "[eventfd]"), flags: flags.union(.readWrite),
      isSeekable: false)
  }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    guard buffer.remaining >= 8 else { throw .EINVAL }
    var result: UInt64 = 0
    if !take(&result) {
      if isNonBlocking { throw .EAGAIN }
      try queue.wait { take(&result) }
    }
    queue.wakeAll()
    try buffer.copyOut(ByteString(Self.bytes(result)))
    return 8
  }

  public override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    // Each piece is a write of its own.
    var total = 0
    repeat {
      do throws(Errno) { try addNext(&buffer) } catch {
        if total > 0 { break }
        throw error
      }
      total += 8
    } while buffer.remaining > 0
    return total
  }

  private func addNext(_ buffer: inout TransferBuffer) throws(Errno) {
    guard buffer.frontCount == 8 else { throw .EINVAL }
    let added = try buffer.copyInWord()
    guard added != .max else { throw .EINVAL }
    if !add(added) {
      if isNonBlocking { throw .EAGAIN }
      try queue.wait { add(added) }
    }
    queue.wakeAll()
  }

  private func take(_ result: inout UInt64) -> Bool {
    value.withLock { value in
      guard value > 0 else { return false }
      result = mode == .semaphore ? 1 : value
      value -= result
      return true
    }
  }

  private func add(_ count: UInt64) -> Bool {
    value.withLock { value in
      guard Self.maximum - value >= count else { return false }
      value += count
      return true
    }
  }

  static func bytes(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }

  public override func poll() -> PollEvents {
    let value = value.withLock { $0 }
    var events: PollEvents = []
    if value > 0 { events.formUnion(.readable) }
    if value < Self.maximum { events.formUnion(.writable) }
    return events
  }

  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(queue) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[eventfd]" }

  public override func appendInformation(to text: inout TextBuffer) {
    text.append("eventfd-count: ")
    text.append(hex: value.withLock { $0 }, width: 16, fill: 0x20)
    text.append("\n")
  }
}
