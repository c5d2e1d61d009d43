// read(2) and write(2) of a terminal: waiting for a line, VMIN and VTIME (POSIX 11.1.7), room for output.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

extension Terminal {
  /// Reads up to `limit` bytes; an empty result is the end of file.
  ///
  /// - Throws: EAGAIN, ERESTARTSYS; EIO for a background group that cannot be stopped.
  @export(interface)
  public final func read(limit: Int, nonBlocking: Bool) throws(Errno) -> [UInt8] {
    try checkBackgroundRead()
    guard limit > 0 else { return [] }
    while true {
      let settings = state.withLock { $0.discipline.settings }
      if settings.isCanonical {
        try awaitInput(atLeast: 1, nonBlocking: nonBlocking, until: .never)
      } else if try !awaitBytes(settings, limit: limit, nonBlocking: nonBlocking) {
        return []
      }
      var isEnd = false
      let bytes = state.withLock { state in
        if state.isHungUp {
          isEnd = true
          return [UInt8]()
        }
        guard state.discipline.canRead() else { return [] }
        isEnd = state.discipline.settings.isCanonical
        return state.discipline.read(limit: limit)
      }
      if !bytes.isEmpty || isEnd {
        inputConsumed()
        return bytes
      }
      // Another reader was quicker, or the mode has changed.
    }
  }

  /// Waits as VMIN and VTIME say; false when the time ran out (or none was given) with nothing to read.
  private func awaitBytes(_ settings: TerminalSettings, limit: Int, nonBlocking: Bool) throws(Errno) -> Bool {
    let minimum = min(Int(settings[.VMIN]), limit)
    // VTIME counts tenths of a second.
    let interval = UInt64(settings[.VTIME]) * 100_000_000
    if minimum == 0 {
      if interval == 0 { return state.withLock { $0.discipline.canRead() || $0.isHungUp } }
      do throws(Errno) {
        try awaitInput(atLeast: 1, nonBlocking: nonBlocking, until: Instant.now().advanced(byNanoseconds: interval))
      } catch {
        if error == .ETIMEDOUT { return false }
        throw error
      }
      return true
    }
    // What is there already is enough for a reader that does not wait.
    try awaitInput(atLeast: interval == 0 && !nonBlocking ? minimum : 1, nonBlocking: nonBlocking, until: .never)
    guard interval != 0, !nonBlocking else { return true }
    // The timer runs between bytes: each byte restarts it.
    var seen = state.withLock { $0.discipline.ready.count }
    while seen < minimum {
      do throws(Errno) {
        try awaitInput(atLeast: seen + 1, nonBlocking: false, until: Instant.now().advanced(byNanoseconds: interval))
      } catch {
        if error == .ETIMEDOUT { break }
        throw error
      }
      let now = state.withLock { $0.isHungUp ? Int.max : $0.discipline.ready.count }
      if now <= seen { break }
      seen = now
    }
    return true
  }

  private func awaitInput(atLeast count: Int, nonBlocking: Bool, until deadline: Instant) throws(Errno) {
    let isReady = { self.state.withLock { $0.isHungUp || $0.discipline.canRead(minimum: count) } }
    if isReady() { return }
    if nonBlocking { throw .EAGAIN }
    try readers.wait(.interruptible, until: deadline, isReady)
  }

  /// Writes everything in `buffer`, or what fits when the file does not block.
  ///
  /// - Returns: bytes taken.
  /// - Throws: EAGAIN, EIO after a hang-up, ERESTARTSYS before the first byte.
  @export(interface)
  public final func write(_ buffer: inout TransferBuffer, nonBlocking: Bool) throws(Errno) -> Int {
    try checkBackgroundWrite()
    var scratch: [UInt8] = []
    var total = 0
    while buffer.remaining > 0 {
      let chunk: [UInt8]
      do throws(Errno) {
        chunk = try buffer.takeBytes(limit: 1024)
      } catch {
        if total > 0 { return total }
        throw error
      }
      var place = 0
      while place < chunk.count {
        let isHungUp = state.withLock { state in
          if state.isHungUp { return true }
          // Stopped output (^S, tcflow(3)) stops its writers, however much room there is.
          if !state.discipline.isStopped { place += state.writeOutput(chunk, from: place, scratch: &scratch) }
          return false
        }
        if isHungUp {
          if total + place > 0 { return total + place }
          throw .EIO
        }
        outputReady()
        guard place < chunk.count else { break }
        do throws(Errno) {
          try awaitRoom(nonBlocking: nonBlocking)
        } catch {
          if total + place > 0 { return total + place }
          throw error
        }
      }
      total += chunk.count
    }
    return total
  }

  private func awaitRoom(nonBlocking: Bool) throws(Errno) {
    let isReady = { self.state.withLock { $0.isHungUp || $0.takesOutput } }
    if isReady() { return }
    if nonBlocking { throw .EAGAIN }
    try writers.wait(.interruptible, isReady)
  }

  /// Waits until the device has taken all output (tcdrain(3)).
  final func drain() throws(Errno) {
    outputReady()
    guard hasPendingOutput else { return }
    try writers.wait(.interruptible) { self.state.withLock { $0.isHungUp || $0.outgoing.isEmpty } }
  }

  /// What would not block now.
  final func poll() -> PollEvents {
    state.withLock { state in
      if state.isHungUp { return [.readable, .writable, .hangUp, .error] }
      var events: PollEvents = []
      if state.discipline.isReadable { events.insert(.readable) }
      if state.takesOutput { events.insert(.writable) }
      return events
    }
  }
}
