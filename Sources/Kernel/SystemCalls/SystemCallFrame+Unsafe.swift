// What a system call sees of its caller: the arguments in registers, the task, and the shorthands that nearly every
// call needs. A frame lives for one call on the kernel stack; it borrows the task, which cannot go away meanwhile
// because it is the one that runs.

import FileSystem
import Identity
import LinuxABI
import Machine
import Process
import VirtualMemory

/// The arguments and the caller of a running system call.
@safe public struct SystemCallFrame {
  // SAFETY: the task is the running thread: it outlives the call.
  private unowned(unsafe) let borrowedTask: Task
  // SAFETY: the registers are part of the task, at a fixed address for its life.
  private let registers: UnsafeMutablePointer<machine_registers>
  /// Set by calls that ask for no SIGPIPE (MSG_NOSIGNAL).
  public var suppressesPipeSignal = false

  @inline(__always)
  init(_ task: Task) {
    unsafe borrowedTask = task
    unsafe registers = task.registers
  }

  /// The calling thread.
  public var task: Task { @inline(__always) get { unsafe borrowedTask } }
  public var process: Process { @inline(__always) get { unsafe borrowedTask.process } }

  public var a0: UInt64 { @inline(__always) get { unsafe registers.pointee.rdi } }
  public var a1: UInt64 { @inline(__always) get { unsafe registers.pointee.rsi } }
  public var a2: UInt64 { @inline(__always) get { unsafe registers.pointee.rdx } }
  public var a3: UInt64 { @inline(__always) get { unsafe registers.pointee.r10 } }
  public var a4: UInt64 { @inline(__always) get { unsafe registers.pointee.r8 } }
  public var a5: UInt64 { @inline(__always) get { unsafe registers.pointee.r9 } }

  /// Argument `index` as a C int: the low 32 bits, as on Linux.
  @inline(__always)
  public func int(_ index: Int) -> Int32 { Int32(truncatingIfNeeded: argument(index)) }

  /// Argument `index` as a C unsigned int.
  @inline(__always)
  public func uint(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: argument(index)) }

  /// Argument `index`, 0 to 5.
  @inline(__always)
  public func argument(_ index: Int) -> UInt64 {
    switch index {
    case 0: a0
    case 1: a1
    case 2: a2
    case 3: a3
    case 4: a4
    default: a5
    }
  }

  /// Who calls, for the file system's permission checks.
  public var caller: Caller { @export(interface) get { task.caller } }
  public var descriptors: DescriptorTable { @inline(__always) get { task.descriptors } }
  /// The caller's address space: a running task has one.
  public var addressSpace: AddressSpace { @inline(__always) get { task.runningAddressSpace } }
  public var credentials: Credentials { @inline(__always) get { task.credentials } }
}
