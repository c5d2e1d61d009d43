// The descriptors of a process: small numbers for open files. A bitmap finds the lowest free number, arrays hold the
// files and the close-on-exec flags. Tasks made with CLONE_FILES share a table: what they get from it is a use, which keeps
// the file open (`FileUse`).

import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// A table of file descriptors.
public final class DescriptorTable {
  fileprivate struct State {
    var files: [OpenFile?] = []
    /// Bit set: the number is taken.
    var used: [UInt64] = []
    var closeOnExec: [UInt64] = []
    var openCount = 0
    /// No number below is free.
    var lowestFree = 0
  }
  private let state = SpinLock(State(), rank: .descriptors)
  private let limitValue: Atomic<Int>
  /// Tasks that use the table; the last `leave()` closes everything.
  private let users = Atomic<Int>(1)

  /// fs.nr_open: no limit may be above.
  public static var maximumLimit: Int { 1 << 20 }

  /// - Parameter limit: RLIMIT_NOFILE; numbers are below it.
  @export(interface)
  public init(limit: Int = 1024) { limitValue = Atomic(limit) }

  /// RLIMIT_NOFILE's soft value; Process keeps it current.
  public var limit: Int {
    get { limitValue.load(ordering: .relaxed) }
    set { limitValue.store(min(max(newValue, 0), Self.maximumLimit), ordering: .relaxed) }
  }

  // MARK: Sharing

  /// Another task begins to use the table (CLONE_FILES).
  @export(interface)
  public func enter() { users.add(1, ordering: .relaxed) }

  /// A task ends or takes a table of its own; the last one closes all descriptors.
  @export(interface)
  public func leave() {
    if users.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { closeAll() }
  }

  public var isShared: Bool { users.load(ordering: .acquiring) > 1 }

  /// A copy for a child (fork(2)).
  @export(interface)
  public func copy() -> DescriptorTable {
    let table = DescriptorTable(limit: limit)
    let copy = state.withLock { state in
      for file in state.files { file?.acquire() }
      return state
    }
    table.state.withLock { $0 = copy }
    return table
  }

  // MARK: Use

  /// The use of a descriptor's file, for a system call of a task that uses the table.
  /// - Throws: EBADF.
  @export(interface)
  public func get(_ descriptor: Int32) throws(Errno) -> FileUse {
    try use(descriptor, isCounted: isShared)
  }

  /// As `get`, for others than the table's users (/proc/PID/fd, pidfd_getfd(2)): the users may close the descriptor.
  /// - Throws: EBADF.
  @export(interface)
  public func getFromOutside(_ descriptor: Int32) throws(Errno) -> FileUse {
    try use(descriptor, isCounted: true)
  }

  @inline(__always)
  private func use(_ descriptor: Int32, isCounted: Bool) throws(Errno) -> FileUse {
    let index = Int(descriptor)
    let file: OpenFile? = state.withLock { state in
      guard index >= 0, index < state.files.count, let file = state.files[index] else { return nil }
      if isCounted { file.acquire() }
      return file
    }
    guard let file else { throw .EBADF }
    return FileUse(file, isCounted: isCounted)
  }

  /// Whether the descriptor refers to a file now.
  @export(interface)
  public func isOpen(_ descriptor: Int32) -> Bool {
    let index = Int(descriptor)
    return state.withLock { state in index >= 0 && index < state.files.count && state.files[index] != nil }
  }

  /// Whether the descriptor refers to `file` now.
  @export(interface)
  public func refers(_ descriptor: Int32, to file: OpenFile) -> Bool {
    let index = Int(descriptor)
    return state.withLock { state in index >= 0 && index < state.files.count && state.files[index] === file }
  }

  /// As `get`, for calls that need more than a name: files opened with O_PATH are refused (open(2)).
  @export(interface)
  public func getForUse(_ descriptor: Int32) throws(Errno) -> FileUse {
    let use = try get(descriptor)
    guard !use.file.flags.contains(.path) else { throw .EBADF }
    return use
  }

