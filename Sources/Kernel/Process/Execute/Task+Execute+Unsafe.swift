// execve(2), execveat(2): the task goes on as another program. First the new program is loaded beside the old one; when
// nothing can fail any more, the task becomes the only thread of its process, and the old program is gone.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import Scheduling
import Synchronization
import VirtualMemory

extension Task {
  /// Replaces the program.
  ///
  /// - Parameters:
  ///   - path: the file, already found.
  ///   - fileName: the name that was given for it, for AT_EXECFN and `#!` scripts.
  /// - Throws: the errors of execve(2); the old program goes on then.
  @export(interface)
  public func execute(_ path: Path, fileName: ByteString, _ arguments: ProgramArguments) throws(Errno) {
    let caller = caller
    let resolved = try ResolvedProgram(
      try ProgramFile.open(path, by: caller), fileName: fileName, arguments: arguments, by: caller)
    let identity = try newIdentity(resolved.program)
    let loaded = try ProgramLoader.load(
      resolved, limits: process.memoryLimits, credentials: identity.credentials, isSecure: identity.isSecure,
      placement: ProgramPlacement(personality: identity.isSecure ? process.securePersonality : process.personality),
      by: caller
    )
    LockOrder.mayWait()
    let handle = machine_user_create(loaded.space.machineSpace)
    do throws(Errno) {
      guard handle >= 0 else { throw Errno(rawValue: Int32(truncatingIfNeeded: -handle)) }
      try becomeOnlyThread()
    } catch {
      if handle >= 0 { machine_user_destroy(handle) }
      loaded.space.threadEnded()
      throw error
    }
    // The point of no return.
    leaveOldProgram()
    let gains = credentials.gains(in: identity.credentials)
    // Others may look into a program that they may read and that has no more rights than they (execve(2), prctl(2)).
    let isDumpable = !gains && credentials.hasOneIdentity && resolved.isReadable
    if gains || identity.isSecure { parentDeathSignal = 0 }
    // Others that share root and working directory (CLONE_FS) would go on changing them for the privileged program.
    if gains { unshare(files: false, directories: true) }
    enterNewProgram(loaded, handle, identity.credentials, dumpable: isDumpable ? 1 : 0)
    if identity.isSecure { process.personality = process.securePersonality }
    let name = fileName.bytes.split(separator: 0x2f, omittingEmptySubsequences: true).last.map { ByteString($0) }
    commandName = name ?? fileName
    replaceProgram(resolved.program)
    ProcessTable.state.withLock { _ in
      process.hasExecuted = true
      process.exitSignal = SIGCHLD
    }
  }

  /// - Throws: EPERM when the file's capabilities do not all come through: a program that does not know about
  ///   capabilities must not run with a part of them (capabilities(7), "Safety checking for capability-dumb binaries").
  private func newIdentity(_ program: ProgramFile) throws(Errno) -> (credentials: Credentials, isSecure: Bool) {
    let (user, group) = program.setIdentities
    let file = program.capabilities
    if let file, !credentials.obtainsAll(of: file) { throw .EPERM }
    return credentials.executing(setUser: user, setGroup: group, file: file)
  }

  /// Ends all other threads and takes the place of the leader.
  ///
  /// - Throws: ERESTARTNOINTR when this thread itself must end.
  private func becomeOnlyThread() throws(Errno) {
    let isAlone: Bool = try process.signals.withLock { state throws(Errno) in
      guard state.exitStatus == nil, state.soleSurvivor == nil else { throw .ERESTARTNOINTR }
      if state.tasks.count == 1 { return true }
      state.soleSurvivor = self
      for task in state.tasks where task !== self { task.demandAttention(Attention.exit) }
      return false
    }
    if !isAlone {
      defer { process.signals.withLock { $0.soleSurvivor = nil } }
      try Thread.sleep(.killable) { process.signals.withLock { $0.tasks.count == 1 } }
    }
    guard process.leader !== self else { return }
    ProcessTable.makeLeader(self)
    process.signals.withLock { $0.leaderStatus = nil }
  }

