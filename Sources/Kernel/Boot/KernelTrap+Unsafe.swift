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
  Panic.endIfPanicking()
  var line = ConsoleLine("apus: kernel bug: ")
  describe(trap, in: &line)
  line.append(" at ip 0x")
  line.append(hex: trap.registers.rip)
  line.append(" on CPU ")
  line.append(decimal: CPU.currentIndex)
  line.print()
  Backtrace.print(from: trap.registers.rbp, at: trap.registers.rip)
  guard CPU.lockDepth == 0, let endThread = Panic.endThread else {
    panic("the bug was in code that cannot be given up")
  }
  endThread()
  panic("the thread with the bug went on")
}

private func describe(_ trap: machine_trap_frame, in line: inout ConsoleLine) {
  switch trap.vector {
  case 0: line.append("division by zero")
  case 6: line.append("runtime check failed (undefined instruction)")
  case 13: line.append("general protection")
  case 14:
    line.append("bad memory access to 0x")
    line.append(hex: trap.address)
  default:
    line.append("processor exception ")
    line.append(decimal: UInt64(trap.vector))
  }
}
