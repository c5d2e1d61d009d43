// From the trap to the function and back: the only place where a thrown Errno becomes a negative result, and where a
// broken pipe raises SIGPIPE.

import Identity
import KernelCore
import LinuxABI
import Machine
import Process

/// Runs system calls.
public enum SystemCallDispatcher {
  /// Makes this the system-call entry of all tasks.
  @export(interface)
  public static func install() {
    Task.systemCallEntry = { dispatch($0) }
    SocketCalls.installUser()
    // Built now, so that the first call does not pay for it.
    _ = unsafe SystemCallTable.calls
  }

  /// Runs the call that the task's registers ask for, and leaves the result in rax.
  @export(interface)
  public static func dispatch(_ task: Task) {
    // SAFETY: the task is the running one, in the kernel.
    let registers = unsafe task.registers
    // Linux looks at the low 32 bits of rax only.
    let number = UInt64(UInt32(truncatingIfNeeded: unsafe registers.pointee.orig_rax))
    if task.isTraced { return dispatchTraced(task, number) }
    task.currentSystemCall = Int64(truncatingIfNeeded: number)
    unsafe registers.pointee.rax = UInt64(bitPattern: perform(number, task))
    task.currentSystemCall = -1
  }

  /// Runs one call.
  ///
  /// - Returns: the result, or minus the error number.
  @inline(__always)
  private static func perform(_ number: UInt64, _ task: Task) -> Int64 {
    guard number < UInt64(SystemCallTable.size) else { return -Int64(Errno.ENOSYS.rawValue) }
    var frame = SystemCallFrame(task)
    do throws(Errno) {
      // SAFETY: the index was checked against the table's size.
      guard let handler = unsafe SystemCallTable.calls[Int(number)]?.handler else { throw .ENOSYS }
      try SystemCallAdmission.admit(number)
      return try handler(&frame)
    } catch {
      if error == .EPIPE && !frame.suppressesPipeSignal { raiseBrokenPipe(task) }
      return -Int64(error.rawValue)
    }
  }

  private static func raiseBrokenPipe(_ task: Task) {
    let sender = SignalInformation.user(SIGPIPE, pid: task.process.pid, uid: task.credentials.realUser)
    Signals.send(sender, to: task)
  }

  @inline(never)
  private static func dispatchTraced(_ task: Task, _ number: UInt64) {
    var line = SystemCallTrace.begin(task, number)
    task.currentSystemCall = Int64(truncatingIfNeeded: number)
    // SAFETY: as above.
    let arguments = unsafe SystemCallTrace.Arguments(task.registers.pointee)
    let result = perform(number, task)
    unsafe task.registers.pointee.rax = UInt64(bitPattern: result)
    task.currentSystemCall = -1
    SystemCallTrace.finish(&line, number, arguments, result)
  }
}
