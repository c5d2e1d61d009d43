// The life of a user thread: run user code until something happens, deal with it, return to user code. Everything that
// a program experiences (system calls, faults, signals, preemption, its end) passes through this loop.

import Identity
import KernelCore
import LinuxABI
import Machine
import Scheduling
import Synchronization
import VirtualMemory

extension Task {
  /// The system-call dispatcher, installed by the room above. It leaves the result in the registers.
  public nonisolated(unsafe) static var systemCallEntry: ((Task) -> Void)?

  /// Runs the program until the thread ends.
  func runProgram() {
    // A new child's first act: the store that CLONE_CHILD_SETTID asked for. Failure is ignored, as on Linux.
    if let address = childTidAddress { try? UserMemory.write(tid, to: address) }
    var event = machine_event()
    var now = Instant.now()
    while true {
      if attention.load(ordering: .relaxed) != 0 {
        handleAttention()
        if isExiting { break }
      }
      if TimeDebts.exist.load(ordering: .relaxed) { TimeDebts.pay(for: credentials.realUser) }
      let entered = now
      // SAFETY: the registers and the event are ours; the handle is valid while the task runs.
      let deadline = nextDeadline(now)
      RCU.beginUser()
      LockOrder.mayWait()
      unsafe machine_user_run(user, registers, &event, deadline)
      RCU.endUser()
      now = Instant.now()
      chargeUserTime(now.nanoseconds(since: entered))
      switch machine_event_kind(event.kind) {
      case MACHINE_EVENT_INTERRUPT: unsafe registers.pointee.orig_rax = .max
      case MACHINE_EVENT_SYSCALL:
        if event.vector != 0 { unsafe offerReplacement(at: registers.pointee.rip &- 2) }
        Task.systemCallEntry?(self)
        // A restart code is for the signal code, even if the signal that caused it has gone to another thread meanwhile.
        if unsafe RestartDecision.isRestartCode(Int64(bitPattern: registers.pointee.rax)) {
          attention.bitwiseOr(Attention.signal, ordering: .relaxed)
        }
      case MACHINE_EVENT_FAULT: handleFault(event)
      case MACHINE_EVENT_TRAP: handleTrap(event)
      case MACHINE_EVENT_FOREIGN: handleForeignEntry()
      default:
        // The machine lost the thread, most often because it did not give its CPU back: as if it had been killed.
        chargeUserTime(event.address)
        TimeDebts.add(now.nanoseconds(since: entered) &+ event.address, to: credentials.realUser)
        process.beginExit(.killed(SIGKILL))
      }
      // Before others run: the thread that has used the time gets the signal.
      if process.timers.watchesProcessorTime { process.timers.checkProcessorTime(self) }
      now = Instant.now()
      // What others ran is not the program's time.
      if Scheduler.interruptPoint(now: now) { now = Instant.now() }
      MemoryPressure.balance()
    }
    finish()
  }

  /// A system call that the machine could make cheaper, if programs of this one's owner may share its code.
  private func offerReplacement(at address: UInt64) {
    guard let owner = credentials.codeOwner else { return }
    runningAddressSpace.offerReplacement(at: address, owner: owner)
  }

  /// The instant at which user code must come back to the kernel.
  private func nextDeadline(_ now: Instant) -> UInt64 {
    let deadline = Scheduler.nextDeadline()
    guard process.timers.watchesProcessorTime else { return deadline }
    return min(deadline, now.advanced(byNanoseconds: ProcessTimers.processorTimeGranularity).nanoseconds)
  }

  /// A page fault of user code: the address space resolves it, or the program gets SIGSEGV or SIGBUS.
  private func handleFault(_ event: machine_event) {
    unsafe registers.pointee.orig_rax = .max
    let access: Access
    switch event.access {
    case MACHINE_ACCESS_WRITE.rawValue: access = .write
    case MACHINE_ACCESS_EXECUTE.rawValue: access = .execute
    default: access = .read
    }
    let fetched = transfers.fetched
    // A fault that had to wait for storage is a major one (getrusage(2)).
    defer { if transfers.fetched == fetched { minorFaults &+= 1 } else { majorFaults &+= 1 } }
    do throws(FaultFailure) {
      try runningAddressSpace.handleFault(at: event.address, access: access)
    } catch {
      switch error {
      case .notMapped: raiseFault(SIGSEGV, SEGV_MAPERR, event)
      case .notPermitted: raiseFault(SIGSEGV, SEGV_ACCERR, event)
      case .bus: raiseFault(SIGBUS, BUS_ADRERR, event)
      case .outOfMemory: OutOfMemoryKiller.shared.endCurrent(self)
      }
    }
  }

  private func raiseFault(_ signal: Int32, _ code: Int32, _ event: machine_event) {
    faultContext = FaultContext(address: event.address, errorCode: UInt64(event.error_code), vector: 14)
    Signals.force(.fault(signal, code: code, address: event.address), on: self)
  }

  /// A processor exception of user code, as a signal (signal(7); the codes of sigaction(2)).
  private func handleTrap(_ event: machine_event) {
    unsafe registers.pointee.orig_rax = .max
    let address = unsafe registers.pointee.rip
    faultContext = FaultContext(address: 0, errorCode: UInt64(event.error_code), vector: UInt64(event.vector))
    switch event.vector {
    case 0: Signals.force(.fault(SIGFPE, code: FPE_INTDIV, address: address), on: self)
    case 1: Signals.force(.fault(SIGTRAP, code: TRAP_TRACE, address: address), on: self)
    case 3: Signals.force(.kernel(SIGTRAP), on: self)
    case 6: Signals.force(.fault(SIGILL, code: ILL_ILLOPN, address: address), on: self)
    case 16, 19: Signals.force(.fault(SIGFPE, code: floatingPointCode(), address: address), on: self)
    case 17: Signals.force(.fault(SIGBUS, code: BUS_ADRALN, address: 0), on: self)
    // #GP, #SS, #NP, #OF, #BR: SIGSEGV without an address.
    default: Signals.force(.kernel(SIGSEGV), on: self)
    }
  }

  /// The reason of an SSE exception: the flags of MXCSR which are set and not masked (Intel SDM 1, 11.5).
  private func floatingPointCode() -> Int32 {
    guard let image = ExtendedState.read(user) else { return FPE_FLTINV }
    let flags = image.unmaskedExceptions
    if flags & 1 != 0 { return FPE_FLTINV }
    if flags & 4 != 0 { return FPE_FLTDIV }
    if flags & 8 != 0 { return FPE_FLTOVF }
    if flags & 0x12 != 0 { return FPE_FLTUND }
    if flags & 0x20 != 0 { return FPE_FLTRES }
    return FPE_FLTINV
  }

  /// `int 0x80`, an x32 number or the vsyscall page: this kernel has the 64-bit calls only.
  private func handleForeignEntry() {
    // SAFETY: the task is in the kernel.
    unsafe registers.pointee.orig_rax = .max
    unsafe registers.pointee.rax = UInt64(bitPattern: -Int64(Errno.ENOSYS.rawValue))
  }
}

/// What sigcontext shows of the last fault.
struct FaultContext {
  var address: UInt64 = 0
  var errorCode: UInt64 = 0
  var vector: UInt64 = 0
}
