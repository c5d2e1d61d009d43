// The frame that a handler runs on, exactly as x86-64 Linux lays it out, because debuggers, unwinders and language
// runtimes read and change it:
//
//     higher addresses
//       the interrupted program's stack, or the top of the alternate stack
//       128 bytes of red zone (ABI 3.2.2), on the program's own stack only
//       the XSAVE image, 64-byte aligned, and FP_XSTATE_MAGIC2 behind it      <- sigcontext.fpstate
//       siginfo_t                                                            <- rsi
//       ucontext                                                             <- rdx
//       the restorer's address: what the handler returns to                  <- rsp, 16n + 8

import CLinuxABI
import KernelCore
import LinuxABI
import Machine
import VirtualMemory

extension Task {
  /// The size of the largest frame, for AT_MINSIGSTKSZ.
  static var largestSignalFrame: UInt64 {
    UInt64(MemoryLayout<linux_rt_sigframe>.size + ExtendedState.size + 4 + 64 + 16 + 8)
  }

  /// Sets up the registers and the stack for a handler.
  ///
  /// - Throws: EFAULT when the frame cannot be stored, or the action has no restorer.
  func pushSignalFrame(_ information: SignalInformation, _ action: SignalAction) throws(Errno) {
    guard action.has(SA_RESTORER) else { throw .EFAULT }
    // SAFETY (here and below): the task is in the kernel, its registers are nobody else's.
    let before = unsafe registers.pointee
    var stack = signalStack(action)

    var frame = linux_rt_sigframe()
    frame.return_address = action.restorer
    frame.info = information.abi
    if var state = ExtendedState.read(user) {
      stack = (stack &- UInt64(state.bytes.count + 4)) & ~63
      try store(&state, at: stack)
      frame.ucontext.context.fpstate = stack
      frame.ucontext.flags = UC_FP_XSTATE
    }
    stack = ((stack &- UInt64(MemoryLayout<linux_rt_sigframe>.size)) & ~15) &- 8
    if alternateStack.contains(before.rsp) || entersAlternateStack(action) {
      guard alternateStack.contains(stack) || alternateStack.flags & SS_AUTODISARM != 0 else { throw .EFAULT }
    }
    frame.ucontext.flags |= UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    frame.ucontext.stack = linux_sigaltstack(
      sp: alternateStack.base, flags: alternateStack.flags, padding: 0, size: alternateStack.size)
    frame.ucontext.mask = (savedMask ?? blocked).rawValue
    fill(&frame.ucontext.context, from: before)
    try UserMemory.write(frame, to: stack)
    // A handler starts with the initial floating-point and vector state, whatever it interrupts.
    try ExtendedState.initial.write(user)
    if alternateStack.flags & SS_AUTODISARM != 0 { alternateStack = AlternateStack() }

    var after = before
    after.rip = action.handler
    after.rsp = stack
    after.rdi = UInt64(UInt32(bitPattern: information.signal))
    after.rsi = stack &+ UInt64(MemoryLayout<linux_rt_sigframe>.offset(of: \.info)!)
    after.rdx = stack &+ 8
    after.rax = 0
    after.orig_rax = .max
    after.cs = 0x33
    after.ss = 0x2b
    // The handler starts with the direction flag clear (ABI 3.2.1) and without single-stepping.
    after.eflags &= ~(0x400 | 0x100 | 0x10000)
    unsafe registers.pointee = after
  }

  /// Below what a handler's frame lies.
  func signalStack(_ action: SignalAction) -> UInt64 {
    if entersAlternateStack(action) { return alternateStack.base &+ alternateStack.size }
    return unsafe registers.pointee.rsp &- 128
  }

  private func entersAlternateStack(_ action: SignalAction) -> Bool {
    let stack = unsafe registers.pointee.rsp
    return action.has(SA_ONSTACK) && alternateStack.size != 0 && !alternateStack.contains(stack)
  }

  /// Stores the image with the marks for its readers.
  private func store(_ image: inout ExtendedState, at address: UInt64) throws(Errno) {
    let size = image.bytes.count
    image.set(UInt64(FP_XSTATE_MAGIC1) | UInt64(size + 4) << 32, at: ExtendedState.softwareOffset)
    image.set(image.components | 3, at: ExtendedState.softwareOffset + 8)
    image.set(UInt64(size), at: ExtendedState.softwareOffset + 16)
    for offset in stride(from: 24, to: 48, by: 8) { image.set(0, at: ExtendedState.softwareOffset + offset) }
    try UserMemory.copyOut(to: address, image.bytes)
    try UserMemory.write(FP_XSTATE_MAGIC2, to: address &+ UInt64(size))
  }

  private func fill(_ context: inout linux_sigcontext, from r: machine_registers) {
    (context.r8, context.r9, context.r10, context.r11) = (r.r8, r.r9, r.r10, r.r11)
    (context.r12, context.r13, context.r14, context.r15) = (r.r12, r.r13, r.r14, r.r15)
    (context.rdi, context.rsi, context.rbp, context.rbx) = (r.rdi, r.rsi, r.rbp, r.rbx)
    (context.rdx, context.rax, context.rcx, context.rsp) = (r.rdx, r.rax, r.rcx, r.rsp)
    (context.rip, context.eflags, context.cs, context.ss) = (r.rip, r.eflags, 0x33, 0x2b)
    context.error_code = faultContext.errorCode
    context.trap_number = faultContext.vector
    context.cr2 = faultContext.address
    context.old_mask = (savedMask ?? blocked).rawValue
  }

