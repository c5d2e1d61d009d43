// signalfd(2): pending signals as something to read and to poll. The signals stay queued at their process; the file only
// knows a mask. Readers take their own signals, not those of the process that opened the file.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// A signalfd.
public final class SignalFile: OpenFile {
  private let mask: SpinLock<SignalSet>

  @export(interface)
  public init(_ mask: SignalSet, flags: OpenFlags) {
    self.mask = SpinLock(mask.subtracting(.unblockable), rank: .task)
    super.init(
      path: AnonymousFiles.makePath(kind: .regular, name: "[signalfd]"), flags: flags.union(.readWrite),
      isSeekable: false)
  }

  /// Changes the signals that the file shows.
  @export(interface)
  public func setMask(_ new: SignalSet) { mask.withLock { $0 = new.subtracting(.unblockable) } }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    let size = 128
    guard buffer.remaining >= size, let task = Task.running else { throw .EINVAL }
    var total = 0
    while buffer.remaining >= size {
      var taken = task.takeSignal(from: mask.withLock { $0 })
      if taken == nil {
        if total > 0 { return total }
        if isNonBlocking { throw .EAGAIN }
        try task.process.signalArrivals.wait {
          taken = task.takeSignal(from: mask.withLock { $0 })
          return taken != nil
        }
      }
      guard let taken else { return total }
      try buffer.copyOut(SignalFile.record(taken))
      total += size
    }
    return total
  }

  /// struct signalfd_siginfo: 128 bytes, of which the fields that the signal's cause gives are set.
  static func record(_ information: SignalInformation) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 128)
    func put(_ value: UInt64, _ size: Int, at offset: Int) {
      for index in 0..<size { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    }
    let words = information.words
    put(UInt64(UInt32(bitPattern: information.signal)), 4, at: 0)
    put(UInt64(UInt32(bitPattern: information.error)), 4, at: 4)
    put(UInt64(UInt32(bitPattern: information.code)), 4, at: 8)
    if information.code == SI_TIMER {
      put(words.0, 4, at: 24)  // ssi_tid
      put(words.0 >> 32, 4, at: 32)  // ssi_overrun
    } else if information.isFromKernel && information.signal != SIGCHLD {
      put(words.0, 8, at: 72)  // ssi_addr
      return bytes
    } else {
      put(words.0, 4, at: 12)  // ssi_pid
      put(words.0 >> 32, 4, at: 16)  // ssi_uid
    }
    if information.signal == SIGCHLD && information.isFromKernel {
      put(words.1, 4, at: 40)  // ssi_status
      put(words.2, 8, at: 56)  // ssi_utime
      put(words.3, 8, at: 64)  // ssi_stime
    } else {
      put(words.1, 4, at: 44)  // ssi_int
      put(words.1, 8, at: 48)  // ssi_ptr
    }
    return bytes
  }

  public override func poll() -> PollEvents {
    guard let task = Task.running else { return [] }
    return task.hasPending(of: mask.withLock { $0 }) ? .readable : []
  }

  public override func pollQueues(_ add: (WaitQueue) -> Void) {
    if let task = Task.running { add(task.process.signalArrivals) }
  }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[signalfd]" }

  public override func appendInformation(to text: inout TextBuffer) {
    text.append("sigmask:\t")
    text.append(hex: mask.withLock { $0.rawValue }, width: 16)
    text.append("\n")
  }
}
