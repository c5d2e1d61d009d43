// /proc/PID/syscall: what the thread is waiting in.

import KernelCore
import LinuxABI
import Machine
import Process

extension ProcessText {
  /// "running", or the call's number, its six arguments, the stack pointer and the program counter (proc(5)).
  static func systemCall(_ reference: TaskReference) throws(Errno) -> TextBuffer {
    guard let task = try reference.resolve().task else { throw .ESRCH }
    var text = TextBuffer()
    guard task.currentSystemCall >= 0, task !== Task.running else {
      text.append("running\n")
      return text
    }
    // SAFETY: the registers live as long as the task; a thread that leaves the kernel meanwhile gives a stale picture.
    let registers = unsafe task.registers.pointee
    text.append(signed: task.currentSystemCall)
    for value in [
      registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9, registers.rsp,
      registers.rip,
    ] {
      text.append(" 0x")
      text.append(hex: value)
    }
    text.append("\n")
    return text
  }
}