  /// Gives the file the lowest free number at or above `minimum`.
  /// - Throws: EMFILE; EINVAL for a minimum beyond the limit (fcntl F_DUPFD); EBADF for a closed file.
  @export(interface)
  public func insert(_ file: OpenFile, closeOnExec: Bool = false, from minimum: Int32 = 0) throws(Errno) -> Int32 {
    let limit = limit
    guard minimum >= 0, minimum == 0 || Int(minimum) < limit else { throw .EINVAL }
    try reserve(Int(minimum))
    guard file.tryAcquire() else { throw .EBADF }
    let number: Int? = state.withLock { state in
      let number = state.firstFree(from: Int(minimum))
      guard number < limit else { return nil }
      state.put(file, at: number, closeOnExec: closeOnExec)
      return number
    }
    guard let number else {
      file.release()
      throw .EMFILE
    }
    return Int32(truncatingIfNeeded: number)
  }

  /// Sees to it that there is memory for arrays that hold `index` and one number more than now: they grow under the lock.
  /// Tables with usual limits stay small.
  ///
  /// - Throws: ENOMEM.
  private func reserve(_ index: Int) throws(Errno) {
    guard limit > 4096 else { return }
    let (count, capacity) = state.withLock { ($0.files.count, $0.files.capacity) }
    if max(index, count) >= capacity { try KernelMemory.admit(bytes: 16 * (max(index, count) + 1)) }
  }

  /// dup3(2): makes `target` refer to the file of `source`; what it referred to is closed.
  /// - Throws: EBADF for a bad source, or a target beyond the limit.
  @export(interface)
  public func duplicate(_ source: Int32, to target: Int32, closeOnExec: Bool) throws(Errno) {
    let index = Int(target)
    guard index >= 0, index < limit else { throw .EBADF }
    try reserve(index)
    let origin = Int(source)
    // One step: the source cannot be closed between look-up and duplication.
    let old: OpenFile? = try state.withLock { state throws(Errno) in
      guard origin >= 0, origin < state.files.count, let file = state.files[origin] else { throw .EBADF }
      file.acquire()
      let old = index < state.files.count ? state.files[index] : nil
      state.put(file, at: index, closeOnExec: closeOnExec)
      return old
    }
    if let old { finishClose(old) }
  }

  /// close(2).
  /// - Throws: EBADF.
  @export(interface)
  public func close(_ descriptor: Int32) throws(Errno) {
    let index = Int(descriptor)
    let file: OpenFile? = state.withLock { state in state.take(index) }
    guard let file else { throw .EBADF }
    try close(file)
  }

  /// close_range(2) for `first...last`.
  @export(interface)
  public func close(from first: UInt32, through last: UInt32, marking closeOnExec: Bool) {
    var index = Int(first)
    while index <= Int(last) {
      let (file, next): (OpenFile?, Int) = state.withLock { state in
        while index < state.files.count, index <= Int(last), state.files[index] == nil { index += 1 }
        guard index < state.files.count, index <= Int(last) else { return (nil, .max) }
        if closeOnExec {
          state.mark(index, closeOnExec: true)
          return (nil, index + 1)
        }
        return (state.take(index), index + 1)
      }
      if let file { finishClose(file) }
      Thread.checkReschedule()
      if next == .max { return }
      index = next
    }
  }

  /// Closes what is marked, at execve(2).
  @export(interface)
  public func closeOnExec() {
    var word = 0
    while true {
      let file: OpenFile? = state.withLock { state in
        while word < state.closeOnExec.count {
          if state.closeOnExec[word] != 0 {
            return state.take(word * 64 + state.closeOnExec[word].trailingZeroBitCount)
          }
          word += 1
        }
        return nil
      }
      guard let file else { return }
      finishClose(file)
      Thread.checkReschedule()
    }
  }

  private func closeAll() { close(from: 0, through: .max, marking: false) }

  private func close(_ file: OpenFile) throws(Errno) {
    // POSIX: closing any descriptor of a file drops all record locks that the process has on it (fcntl(2)).
    file.inode.releaseLocks(ofTable: self)
    defer { file.release() }
    try file.flush()
  }

