// The terminal whose device is the host's terminal, which the monitor keeps in raw mode. Output is pushed to the host as
// it comes. Input is pulled all the time, even when no program reads: ^C must arrive; only when the line discipline is full
// does it stay with the host.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// The console.
final class ConsoleTerminal: Terminal {
  private let stream: StreamDevice
  /// Held by the thread that moves output; `unsent` is its.
  private let sender = SleepLock(.hostTerminal)
  private var unsent: [UInt8] = []
  private let hasNothingUnsent = Atomic<Bool>(true)
  /// Held by the thread that moves input; `unheard` is its.
  private let receiver = SleepLock(.hostTerminal)
  private var unheard: [UInt8] = []
  private let isThrottled = Atomic<Bool>(false)
  private var inputPoll: StreamPoll?
  private var outputPoll: StreamPoll?
  private var windowPoll: StreamPoll?

  init(_ stream: StreamDevice) throws(Errno) {
    self.stream = stream
    super.init(device: DeviceNumber(major: 5, minor: 1))
    // The polls' answers may come in interrupts: what follows from them sleeps, so a worker does it.
    inputPoll = try StreamPoll(stream) { [self] _ in WorkQueue.shared.submit { self.pull() } }
    outputPoll = try StreamPoll(stream) { [self] _ in WorkQueue.shared.submit { self.outputReady() } }
    windowPoll = try StreamPoll(stream) { [self] answer in
      WorkQueue.shared.submit { self.windowChanged(answer) }
    }
  }

  /// Begins to listen. The first answer tells the window's size at once.
  func start() {
    windowPoll?.start(.window, StreamNumber.terminal, argument: 0)
    inputPoll?.start(.poll, StreamNumber.terminal, argument: UInt64(POLLIN))
  }

  private func windowChanged(_ answer: Int64) {
    guard answer >= 0 else { return }
    let sizes = UInt64(answer)
    setWindow(
      WindowSize(
        rows: UInt16(truncatingIfNeeded: sizes), columns: UInt16(truncatingIfNeeded: sizes >> 16),
        pixelWidth: UInt16(truncatingIfNeeded: sizes >> 32), pixelHeight: UInt16(truncatingIfNeeded: sizes >> 48)))
    windowPoll?.start(.window, StreamNumber.terminal, argument: sizes)
  }

  // MARK: Output

  /// Whether everything has been sent (or never can be).
  var isDrained: Bool {
    hasNothingUnsent.load(ordering: .acquiring) && state.withLock { $0.outgoing.isEmpty || $0.isHungUp }
  }

  override func outputReady() {
    repeat {
      // The lock's holder also sends what came meanwhile: it looks again after it has released the lock.
      guard sender.tryAcquire() else { return }
      let isBlocked = send()
      sender.release()
      if isBlocked { return }
    } while state.withLock { !$0.outgoing.isEmpty && !$0.discipline.isStopped }
  }

  /// Sends until there is nothing left (false) or the host takes no more (true).
  private func send() -> Bool {
    while true {
      if unsent.isEmpty {
        hasNothingUnsent.store(false, ordering: .releasing)
        unsent = takeOutput(limit: 4000)
      }
      if unsent.isEmpty {
        hasNothingUnsent.store(true, ordering: .releasing)
        writers.wakeAll()
        return false
      }
      do throws(Errno) {
        let slot = try stream.slot(for: unsent.count)
        defer { stream.giveBack(slot) }
        slot.fill(unsent[...])
        let sent = try stream.perform(.write, StreamNumber.terminal, slot: slot, output: unsent.count)
        unsent.removeFirst(sent)
      } catch {
        if error == .EAGAIN {
          outputPoll?.start(.poll, StreamNumber.terminal, argument: UInt64(POLLOUT))
        } else {
          // The host's terminal is gone.
          unsent = []
          hasNothingUnsent.store(true, ordering: .releasing)
          hangUp()
        }
        return true
      }
    }
  }

  // MARK: Input

  override func inputConsumed() {
    if isThrottled.exchange(false, ordering: .acquiringAndReleasing) { WorkQueue.shared.submit { self.pull() } }
  }

  /// Takes what the host's terminal has, as far as there is room.
  private func pull() {
    receiver.acquire()
    defer { receiver.release() }
    while true {
      if !unheard.isEmpty {
        unheard.removeFirst(receive(unheard))
        if !unheard.isEmpty {
          isThrottled.store(true, ordering: .sequentiallyConsistent)
          // Room may have come before the flag was seen.
          guard state.withLock({ $0.discipline.hasRoom }),
            isThrottled.exchange(false, ordering: .sequentiallyConsistent)
          else { return }
          continue
        }
      }
      do throws(Errno) {
        let slot = try stream.slot(for: 512)
        defer { stream.giveBack(slot) }
        let count = try stream.perform(.read, StreamNumber.terminal, slot: slot, input: 512)
        if count == 0 { return hangUp() }
        unheard = slot.data(count)
      } catch {
        if error == .EAGAIN {
          inputPoll?.start(.poll, StreamNumber.terminal, argument: UInt64(POLLIN))
        } else {
          hangUp()
        }
        return
      }
    }
  }
}
