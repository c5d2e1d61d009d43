import Glibc
import Testing

@testable import Devices

/// A pipe of the test's, both ends.
private func makePipe() -> (read: Int32, write: Int32) {
  var ends: [Int32] = [0, 0]
  #expect(pipe(&ends) == 0)
  return (ends[0], ends[1])
}

/// Collects one late result.
private final class Result: @unchecked Sendable {
  private var value: Int64?
  private var mutex = pthread_mutex_t()
  init() { pthread_mutex_init(&mutex, nil) }
  func set(_ new: Int64) {
    pthread_mutex_lock(&mutex)
    value = new
    pthread_mutex_unlock(&mutex)
  }
  var current: Int64? {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return value
  }
  func wait() -> Int64? {
    for _ in 0..<60_000 {
      if let current { return current }
      usleep(1000)
    }
    return nil
  }
}

extension HostStreams {
  fileprivate func read(_ stream: Int, _ count: Int) -> (Int64?, [UInt8]) {
    var bytes = [UInt8](repeating: 0, count: count)
    let result = bytes.withUnsafeMutableBytes { buffer in
      perform(
        StreamRequest(operation: .read, stream: stream), output: UnsafeRawBufferPointer(start: nil, count: 0),
        input: buffer, completion: { _ in })
    }
    return (result, Array(bytes.prefix(max(0, Int(result ?? 0)))))
  }

  fileprivate func write(_ stream: Int, _ bytes: [UInt8]) -> Int64? {
    bytes.withUnsafeBytes { buffer in
      perform(
        StreamRequest(operation: .write, stream: stream), output: buffer,
        input: UnsafeMutableRawBufferPointer(start: nil, count: 0), completion: { _ in })
    }
  }

  fileprivate func simple(
    _ operation: StreamOperation, _ stream: Int, _ argument: UInt64 = 0, _ extra: UInt64 = 0,
    _ completion: @escaping Completion = { _ in }
  ) -> Int64? {
    perform(
      StreamRequest(operation: operation, stream: stream, argument: argument, extra: extra),
      output: UnsafeRawBufferPointer(start: nil, count: 0),
      input: UnsafeMutableRawBufferPointer(start: nil, count: 0), completion: completion)
  }
}

@Suite struct HostStreamsTests {
  @Test func `a read takes no more than it asks for, and an empty pipe is EAGAIN, not a wait`() {
    let input = makePipe()
    let output = makePipe()
    let streams = HostStreams(
      standard: [.stream, .stream, .absent], trace: nil, descriptors: [input.read, output.write, -1])
    #expect(streams.read(0, 4).0 == -Int64(EAGAIN))
    #expect(Glibc.write(input.write, "hello", 5) == 5)
    #expect(streams.read(0, 2).1 == Array("he".utf8))
    var rest = [UInt8](repeating: 0, count: 10)
    // Somebody else of the host gets the rest.
    #expect(Glibc.read(input.read, &rest, 10) == 3)
    Glibc.close(input.write)
    #expect(streams.read(0, 4).0 == 0)
    // The flags that the host's processes share are as they were.
    #expect(fcntl(input.read, F_GETFL) & O_NONBLOCK == 0)
  }

  @Test func `a full pipe is EAGAIN, a pipe without readers EPIPE`() {
    let output = makePipe()
    let streams = HostStreams(
      standard: [.absent, .stream, .absent], trace: nil, descriptors: [-1, output.write, -1])
    var total: Int64 = 0
    let block = [UInt8](repeating: 120, count: 8192)
    while let written = streams.write(1, block), written > 0 { total += written }
    #expect(total == 65536)
    #expect(streams.write(1, block) == -Int64(EAGAIN))
    #expect(streams.simple(.poll, 1, UInt64(POLLOUT)) == nil)
    Glibc.close(output.read)
    #expect(streams.write(1, block) == -Int64(EPIPE))
  }

  @Test func `poll answers at once when it can and later when it must`() {
    let input = makePipe()
    let streams = HostStreams(
      standard: [.stream, .absent, .absent], trace: nil, descriptors: [input.read, -1, -1])
    let late = Result()
    #expect(streams.simple(.poll, 0, UInt64(POLLIN), 0, { late.set($0) }) == nil)
    usleep(20000)
    #expect(late.current == nil)
    #expect(Glibc.write(input.write, "x", 1) == 1)
    #expect(late.wait() == Int64(POLLIN))
    #expect(streams.simple(.poll, 0, UInt64(POLLIN)) == Int64(POLLIN))
    #expect(streams.read(0, 9).1 == Array("x".utf8))
    let end = Result()
    #expect(streams.simple(.poll, 0, UInt64(POLLIN), 0, { end.set($0) }) == nil)
    Glibc.close(input.write)
    #expect(end.wait().map { $0 & Int64(POLLHUP) } == Int64(POLLHUP))
  }

