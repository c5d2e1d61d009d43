// clone(2), clone3(2), fork(2), vfork(2): a new thread, in the same process or in one of its own, which shares with its
// parent what the flags say and gets copies of the rest.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import Scheduling
import Synchronization
import VirtualMemory

/// The arguments of clone3(2); the older calls are translated into them.
public struct CloneRequest: Sendable {
  public var flags: UInt64
  /// The signal for the parent when the child ends.
  public var exitSignal: Int32
  /// The child's stack pointer; 0 keeps the parent's.
  public var stackPointer: UInt64 = 0
  public var threadPointer: UInt64 = 0
  public var parentTidAddress: UInt64 = 0
  public var pidfdAddress: UInt64 = 0
  public var childTidAddress: UInt64 = 0

  public init(flags: UInt64, exitSignal: Int32) {
    self.flags = flags
    self.exitSignal = exitSignal
  }

  /// Namespaces are not there yet.
  private static var namespaces: UInt64 {
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
  }

  func has(_ flag: UInt64) -> Bool { flags & flag != 0 }

  /// Checks the combinations (clone(2), ERRORS).
  func validate() throws(Errno) {
    if has(CLONE_SIGHAND) && !has(CLONE_VM) { throw .EINVAL }
    if has(CLONE_THREAD) && !has(CLONE_SIGHAND) { throw .EINVAL }
    if has(CLONE_FS) && has(CLONE_NEWNS) { throw .EINVAL }
    if has(CLONE_CLEAR_SIGHAND) && has(CLONE_SIGHAND) { throw .EINVAL }
    if has(CLONE_PIDFD) && has(CLONE_DETACHED) { throw .EINVAL }
    if flags & CloneRequest.namespaces != 0 || has(CLONE_INTO_CGROUP) { throw .EINVAL }
    guard exitSignal == 0 || SignalSet.isValid(exitSignal) else { throw .EINVAL }
  }
}

extension Task {
  /// Makes a child. `prepare` runs when the child has its identifier but has not yet begun: it may still fail.
  ///
  /// - Returns: the child's thread identifier.
  /// - Throws: EINVAL, EAGAIN (limits), ENOMEM; ERESTARTNOINTR when a signal must be taken first.
  @export(interface)
  public func clone(_ request: CloneRequest, prepare: (Task) throws(Errno) -> Void) throws(Errno) -> Int32 {
    try request.validate()
    // A signal sent to a group during a fork must reach the child as well: take it first (POSIX, fork).
    if hasPendingSignal { throw .ERESTARTNOINTR }
    try ProcessTable.checkRoom(processQuota)
    let child = try makeChild(request)
    do throws(Errno) {
      try child.findKernelStack()
      try child.makeMachineThread(from: self, request)
      try enter(child, request)
    } catch {
      child.abandon()
      throw error
    }
    let tid = child.tid
    let completion = request.has(CLONE_VFORK) ? VforkCompletion() : nil
    child.vforkCompletion = completion
    do throws(Errno) {
      try prepare(child)
      // As on Linux the child is there, whether or not the address is good.
      if request.has(CLONE_PARENT_SETTID) { try? UserMemory.write(tid, to: request.parentTidAddress) }
      try child.start()
    } catch {
      child.withdraw()
      throw error
    }
    if let completion { try? completion.wait() }
    return tid
  }

  /// RLIMIT_NPROC, which does not bind the privileged (setrlimit(2)).
  private var processQuota: ProcessQuota? {
    let user = credentials.realUser
    let limit = process.limit(.processes)
    guard user != 0, limit != ResourceLimit.infinity, !credentials.has(.resources),
      !credentials.has(.systemAdministration)
    else { return nil }
    return ProcessQuota(user: user, limit: limit)
  }

