// The command's standard descriptors when the host's are files, pipes or sockets: bytes as they are, in both directions.
// What fstat(2) shows is what the host has; positions, the end of file, EPIPE and readiness are the host's too.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// A stream of the host.
final class HostStream {
  /// One direction: whether it is ready, as far as is known.
  private final class Direction {
    /// Woken when the device has said something new.
    let queue = WaitQueue()
    let events: UInt64
    /// The last answer: 0 when the next look has to ask.
    let answer = Atomic<UInt32>(0)
    var poll: StreamPoll?
    init(_ events: UInt32) { self.events = UInt64(events) }
  }

  let number: UInt32
  private let device: StreamDevice
  private let input = Direction(POLLIN)
  private let output = Direction(POLLOUT)
  private let openFiles = Atomic<Int>(0)

  init(_ number: UInt32, on device: StreamDevice) throws(Errno) {
    self.number = number
    self.device = device
    for direction in [input, output] {
      direction.poll = try StreamPoll(device) { result in
        // A device that fails to answer counts as ready: the transfer itself will tell the error.
        direction.answer.store(result > 0 ? UInt32(truncatingIfNeeded: result) : POLLERR, ordering: .releasing)
        direction.queue.wakeAll()
      }
    }
  }

  // MARK: Transfer

  func read(_ buffer: inout TransferBuffer, nonBlocking: Bool) throws(Errno) -> Int {
    let slot = try device.slot(for: min(buffer.remaining, 65536))
    defer { device.giveBack(slot) }
    let count = min(buffer.remaining, slot.capacity)
    guard count > 0 else { return 0 }
    while true {
      do throws(Errno) {
        let read = try device.perform(.read, number, slot: slot, input: count)
        input.answer.store(0, ordering: .relaxed)
        try slot.drain(to: &buffer, count: read)
        return read
      } catch {
        guard error == .EAGAIN else { throw error }
      }
      try wait(input, nonBlocking: nonBlocking)
    }
  }

  /// Writes everything unless the file does not block.
  func write(_ buffer: inout TransferBuffer, nonBlocking: Bool) throws(Errno) -> Int {
    let slot = try device.slot(for: min(buffer.remaining, 65536))
    defer { device.giveBack(slot) }
    var total = 0
    repeat {
      let count = min(buffer.remaining, slot.capacity)
      var done = 0
      do throws(Errno) {
        try slot.fill(from: &buffer, count: count)
        while done < count {
          do throws(Errno) {
            done += try device.perform(.write, number, slot: slot, offset: done, output: count - done)
            output.answer.store(0, ordering: .relaxed)
          } catch {
            guard error == .EAGAIN else { throw error }
            try wait(output, nonBlocking: nonBlocking)
          }
        }
      } catch {
        // What has been written counts; the error comes again with the next call if it stays.
        if total + done > 0 { return total + done }
        throw error
      }
      total += count
    } while buffer.remaining > 0
    return total
  }

  private func wait(_ direction: Direction, nonBlocking: Bool) throws(Errno) {
    if nonBlocking { throw .EAGAIN }
    // The answer so far led to EAGAIN: ask again.
    direction.answer.store(0, ordering: .relaxed)
    try direction.queue.wait(.interruptible) { self.ready(direction) != 0 }
  }

  // MARK: Readiness

  /// The events of a direction, 0 when it is not ready; then the device will say when it is.
  private func ready(_ direction: Direction) -> UInt32 {
    let known = direction.answer.load(ordering: .acquiring)
    if known != 0 { return known }
    direction.poll?.start(.poll, number, argument: direction.events)
    return direction.answer.load(ordering: .acquiring)
  }

  func poll(_ flags: OpenFlags) -> PollEvents {
    var events: UInt32 = 0
    // No answer is kept: other processes of the host share the file.
    if flags.allowsReading {
      input.answer.store(0, ordering: .relaxed)
      events |= ready(input)
    }
    if flags.allowsWriting {
      output.answer.store(0, ordering: .relaxed)
      events |= ready(output)
    }
    var result = PollEvents(rawValue: events & (POLLERR | POLLHUP))
    if events & POLLIN != 0 { result.insert(.readable) }
    if events & POLLOUT != 0 { result.insert(.writable) }
    return result
  }

  func pollQueues(_ flags: OpenFlags, _ add: (WaitQueue) -> Void) {
    if flags.allowsReading { add(input.queue) }
    if flags.allowsWriting { add(output.queue) }
  }

  // MARK: The file on the host

  func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard whence >= 0 else { throw .EINVAL }
    return UInt64(
      try device.perform(.seek, number, argument: UInt64(bitPattern: offset), extra: UInt64(UInt32(whence))))
  }

  /// st_mode, the access mode and O_APPEND, st_size, st_rdev.
  func hostAttributes() throws(Errno) -> (mode: UInt32, flags: Int32, size: UInt64, device: UInt64) {
    let slot = try device.slot(for: 32)
    defer { device.giveBack(slot) }
    _ = try device.perform(.attributes, number, slot: slot, input: 32)
    return (
      UInt32(truncatingIfNeeded: slot.word(0)), Int32(truncatingIfNeeded: slot.word(1)), slot.word(2), slot.word(3)
    )
  }

  func opened() { openFiles.add(1, ordering: .relaxed) }

  /// With the last file the host's is closed too, so that its reader sees the end. Not standard error: the monitor's own
  /// messages go there.
  func closed() {
    guard openFiles.subtract(1, ordering: .acquiringAndReleasing).newValue == 0, number < 2 else { return }
    _ = try? device.perform(.close, number)
  }
}
