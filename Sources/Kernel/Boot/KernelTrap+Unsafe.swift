// Traps of kernel code. A Swift runtime failure (overflow, index out of range, a failed precondition) is an undefined
// instruction; a wild pointer is a page fault. In a thread's context either is an oops: a report, and the end of that
// thread's process. On a CPU without a thread, or with a spin lock held (the locked state may be half-changed, and the
// lock would never be released), it is a panic.

import KernelCore
import Machine
import Scheduling

@c(apus_kernel_trap)
public func kernelTrap(_ frame: UnsafePointer<machine_trap_frame>) {
  // SAFETY: the machine built the frame on this stack, below everything in use.
  let trap = unsafe frame.pointee
  var text = TextBuffer()
  text.append("apus: kernel bug: ")
  text.append(describe(trap))
  text.append(" at ip 0x")
  text.append(hex: trap.registers.rip)
  text.append(" on CPU ")
  text.append(decimal: CPU.currentIndex)
  text.append("\n")
  Log.console(text.byteString)
  Backtrace.print(from: trap.registers.rbp, at: trap.registers.rip)
  guard CPU.lockDepth == 0, let endThread = Panic.endThread else {
    panic("the bug was in code that cannot be given up")
  }
  endThread()
  panic("the thread with the bug went on")
}

private func describe(_ trap: machine_trap_frame) -> ByteString {
  var text = TextBuffer()
  switch trap.vector {
  case 0: text.append("division by zero")
  case 6: text.append("runtime check failed (undefined instruction)")
  case 13: text.append("general protection")
  case 14:
    text.append("bad memory access to 0x")
    text.append(hex: trap.address)
  default:
    text.append("processor exception ")
    text.append(decimal: trap.vector)
  }
  return text.byteString
}