  /// rt_sigreturn(2): restores what the handler interrupted, from the frame, which the program may have changed.
  ///
  /// - Returns: rax of the restored context.
  @export(interface)
  public func returnFromSignal() -> Int64 {
    do throws(Errno) {
      let stack = unsafe registers.pointee.rsp &- 8
      let ucontext = try UserMemory.read(stack &+ 8, as: linux_ucontext.self)
      let context = ucontext.context
      setMask(SignalSet(rawValue: ucontext.mask))
      // The registers first: when the rest of the frame is bad, SIGSEGV meets the program where it was interrupted.
      restore(context)
      do throws(Errno) {
        try restoreExtendedState(context.fpstate)
        restoreAlternateStack(ucontext.stack)
      } catch {
        try? ExtendedState.initial.write(user)
        Signals.force(.kernel(SIGSEGV), on: self)
      }
      return Int64(bitPattern: context.rax)
    } catch {
      Signals.force(.kernel(SIGSEGV), on: self)
      unsafe registers.pointee.orig_rax = .max
      return 0
    }
  }

  private func restore(_ c: linux_sigcontext) {
    // SAFETY: as above. Segments and privileged flags are not the program's to set.
    var r = unsafe registers.pointee
    (r.r8, r.r9, r.r10, r.r11) = (c.r8, c.r9, c.r10, c.r11)
    (r.r12, r.r13, r.r14, r.r15) = (c.r12, c.r13, c.r14, c.r15)
    (r.rdi, r.rsi, r.rbp, r.rbx) = (c.rdi, c.rsi, c.rbp, c.rbx)
    (r.rdx, r.rax, r.rcx, r.rsp, r.rip) = (c.rdx, c.rax, c.rcx, c.rsp, c.rip)
    let settable: UInt64 = 0x40000 | 0x10000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 0x4 | 0x1
    r.eflags = (r.eflags & ~settable) | (c.eflags & settable)
    (r.cs, r.ss) = (0x33, 0x2b)
    // Not in a system call any more: nothing restarts.
    r.orig_rax = .max
    unsafe registers.pointee = r
  }

  private func restoreAlternateStack(_ stack: linux_sigaltstack) {
    let new = AlternateStack(base: stack.sp, size: stack.size, flags: stack.flags)
    guard stack.flags & ~(SS_DISABLE | SS_AUTODISARM | SS_ONSTACK) == 0 else { return }
    if stack.flags & SS_DISABLE != 0 {
      alternateStack = AlternateStack()
    } else if !alternateStack.contains(unsafe registers.pointee.rsp) || new == alternateStack {
      alternateStack = AlternateStack(base: new.base, size: new.size, flags: new.flags & SS_AUTODISARM)
    }
  }

  /// Loads the XSAVE image at `address`; 0 stands for the processor's initial state, an image without the marks for
  /// the old FXSAVE format, which ends where the XSAVE header begins.
  private func restoreExtendedState(_ address: UInt64) throws(Errno) {
    guard address != 0 else { return try ExtendedState.initial.write(user) }
    var (image, count) = ExtendedState.copyIn(from: address, runningAddressSpace)
    guard count >= ExtendedState.headerOffset else { throw .EFAULT }
    let marks = image.word(at: ExtendedState.softwareOffset)
    let features = image.word(at: ExtendedState.softwareOffset + 8)
    let size = image.word(at: ExtendedState.softwareOffset + 16) & 0xffff_ffff
    var isExtended =
      UInt32(truncatingIfNeeded: marks) == FP_XSTATE_MAGIC1 && size == UInt64(ExtendedState.size)
      && marks >> 32 >= size + 4
    if isExtended {
      isExtended = try UserMemory.read(address &+ size, as: UInt32.self) == FP_XSTATE_MAGIC2
    }
    if isExtended {
      guard count == ExtendedState.size else { throw .EFAULT }
      // XRSTOR faults on components that the processor does not have, then loads those that the frame was made with.
      try image.write(user)
      guard image.components & ~features != 0 else { return }
      image.components &= features
    } else {
      image.clear(from: ExtendedState.headerOffset)
      image.components = 3
    }
    try image.write(user)
  }

  /// Continues or ends the system call that a signal interrupted, as its result says.
  func finishInterruptedCall(handler: SignalAction?) {
    // SAFETY: as above.
    var r = unsafe registers.pointee
    guard r.orig_rax != .max else { return }
    switch RestartDecision.after(result: Int64(bitPattern: r.rax), handler: handler) {
    case .finished: break
    case .interrupted: r.rax = UInt64(bitPattern: -Int64(Errno.EINTR.rawValue))
    case .again:
      r.rax = r.orig_rax
      r.rip &-= 2
    case .continued:
      r.rax = Task.restartSystemCall
      r.rip &-= 2
    }
    r.orig_rax = .max
    unsafe registers.pointee = r
  }

  /// The number of restart_syscall(2).
  static let restartSystemCall: UInt64 = 219
}
