// /proc/PID/mem (proc(5)): the memory of a process by address, as ptrace(2) would show and change it. What the program might
// be allowed to do after mprotect(2) can be done here at once: text is read and written, the latter as a private copy.

import FileSystem
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// The inode.
final class ProcMemory: ProcInode {
  private let reference: TaskReference

  init(_ superblock: Superblock, _ number: UInt64, _ reference: TaskReference) {
    self.reference = reference
    super.init(superblock, number, .regular, 0o600, reference)
  }

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    ProgramMemoryFile(path: path, flags: flags, try ProgramReference(reference, by: caller))
  }
}

/// The open file. Offsets are addresses. After execve(2), and when the program has gone, it is empty.
final class ProgramMemoryFile: OpenFile {
  private let program: ProgramReference
  /// Bytes that are copied by way of the kernel at once.
  private static let most = 4096

  fileprivate init(path: Path, flags: OpenFlags, _ program: ProgramReference) {
    self.program = program
    super.init(path: path, flags: flags, isSeekable: true)
  }

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try move(&buffer, at: offset) { space, address, count, buffer throws(Errno) in
      let bytes = space.inspect(address, count: count)
      try buffer.copyOut(bytes)
      return bytes.count
    }
  }

  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try move(&buffer, at: offset) { space, address, count, buffer throws(Errno) in
      space.patch(address, try buffer.copyIn(count: count))
    }
  }

  /// Calls `body`, which says how many of the next bytes it has moved, until the buffer is empty or memory ends.
  ///
  /// - Throws: EIO when there is nothing at the address, EOVERFLOW beyond the last one.
  private func move(
    _ buffer: inout TransferBuffer, at offset: UInt64?,
    _ body: (AddressSpace, UInt64, Int, inout TransferBuffer) throws(Errno) -> Int
  ) throws(Errno) -> Int {
    try atPosition(offset) { address throws(Errno) in
      guard !address.addingReportingOverflow(UInt64(buffer.remaining)).overflow else { throw .EOVERFLOW }
      guard buffer.remaining > 0, let space = try? program.space() else { return 0 }
      var done = 0
      do throws(Errno) {
        while buffer.remaining > 0, !Thread.current.hasFatalSignal {
          let wanted = min(buffer.remaining, Self.most)
          let count = try body(space, address &+ UInt64(done), wanted, &buffer)
          done += count
          if count < wanted { break }
          Thread.checkReschedule()
        }
      } catch {
        if done == 0 { throw error }
      }
      if done == 0 { throw .EIO }
      return done
    }
  }

  override var offsetsAreAddresses: Bool { true }

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    try seekAddress(offset, from: whence)
  }
}