  /// Gives back what belongs to the old program.
  private func leaveOldProgram() {
    RobustList.release(of: self)
    if clearChildTid != 0 {
      try? UserMemory.write(UInt32(0), to: clearChildTid)
      _ = try? Futex.wake(address: clearChildTid, count: 1, bitset: .max, scope: .shared)
      clearChildTid = 0
    }
    notePeakMemory()
    LockOrder.mayWait()
    machine_user_destroy(user)
    user = -1
  }

  private func enterNewProgram(_ loaded: LoadedProgram, _ handle: Int64, _ new: Credentials, dumpable: Int32) {
    exchangeProgram(loaded.space, new, dumpable: dumpable)?.threadEnded()
    // The parent of a vfork may use its memory again.
    vforkCompletion?.complete()
    vforkCompletion = nil
    user = handle
    var fresh = machine_registers()
    fresh.rip = loaded.entry
    fresh.rsp = loaded.stackPointer
    fresh.cs = 0x33
    fresh.ss = 0x2b
    fresh.eflags = 0x202
    fresh.orig_rax = .max
    // SAFETY: the task is in the kernel.
    unsafe registers.pointee = fresh
    let newActions = actions.copyForExec()
    process.signals.withLock { _ in actions = newActions }
    alternateStack = AlternateStack()
    restart = nil
    process.timers.programChanged()
    unshare(files: true, directories: false)
    descriptors.closeOnExec()
    // Beyond the user limit lies code of the machine. As on Linux it is too late for an error: the new program ends.
    if loaded.entry >= AddressSpace.userLimit { process.beginExit(.killed(SIGSEGV)) }
  }

  private func replaceProgram(_ new: ProgramFile) {
    let old = resources.withLock { _ in
      let old = program
      program = new
      return old
    }
    // Its last reference may end here, outside the lock.
    _ = consume old
  }
}

extension Process {
  /// The limits that address spaces enforce.
  public var memoryLimits: AddressSpaceLimits {
    @export(interface) get {
      let limits = limits
      var memory = AddressSpaceLimits()
      memory.addressSpace = limits[.addressSpace].soft
      memory.data = limits[.data].soft
      memory.stack = limits[.stack].soft
      memory.locked = limits[.lockedMemory].soft
      return memory
    }
  }

  /// Makes the first process: the command that the machine was booted for, as leader of a session of its own. It runs
  /// when the caller starts its leader.
  ///
  /// - Parameter prepare: runs with the task before it executes the program (descriptors 0, 1 and 2, the terminal).
  /// - Throws: what execve(2) throws.
  @export(interface)
  public static func startFirst(
    _ arguments: ProgramArguments, path: ByteString, fileSystemContext: FileSystemContext, credentials: Credentials,
    limits: ResourceLimits, prepare: (Task) throws(Errno) -> Void
  ) throws(Errno) -> Process {
    let root = fileSystemContext.root
    Task.endedContext = FileSystemContext(
      root: root, workingDirectory: root, namespace: fileSystemContext.namespace)
    OutOfMemoryKiller.install()
    CommitAccounting.install(CommitJudge())
    ProcessJobControl.install()
    let reaper = ProcessTable.reaper
    let process = Process(group: reaper.group, limits: limits)
    let task = Task(
      process: process, addressSpace: nil,
      descriptors: DescriptorTable(limit: Int(clamping: limits[.openFiles].soft)),
      fileSystemContext: fileSystemContext, credentials: credentials, actions: SignalActions())
    try ProcessTable.add(process, leader: task, parent: reaper, inGroupOf: reaper)
    process.signals.withLock { $0.tasks.append(task) }
    _ = try ProcessTable.makeSession(process)
    try prepare(task)
    let place = try PathWalk.resolve(path, by: task.caller)
    try task.execute(place, fileName: path, arguments)
    return process
  }
}
