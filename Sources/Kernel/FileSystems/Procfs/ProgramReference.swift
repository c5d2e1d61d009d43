// The program that an open file of /proc/PID is about. Files that show memory are judged when they are opened; after an
// execve(2) they show nothing, because the new program may have rights that the reader lacks. On Linux such a file keeps
// the old address space; here it keeps the program's number.

import FileSystem
import Identity
import LinuxABI
import Process
import VirtualMemory

/// One program of a process or thread.
struct ProgramReference {
  private let task: TaskReference
  private let program: UInt64

  /// The program that runs now.
  ///
  /// - Throws: EACCES when the caller may not look into it; ESRCH when the process has gone.
  init(_ reference: TaskReference, by caller: Caller) throws(Errno) {
    task = reference
    guard let target = try reference.resolve().task else {
      try reference.requireAccess(by: caller.credentials)
      program = 0
      return
    }
    // Judged and numbered at one moment.
    let exposure = target.exposure
    guard
      let reader = Task.running,
      reader.mayAccess(exposure, of: target.process, as: .fileSystem, with: caller.credentials)
    else { throw .EACCES }
    program = exposure.program
  }

  /// Its address space; nil when another program runs now, and for zombies and process 1.
  ///
  /// - Throws: ESRCH when the process has gone.
  func space() throws(Errno) -> AddressSpace? {
    guard let exposure = try task.resolve().task?.exposure, exposure.program == program else { return nil }
    return exposure.addressSpace
  }
}