  /// The child object with everything that it shares or copies.
  private func makeChild(_ request: CloneRequest) throws(Errno) -> Task {
    let space = request.has(CLONE_VM) ? runningAddressSpace : try runningAddressSpace.fork()
    let childProcess =
      request.has(CLONE_THREAD) ? process : Process(group: ProcessTable.reaper.group, limits: process.limits)
    let childActions: SignalActions
    if request.has(CLONE_SIGHAND) {
      childActions = actions
    } else {
      childActions = request.has(CLONE_CLEAR_SIGHAND) ? actions.copyForExec() : actions.copy()
    }
    let childDescriptors: DescriptorTable
    if request.has(CLONE_FILES) {
      descriptors.enter()
      childDescriptors = descriptors
    } else {
      childDescriptors = descriptors.copy()
    }
    if request.has(CLONE_VM) { space.threadStarted() }
    let child = Task(
      process: childProcess, addressSpace: space,
      descriptors: childDescriptors,
      fileSystemContext: request.has(CLONE_FS) ? fileSystemContext : fileSystemContext.copy(),
      credentials: credentials, actions: childActions)
    child.program = program
    child.commandName = commandName
    child.blocked = blocked
    child.niceness = niceness
    child.memoryPolicy = memoryPolicy
    child.schedulingPolicy = schedulingPolicy
    child.schedulingPriority = schedulingPriority
    (child.timerSlack, child.defaultTimerSlack) = (timerSlack, timerSlack)
    child.isTraced = isTraced
    try? child.setAffinity(affinity)
    // sigaltstack(2): threads start without an alternate stack; forked and vforked children keep it.
    if !request.has(CLONE_VM) || request.has(CLONE_VFORK) { child.alternateStack = alternateStack }
    if !request.has(CLONE_THREAD) {
      childProcess.exitSignal = request.has(CLONE_PARENT) ? process.exitSignal : request.exitSignal
      childProcess.parentThread = request.has(CLONE_PARENT) ? process.parentThread : tid
      childProcess.dumpable = process.dumpable
      childProcess.personality = process.personality
      let processorTime = process.limit(.processorTime)
      if processorTime != ResourceLimit.infinity { childProcess.limitChanged(.processorTime, to: processorTime) }
      childProcess.outOfMemoryAdjustment.store(
        process.outOfMemoryAdjustment.load(ordering: .relaxed), ordering: .relaxed)
    }
    if request.has(CLONE_CHILD_SETTID) { child.childTidAddress = request.childTidAddress }
    if request.has(CLONE_CHILD_CLEARTID) { child.clearChildTid = request.childTidAddress }
    return child
  }

  /// Gives the child its kernel stack: frames in a row, which scattered memory is compacted for. While memory is short the
  /// call waits for some, as a page fault does.
  private func findKernelStack() throws(Errno) {
    var relief = MemoryPressure.Relief()
    while true {
      do throws(Errno) { return try makeKernelStack() } catch {
        try KernelMemory.admit(bytes: Int(Thread.kernelStackSize))
        guard relief.find() else { throw error }
      }
    }
  }

  /// The machine's half of the child: the parent's registers and extended state, with 0 as the result of the call.
  private func makeMachineThread(from parent: Task, _ request: CloneRequest) throws(Errno) {
    LockOrder.mayWait()
    let handle = machine_user_create(runningAddressSpace.machineSpace)
    guard handle >= 0 else { throw Errno(rawValue: Int32(truncatingIfNeeded: -handle)) }
    user = handle
    let copied = machine_user_xstate_copy(parent.user, handle)
    guard copied >= 0 else { throw Errno(rawValue: Int32(truncatingIfNeeded: -copied)) }
    // SAFETY: the parent is in the kernel, the child has not begun.
    unsafe registers.pointee = parent.registers.pointee
    unsafe registers.pointee.rax = 0
    unsafe registers.pointee.orig_rax = .max
    if request.stackPointer != 0 { unsafe registers.pointee.rsp = request.stackPointer }
    if request.has(CLONE_SETTLS) { unsafe registers.pointee.fs_base = request.threadPointer }
  }

  /// Enters the child into the process table and its process.
  private func enter(_ child: Task, _ request: CloneRequest) throws(Errno) {
    if request.has(CLONE_THREAD) {
      try ProcessTable.add(child, quota: processQuota)
    } else {
      var parent = process
      if request.has(CLONE_PARENT) { parent = ProcessTable.state.withLock { _ in process.parent } ?? process }
      // Its thread first: a signal for the process finds a thread to take it from the moment at which the process has a number.
      child.process.signals.withLock { $0.tasks.append(child) }
      do throws(Errno) {
        try ProcessTable.add(
          child.process, leader: child, parent: parent, inGroupOf: process, quota: processQuota, unlessSignalled: self)
      } catch {
        child.process.signals.withLock { $0.tasks.removeAll() }
        throw error
      }
    }
    child.process.signals.withLock { state in
      if request.has(CLONE_THREAD) { state.tasks.append(child) }
      // The process is ending, or about to run another program with one thread: the new one must not outlive that.
      if state.exitStatus != nil || state.soleSurvivor != nil {
        child.attention.bitwiseOr(Attention.exit, ordering: .relaxed)
      }
      // A stop that has begun waits for the new thread as well.
      if request.has(CLONE_THREAD) && state.stopSignal != 0 {
        state.tasksToStop += 1
        child.attention.bitwiseOr(Attention.stop, ordering: .relaxed)
      }
      child.recomputePending(state)
    }
  }

  /// Gives up a child that has no identifier yet.
  private func abandon() {
    releaseResources()
  }

  /// Gives up a child that was entered but never ran.
  private func withdraw() {
    releaseResources()
    process.signals.withLock { state in state.tasks.removeAll { $0 === self } }
    if process.leader === self {
      ProcessTable.withLock { state in
        state.taskCount -= 1
        ProcessTable.forget(process, &state)
      }
    } else {
      ProcessTable.remove(self)
    }
  }
}