  private func finishClose(_ file: OpenFile) { try? close(file) }

  // MARK: Flags and listing

  /// FD_CLOEXEC of a descriptor.
  @export(interface)
  public func isCloseOnExec(_ descriptor: Int32) throws(Errno) -> Bool {
    let index = Int(descriptor)
    let flag: Bool? = state.withLock { state in
      guard index >= 0, index < state.files.count, state.files[index] != nil else { return nil }
      return state.closeOnExec[index / 64] & 1 << UInt64(index % 64) != 0
    }
    guard let flag else { throw .EBADF }
    return flag
  }

  @export(interface)
  public func setCloseOnExec(_ descriptor: Int32, _ flag: Bool) throws(Errno) {
    let index = Int(descriptor)
    let found = state.withLock { state in
      guard index >= 0, index < state.files.count, state.files[index] != nil else { return false }
      state.mark(index, closeOnExec: flag)
      return true
    }
    guard found else { throw .EBADF }
  }

  /// The first descriptor at or above `start`, for /proc/PID/fd.
  @export(interface)
  public func next(from start: Int32) -> Int32? {
    state.withLock { state in
      var index = max(0, Int(start))
      while index < state.files.count {
        if state.files[index] != nil { return Int32(truncatingIfNeeded: index) }
        index += 1
      }
      return nil
    }
  }

  /// Kernel memory behind the descriptors, in bytes; a file of several descriptors counts several times. For the
  /// out-of-memory policy: nothing here sleeps.
  public var heldBytes: Int {
    @export(interface) get {
      var bytes = 0
      var index = 0
      while true {
        // The object, not a use: an open file may close meanwhile, and then holds nothing.
        let file: OpenFile? = state.withLock { state in
          while index < state.files.count, state.files[index] == nil { index += 1 }
          return index < state.files.count ? state.files[index] : nil
        }
        guard let file else { break }
        bytes += OpenFile.kernelBytes + file.heldBytes
        index += 1
      }
      return bytes
    }
  }

  /// Whether a new descriptor would be within the limit.
  public var hasFreeNumber: Bool {
    @export(interface) get {
      let limit = limit
      return state.withLock { $0.firstFree(from: 0) < limit }
    }
  }

  /// How many descriptors are open, and one more than the highest number ever used (FDSize of /proc/PID/status).
  public var openCount: Int { @export(interface) get { state.withLock { $0.openCount } } }
  public var capacity: Int { @export(interface) get { state.withLock { max(64, $0.used.count * 64) } } }
}

extension DescriptorTable.State {
  func firstFree(from minimum: Int) -> Int {
    var number = max(minimum, lowestFree)
    while number / 64 < used.count {
      let free = ~used[number / 64] & (.max << UInt64(number % 64))
      if free != 0 { return number / 64 * 64 + free.trailingZeroBitCount }
      number = (number / 64 + 1) * 64
    }
    return number
  }

  mutating func put(_ file: OpenFile, at index: Int, closeOnExec flag: Bool) {
    while used.count * 64 <= index {
      used.append(0)
      closeOnExec.append(0)
    }
    while files.count <= index { files.append(nil) }
    if files[index] == nil { openCount += 1 }
    files[index] = file
    used[index / 64] |= 1 << UInt64(index % 64)
    if index == lowestFree { lowestFree += 1 }
    mark(index, closeOnExec: flag)
  }

  mutating func mark(_ index: Int, closeOnExec flag: Bool) {
    let bit: UInt64 = 1 << UInt64(index % 64)
    if flag { closeOnExec[index / 64] |= bit } else { closeOnExec[index / 64] &= ~bit }
  }

  mutating func take(_ index: Int) -> OpenFile? {
    guard index >= 0, index < files.count, let file = files[index] else { return nil }
    files[index] = nil
    used[index / 64] &= ~(1 << UInt64(index % 64))
    mark(index, closeOnExec: false)
    openCount -= 1
    lowestFree = min(lowestFree, index)
    return file
  }
}
