// The work of the host-stream device, apart from its queue: performs requests on the streams. Everything is answered at
// once on the caller's (a vCPU's) thread, except two requests that wait: `poll` for readiness and `window` for a new
// window size. Those wait in a list that one thread watches with poll(2); it is started with the first of them.

import CDevices
import CUserMachine
import Glibc

/// The streams of one machine.
@safe public final class HostStreams: @unchecked Sendable {
  /// Called with the result of a request that had to wait.
  public typealias Completion = @Sendable (Int64) -> Void

  private struct Waiter {
    var stream: Int
    var events: Int16
    /// For window requests: the size that the guest knows.
    var knownWindow: UInt64?
    var completion: Completion
  }

  /// What each stream is; the device's configuration.
  public let presence: [StreamPresence]
  // All but the waiters is set up by init and changed by `close` alone.
  private var streams: [HostStream?]
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private var waiters: [Waiter] = []
  private var isWatching = false
  private let wake: Int32
  /// /dev/null, opened before the monitor confines itself.
  private let null: Int32
  /// The descriptor of the host's terminal, -1 without one.
  private let terminal: Int32
  private let terminalIsInput: Bool

  /// - Parameters:
  ///   - standard: what descriptors 0, 1 and 2 are for the command.
  ///   - trace: the descriptor for trace lines, nil for none.
  ///   - descriptors: the descriptors behind them; other than 0, 1, 2 only in tests.
  public init(standard: [StreamPresence], trace: Int32?, descriptors: [Int32] = [0, 1, 2]) {
    precondition(standard.count == 3 && descriptors.count == 3)
    // Writing to a closed pipe is an error of the command's, not the end of the monitor.
    signal(SIGPIPE, SIG_IGN)
    // SAFETY: allocated once, initialised here, and never freed before deinit.
    unsafe lock = .allocate(capacity: 1)
    unsafe pthread_mutex_init(lock, nil)
    wake = console_host_wake()
    null = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
    var streams: [HostStream?] = []
    for (kind, descriptor) in zip(standard, descriptors) {
      streams.append(kind == .stream ? HostStream(descriptor: descriptor) : nil)
    }
    let place = standard.firstIndex(of: .terminal)
    terminal = place.map { descriptors[$0] } ?? -1
    terminalIsInput = place == 0
    streams.append(terminal >= 0 ? HostStream(descriptor: terminal) : nil)
    streams.append(trace.map { HostStream(descriptor: $0) })
    self.streams = streams
    presence =
      standard + [terminal >= 0 ? .terminal : .absent, trace != nil ? .stream : .absent]
    if terminal >= 0 { _ = console_host_watch_signals(wake) }
    // The terminal is Apus's from the start if the command reads it, else from its first read on.
    if terminalIsInput { _ = console_host_raw(terminal) }
  }

  deinit {
    Glibc.close(wake)
    Glibc.close(null)
    unsafe pthread_mutex_destroy(lock)
    unsafe lock.deallocate()
  }

  /// The system calls that the streams make while the machine runs, besides those which every monitor needs: for
  /// `um_confine`. sendto, recvfrom (sockets), fcntl (attributes), ioctl (the terminal), dup2 (close), getpgrp (whether the
  /// monitor is in the foreground).
  public static let systemCalls: [UInt32] = [44, 45, 72, 16, 33, 111]

  /// Puts the host's terminal back; before an exit that runs no exit handlers. Async-signal-safe.
  public static func restoreTerminal() { console_host_restore() }

  // MARK: Requests

  /// Performs a request.
  ///
  /// - Parameters:
  ///   - output: the bytes that follow the request's head (to be written).
  ///   - input: room for what the request brings.
  ///   - completion: called later, from another thread, when the result is nil.
  /// - Returns: the result, or nil when it is not known yet.
  func perform(
    _ request: StreamRequest, output: UnsafeRawBufferPointer, input: UnsafeMutableRawBufferPointer,
    completion: @escaping Completion
  ) -> Int64? {
    guard let operation = StreamOperation(rawValue: request.operation) else { return -Int64(ENOSYS) }
    let number = Int(request.stream)
    guard request.stream < UInt32(StreamNumber.count), let stream = stream(number) else { return -Int64(EBADF) }
    switch operation {
    case .read:
      if number == StreamNumber.terminal {
        // A background process must leave the terminal's input alone (and would be stopped for trying).
        guard console_host_is_foreground(terminal) != 0 else { return -Int64(EAGAIN) }
        if !terminalIsInput { _ = console_host_raw(terminal) }
      }
      return unsafe stream.read(into: input)
    case .write: return unsafe number == StreamNumber.trace ? stream.writeAll(output) : stream.write(output)
    case .seek:
      guard let whence = Int32(exactly: request.extra) else { return -Int64(EINVAL) }
      return stream.seek(Int64(bitPattern: request.argument), from: whence)
    case .attributes: return unsafe Self.store(stream.attributes(), in: input)
    case .close:
      remove(number)?.close(replacingBy: null)
      return 0
    case .poll:
      let events = Int16(truncatingIfNeeded: request.argument) & Int16(POLLIN | POLLOUT)
      let ready = stream.poll(events)
      if ready != 0, mayPoll(number) { return Int64(ready) }
      wait(Waiter(stream: number, events: events, knownWindow: nil, completion: completion))
      return nil
    case .window:
      guard number == StreamNumber.terminal else { return -Int64(ENOTTY) }
      let window = window()
      if window != request.argument { return Int64(bitPattern: window) }
      wait(Waiter(stream: number, events: 0, knownWindow: window, completion: completion))
      return nil
    }
  }

