// The memory of another process: process_vm_readv(2), process_vm_writev(2).

import FileSystem
import Identity
import LinuxABI
import Process
import VirtualMemory

extension MemoryCalls {
  /// The calls that reach into another process.
  @export(interface)
  public static func processTable() -> [SystemCall] {
    [
      SystemCall(
        310, "process_vm_readv", .full, "pid:i local:p local_count:u remote:p remote_count:u flags:x"
      ) { frame throws(Errno) in try transfer(&frame, .fromRemote) },
      SystemCall(
        311, "process_vm_writev", .full, "pid:i local:p local_count:u remote:p remote_count:u flags:x"
      ) { frame throws(Errno) in try transfer(&frame, .toRemote) },
    ]
  }

  private enum Direction { case fromRemote, toRemote }

  private static func transfer(_ frame: inout SystemCallFrame, _ direction: Direction) throws(Errno) -> Int64 {
    guard frame.a5 == 0 else { throw .EINVAL }
    let local = try vectors(frame.a1, frame.a2)
    let remote = try vectors(frame.a3, frame.a4)
    let space = try space(of: frame.int(0), frame)
    var buffer = TransferBuffer(userVectors: local)
    let whole = buffer.remaining
    var failure: Errno?
    // A page at a time through a buffer of the kernel's.
    unsafe withUnsafeTemporaryAllocation(byteCount: Int(pageSize), alignment: 16) { page in
      guard let base = page.baseAddress else { return }
      do throws(Errno) {
        for (address, length) in remote {
          var done = 0
          while done < length, buffer.remaining > 0 {
            let position = address &+ UInt64(done)
            let toPageEnd = Int(truncatingIfNeeded: pageSize - position & (pageSize - 1))
            let count = min(length - done, buffer.remaining, toPageEnd)
            // SAFETY: `count` is at most a page, which `base` has room for.
            switch direction {
            case .fromRemote:
              guard unsafe space.copyIn(from: position, count: count, to: base) == count else { throw .EFAULT }
              try unsafe buffer.copyOut(base, count: count)
            case .toRemote:
              try unsafe buffer.copyIn(base, count: count)
              guard unsafe space.copyOut(to: position, from: base, count: count) == count else {
                // The caller is told only what arrived.
                buffer.extend(by: count)
                throw .EFAULT
              }
            }
            done += count
          }
        }
      } catch {
        failure = error
      }
    }
    let copied = whole - buffer.remaining
    if let failure, copied == 0 { throw failure }
    return Int64(copied)
  }

  /// Reads an array of struct iovec.
  ///
  /// - Throws: EINVAL (more than 1024, a negative length, a sum that overflows), EFAULT.
  private static func vectors(_ address: UInt64, _ count: UInt64) throws(Errno) -> [(UInt64, Int)] {
    guard count <= 1024 else { throw .EINVAL }
    var result: [(UInt64, Int)] = []
    var sum = 0
    for index in 0..<count {
      let base = try UserMemory.read(address &+ index &* 16, as: UInt64.self)
      let length = try UserMemory.read(address &+ index &* 16 &+ 8, as: UInt64.self)
      guard let length = Int(exactly: length) else { throw .EINVAL }
      let (total, overflow) = sum.addingReportingOverflow(length)
      guard !overflow else { throw .EINVAL }
      sum = total
      result.append((base, length))
    }
    return result
  }

  /// The memory of process `pid`, if the caller may trace it (ptrace(2), "Ptrace access mode checking").
  private static func space(of pid: Int32, _ frame: SystemCallFrame) throws(Errno) -> AddressSpace {
    guard let task = ProcessTable.task(pid) else { throw .ESRCH }
    if task.process !== frame.process, !frame.credentials.has(.trace) {
      guard let theirs = task.process.anyTask?.sharedCredentials else { throw .ESRCH }
      let mine = frame.credentials
      guard
        mine.realUser == theirs.effectiveUser, mine.realUser == theirs.savedUser, mine.realUser == theirs.realUser,
        mine.realGroup == theirs.effectiveGroup, mine.realGroup == theirs.savedGroup,
        mine.realGroup == theirs.realGroup
      else { throw .EPERM }
    }
    guard let space = task.sharedAddressSpace else { throw .ESRCH }
    return space
  }
}