  @Test func `a file keeps the position that the host's processes share`() {
    let path = "/tmp/apus-stream-test-\(getpid())"
    let file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
    unlink(path)
    #expect(Glibc.write(file, "0123456789", 10) == 10)
    let streams = HostStreams(standard: [.stream, .absent, .absent], trace: nil, descriptors: [file, -1, -1])
    #expect(streams.simple(.seek, 0, 4, UInt64(SEEK_SET)) == 4)
    #expect(streams.read(0, 3).1 == Array("456".utf8))
    #expect(lseek(file, 0, SEEK_CUR) == 7)
    #expect(streams.simple(.poll, 0, UInt64(POLLIN)) == Int64(POLLIN))
    var words = [UInt64](repeating: 0, count: 4)
    let result = words.withUnsafeMutableBytes {
      streams.perform(
        StreamRequest(operation: .attributes, stream: 0), output: UnsafeRawBufferPointer(start: nil, count: 0),
        input: $0, completion: { _ in })
    }
    #expect(result == 0)
    #expect(UInt32(words[0]) & S_IFMT == S_IFREG && words[2] == 10)
    #expect(streams.simple(.seek, 0, UInt64(bitPattern: -99), UInt64(SEEK_SET)) == -Int64(EINVAL))
  }

  @Test func `a socket is read and written without blocking`() {
    var ends: [Int32] = [0, 0]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    let streams = HostStreams(
      standard: [.stream, .stream, .absent], trace: nil, descriptors: [ends[0], ends[0], -1])
    #expect(streams.read(0, 4).0 == -Int64(EAGAIN))
    #expect(streams.write(1, Array("abc".utf8)) == 3)
    Glibc.close(ends[1])
    #expect(streams.write(1, Array("abc".utf8)) == -Int64(EPIPE))
  }

  @Test func `requests that make no sense are refused`() {
    let streams = HostStreams(standard: [.absent, .absent, .absent], trace: nil)
    #expect(streams.presence == [.absent, .absent, .absent, .absent, .absent])
    #expect(streams.read(0, 4).0 == -Int64(EBADF))
    #expect(streams.simple(.poll, 77) == -Int64(EBADF))
    var strange = StreamRequest(operation: .read, stream: 0)
    strange.operation = 99
    #expect(
      streams.perform(
        strange, output: UnsafeRawBufferPointer(start: nil, count: 0),
        input: UnsafeMutableRawBufferPointer(start: nil, count: 0), completion: { _ in }) == -Int64(ENOSYS))
    #expect(StreamRequest([1, 2, 3]) == nil)
  }

  @Test func `closing a stream closes the host's pipe and ends who waits`() {
    let output = makePipe()
    let streams = HostStreams(
      standard: [.absent, .stream, .absent], trace: nil, descriptors: [-1, output.write, -1])
    while let written = streams.write(1, [UInt8](repeating: 0, count: 4096)), written > 0 {}
    let late = Result()
    #expect(streams.simple(.poll, 1, UInt64(POLLOUT), 0, { late.set($0) }) == nil)
    #expect(streams.simple(.close, 1) == 0)
    #expect(late.wait() == -Int64(EBADF))
    var bytes = [UInt8](repeating: 1, count: 70000)
    while Glibc.read(output.read, &bytes, bytes.count) > 0 {}
    // Reading came to the end: no writer is left.
    #expect(streams.write(1, [1]) == -Int64(EBADF))
  }

  @Test func `a terminal is raw while the machine has it and as before afterwards`() throws {
    var main: Int32 = 0
    var side: Int32 = 0
    #expect(openpty(&main, &side, nil, nil, nil) == 0)
    var before = termios()
    tcgetattr(side, &before)
    let streams = HostStreams(
      standard: [.terminal, .terminal, .terminal], trace: nil, descriptors: [side, side, side])
    #expect(streams.presence == [.terminal, .terminal, .terminal, .terminal, .absent])
    var during = termios()
    tcgetattr(side, &during)
    #expect(during.c_lflag & tcflag_t(ICANON | ECHO | ISIG) == 0)
    #expect(during.c_oflag & tcflag_t(OPOST) == 0)
    #expect(Glibc.write(main, "\u{3}", 1) == 1)
    let late = Result()
    if let ready = streams.simple(.poll, 3, UInt64(POLLIN), 0, { late.set($0) }) { late.set(ready) }
    #expect(late.wait() == Int64(POLLIN))
    #expect(streams.read(3, 10).1 == [3])
    #expect(streams.write(3, Array("hi\n".utf8)) == 3)
    var echo = [UInt8](repeating: 0, count: 10)
    #expect(Glibc.read(main, &echo, 10) == 3)
    // A window of another size than the guest knows is reported at once.
    var size = winsize(ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0)
    #expect(ioctl(main, UInt(TIOCSWINSZ), &size) == 0)
    #expect(streams.simple(.window, 3, 0) == Int64(33 | (101 << 16)))
    HostStreams.restoreTerminal()
    var after = termios()
    tcgetattr(side, &after)
    #expect(after.c_lflag == before.c_lflag && after.c_oflag == before.c_oflag)
  }
}
