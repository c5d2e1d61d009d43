// The memory of another process: process_vm_readv(2), process_vm_writev(2), process_madvise(2).

import FileSystem
import Identity
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
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
      SystemCall(440, "process_madvise", .full, "pidfd:d vectors:p count:u advice:i flags:x", adviseProcess),
    ]
  }

  private enum Direction { case fromRemote, toRemote }

  private static func transfer(_ frame: inout SystemCallFrame, _ direction: Direction) throws(Errno) -> Int64 {
    guard frame.a5 == 0 else { throw .EINVAL }
    let local = try vectors(frame.a1, frame.a2)
    let remote = try vectors(frame.a3, frame.a4)
    var far = TransferBuffer(userVectors: remote, in: try space(of: frame.int(0), frame))
    var near = TransferBuffer(userVectors: local)
    // The other's pages are pinned a few at a time and copied from, or to, where they are.
    var memory = SegmentList(capacity: pinnedSegments)
    return Int64(
      try near.transfer { near throws(Errno) in
        while near.remaining > 0, far.remaining > 0 {
          memory.removeAll()
          let pins = try far.pin(
            into: &memory, segments: pinnedSegments, bytes: min(near.remaining, pinnedBytes),
            for: direction == .fromRemote ? .read : .write)
          defer { pins.release() }
          for segment in memory.segments {
            let frame = PageFrameNumber(physicalAddress: segment.physicalAddress)
            let offset = Int(truncatingIfNeeded: segment.physicalAddress & (pageSize - 1))
            // SAFETY: the pin keeps the frames, which the direct map shows one after another.
            let place = unsafe DirectMap.pointer(to: frame) + offset
            switch direction {
            case .fromRemote: try unsafe near.copyOut(place, count: Int(segment.length))
            case .toRemote: try unsafe near.copyIn(place, count: Int(segment.length))
            }
          }
          far.consume(pins)
          Thread.checkReschedule()
          if Thread.current.hasFatalSignal { break }
        }
      })
  }

  /// Returns how many bytes were advised before one range failed.
  private static func adviseProcess(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a4 & 0xffff_ffff == 0 else { throw .EINVAL }
    let ranges = try vectors(frame.a1, frame.a2)
    let process = try DescriptorCalls.process(frame)
    guard !process.hasEnded else { throw .ESRCH }
    let space = try space(of: process.pid, as: .fileSystem, else: .EACCES, frame)
    let number = frame.a3 & 0xffff_ffff
    if space !== frame.addressSpace {
      switch number {
      case MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE: break
      default: throw .EINVAL
      }
      guard frame.credentials.has(.nice) else { throw .EPERM }
    }
    let advice = try advice(number)
    var done: Int64 = 0
    for (address, length) in ranges {
      do throws(Errno) { try space.advise(address, UInt64(length), advice) } catch {
        if done > 0 { return done }
        throw error
      }
      done += Int64(length)
    }
    return done
  }

  private static var pinnedSegments: Int { 16 }
  private static var pinnedBytes: Int { 64 << 10 }

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

  /// The memory of process `pid`, if the caller may look into it.
  ///
  /// - Throws: ESRCH; `refusal` without the right.
  static func space(
    of pid: Int32, as identity: AccessIdentity = .real, else refusal: Errno = .EPERM, _ frame: SystemCallFrame
  ) throws(Errno) -> AddressSpace {
    guard let task = ProcessTable.task(pid) else {
      // Process 1 has no thread and no memory; it is root's.
      guard pid == ProcessTable.reaperPid else { throw .ESRCH }
      throw frame.credentials.has(.trace) ? .ESRCH : refusal
    }
    // The space that was judged is the one that is used: the target may be executing a set-user-ID program.
    let target = task.exposure
    guard frame.task.mayAccess(target, of: task.process, as: identity) else { throw refusal }
    guard let space = target.addressSpace else { throw .ESRCH }
    return space
  }
}
