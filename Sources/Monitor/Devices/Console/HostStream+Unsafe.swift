// One descriptor of the host, read and written without ever blocking: a vCPU that waited here would stop every thread
// that runs on it. The descriptor's flags are not touched, because other processes of the host share them (a shell
// would find its terminal non-blocking); a description of our own is opened where the host allows that.

import CDevices
import Glibc

/// A file of the host behind a stream.
///
/// Results are those of the system calls: a count, or a negative error number.
@safe final class HostStream {
  /// How bytes are moved without blocking.
  private enum Method {
    /// Regular files and block devices, which do not wait for anybody.
    case direct
    /// A non-blocking description of our own.
    case reopened
    /// recv and send with MSG_DONTWAIT.
    case socket
    /// Asked with poll(2) first, and then moved in pieces that a ready pipe takes whole (PIPE_BUF). Another process that
    /// shares the descriptor may be quicker; the call then blocks until more arrives.
    case polled
  }

  let descriptor: Int32
  private let reading: Int32
  private let writing: Int32
  private let method: Method
  private let mode: UInt32

  /// - Parameter descriptor: an open descriptor that stays open.
  init(descriptor: Int32) {
    self.descriptor = descriptor
    var status = stat()
    // SAFETY: fstat fills the structure that it is given.
    let known = unsafe fstat(descriptor, &status) == 0
    mode = known ? status.st_mode : 0
    let access = fcntl(descriptor, F_GETFL) & O_ACCMODE
    switch mode & S_IFMT {
    case S_IFREG, S_IFBLK:
      method = .direct
      reading = descriptor
      writing = descriptor
    case S_IFSOCK:
      method = .socket
      reading = descriptor
      writing = descriptor
    case S_IFIFO, S_IFCHR:
      // Opening a device again may do something (rewind a tape); terminals and /dev/null are known not to.
      let mayReopen = mode & S_IFMT == S_IFIFO || isatty(descriptor) == 1 || Self.isMemoryDevice(status.st_rdev)
      let copy = mayReopen ? console_host_reopen(descriptor, access) : -1
      method = copy >= 0 ? .reopened : .polled
      reading = copy >= 0 ? copy : descriptor
      writing = reading
    default:
      method = .polled
      reading = descriptor
      writing = descriptor
    }
  }

  private static func isMemoryDevice(_ device: dev_t) -> Bool { device >> 8 == 1 }

  /// Only files that can be read and written without waiting need no poll.
  var isAlwaysReady: Bool { method == .direct }
  /// What to give poll(2).
  var pollDescriptor: Int32 { reading }

  /// Reads what is there: 0 is the end, -EAGAIN nothing yet.
  func read(into buffer: UnsafeMutableRawBufferPointer) -> Int64 {
    guard let base = buffer.baseAddress, unsafe !buffer.isEmpty else { return 0 }
    if method == .polled {
      let ready = poll(Int16(POLLIN))
      if ready == 0 { return -Int64(EAGAIN) }
    }
    // SAFETY: the calls write at most `count` bytes into the buffer.
    return retrying {
      method == .socket
        ? unsafe recv(reading, base, buffer.count, Int32(MSG_DONTWAIT))
        : unsafe Glibc.read(reading, base, buffer.count)
    }
  }

  /// Writes what fits now: -EAGAIN when nothing does, -EPIPE when nobody will ever read it.
  func write(_ buffer: UnsafeRawBufferPointer) -> Int64 {
    guard let base = buffer.baseAddress, unsafe !buffer.isEmpty else { return 0 }
    guard method == .polled else {
      // SAFETY: the calls read at most `count` bytes of the buffer.
      return retrying {
        method == .socket
          ? unsafe send(writing, base, buffer.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
          : unsafe Glibc.write(writing, base, buffer.count)
      }
    }
    var total = 0
    while total < buffer.count {
      if poll(Int16(POLLOUT)) == 0 { break }
      let piece = min(buffer.count - total, Int(PIPE_BUF))
      // SAFETY: total + piece <= count.
      let written = retrying { unsafe Glibc.write(writing, base + total, piece) }
      if written < 0 { return total > 0 ? Int64(total) : written }
      total += Int(written)
    }
    return total > 0 ? Int64(total) : -Int64(EAGAIN)
  }

  /// Writes everything, waiting as long as it takes: trace lines.
  func writeAll(_ buffer: UnsafeRawBufferPointer) -> Int64 {
    var total = 0
    while total < buffer.count {
      // SAFETY: the range lies in the buffer.
      let written = retrying { unsafe Glibc.write(descriptor, buffer.baseAddress! + total, buffer.count - total) }
      if written == -Int64(EAGAIN) {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // SAFETY: one entry is passed, and its count.
        _ = unsafe Glibc.poll(&entry, 1, -1)
        continue
      }
      if written <= 0 { return total > 0 ? Int64(total) : written }
      total += Int(written)
    }
    return Int64(total)
  }

  /// Which of `events` hold now (with POLLHUP and POLLERR).
  func poll(_ events: Int16) -> Int16 {
    if isAlwaysReady { return events }
    var entry = pollfd(fd: reading, events: events, revents: 0)
    // SAFETY: one entry is passed, and its count.
    return unsafe Glibc.poll(&entry, 1, 0) > 0 ? entry.revents : 0
  }

  func seek(_ offset: Int64, from whence: Int32) -> Int64 {
    // Terminals and pipes refuse by themselves; the position is the one that other processes of the host share.
    let place = lseek(descriptor, off_t(offset), whence)
    return place < 0 ? -Int64(errno) : Int64(place)
  }

  /// st_mode, the access mode with O_APPEND, st_size, st_rdev.
  func attributes() -> [UInt64] {
    var status = stat()
    // SAFETY: fstat fills the structure that it is given.
    guard unsafe fstat(descriptor, &status) == 0 else { return [0, 0, 0, 0] }
    let flags = fcntl(descriptor, F_GETFL) & (O_ACCMODE | O_APPEND)
    return [UInt64(status.st_mode), UInt64(flags), UInt64(max(0, status.st_size)), UInt64(status.st_rdev)]
  }

  /// Gives the file up: the number stays taken (by `null`, an open /dev/null), so that nothing else gets it.
  func close(replacingBy null: Int32) {
    if method == .reopened { Glibc.close(reading) }
    dup2(null, descriptor)
  }

  private func retrying(_ call: () -> Int) -> Int64 {
    while true {
      let result = call()
      if result >= 0 { return Int64(result) }
      if errno != EINTR { return -Int64(errno) }
    }
  }
}