  private static func store(_ words: [UInt64], in input: UnsafeMutableRawBufferPointer) -> Int64 {
    guard input.count >= words.count * 8 else { return -Int64(EINVAL) }
    for (index, word) in words.enumerated() {
      // SAFETY: checked above that all words fit.
      unsafe input.storeBytes(of: word.littleEndian, toByteOffset: index * 8, as: UInt64.self)
    }
    return 0
  }

  private func mayPoll(_ number: Int) -> Bool {
    number != StreamNumber.terminal || console_host_is_foreground(terminal) != 0
  }

  /// The window's four sizes in one word, 0 when unknown; never negative as a result.
  private func window() -> UInt64 {
    var sizes: [UInt16] = [0, 0, 0, 0]
    // SAFETY: the function writes four values.
    guard unsafe console_host_window(terminal, &sizes) == 0 else { return 0 }
    let word = sizes.enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << UInt64(16 * $1.offset) }
    return word & UInt64(Int64.max)
  }

  // MARK: State

  private func withLock<R>(_ body: () -> R) -> R {
    unsafe pthread_mutex_lock(lock)
    defer { unsafe pthread_mutex_unlock(lock) }
    return body()
  }

  private func stream(_ number: Int) -> HostStream? { withLock { streams[number] } }

  private func remove(_ number: Int) -> HostStream? {
    let (stream, ended) = withLock { () -> (HostStream?, [Waiter]) in
      let stream = streams[number]
      streams[number] = nil
      let ended = waiters.filter { $0.stream == number }
      waiters.removeAll { $0.stream == number }
      return (stream, ended)
    }
    for waiter in ended { waiter.completion(-Int64(EBADF)) }
    return stream
  }

  // MARK: Waiting

  private func wait(_ waiter: Waiter) {
    let mustStart = withLock {
      waiters.append(waiter)
      let mustStart = !isWatching
      isWatching = true
      return mustStart
    }
    if mustStart { startWatching() } else { notify() }
  }

  private func notify() {
    var one: UInt64 = 1
    // SAFETY: writes the eight bytes of `one`.
    _ = unsafe Glibc.write(wake, &one, 8)
  }

  private func startWatching() {
    if HostThread.start(UM_THREAD_STREAMS, { [self] in watch() }) { return }
    // Without a thread every stream counts as ready: the guest tries again, which is slow but right.
    let ended = withLock {
      isWatching = false
      let ended = waiters
      waiters = []
      return ended
    }
    for waiter in ended { waiter.completion(waiter.knownWindow == nil ? Int64(waiter.events) : -Int64(EAGAIN)) }
  }

  /// The watching thread: completes waiters whose event has come; runs until the process ends.
  private func watch() {
    while true {
      let (entries, isBackground) = pollEntries()
      var list = entries
      // In the background the terminal is not polled for input (it would be ready all the time), but looked at again.
      // SAFETY: passes the array and its count.
      _ = unsafe Glibc.poll(&list, nfds_t(list.count), isBackground ? 250 : -1)
      var count: UInt64 = 0
      // SAFETY: reads into the eight bytes of `count`.
      if unsafe Glibc.read(wake, &count, 8) == 8, terminalIsInput, console_host_is_foreground(terminal) != 0 {
        // A SIGCONT may have come: the shell put the terminal into its own mode meanwhile.
        _ = console_host_raw(terminal)
      }
      complete()
    }
  }

  private func pollEntries() -> ([pollfd], Bool) {
    withLock {
      var entries = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
      var isBackground = false
      for waiter in waiters where waiter.knownWindow == nil {
        guard let stream = streams[waiter.stream] else { continue }
        if waiter.stream == StreamNumber.terminal, !mayPoll(waiter.stream) {
          isBackground = true
          continue
        }
        entries.append(pollfd(fd: stream.pollDescriptor, events: waiter.events, revents: 0))
      }
      return (entries, isBackground)
    }
  }

  private func complete() {
    var finished: [(Completion, Int64)] = []
    withLock {
      waiters.removeAll { waiter in
        guard let stream = streams[waiter.stream] else { return true }
        if let known = waiter.knownWindow {
          let now = window()
          guard now != known else { return false }
          finished.append((waiter.completion, Int64(bitPattern: now)))
          return true
        }
        let ready = stream.poll(waiter.events)
        guard ready != 0, mayPoll(waiter.stream) else { return false }
        finished.append((waiter.completion, Int64(ready)))
        return true
      }
    }
    for (completion, result) in finished { completion(result) }
  }
}
