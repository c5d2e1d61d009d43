// A thread of a user program. The scheduler's half is the superclass; here is what a program sees: identity, registers,
// signal mask, and references to what it may share with others (address space, descriptors, directories, signal actions:
// each shared or copied by clone(2) on its own).
//
// A task changes its own references under `resources`, so that others (procfs, kill, ptrace-like calls) can read them
// through the `shared…` accessors; the task itself reads them without a lock.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import Scheduling
import Synchronization
import VirtualMemory

/// A user thread.
@safe public final class Task: Thread {
  // MARK: Identity

  public internal(set) var tid: Int32 = 0
  public let process: Process
  public let startTime = Instant.now()

  // MARK: The machine's thread

  // SAFETY: allocated with the task and freed in its deinit.
  /// The registers of user mode, valid while the task is in the kernel.
  public let registers: UnsafeMutablePointer<machine_registers>
  /// The machine's handle of the thread, -1 when it has none.
  var user: Int64 = -1

  // MARK: What it may share

  public internal(set) var addressSpace: AddressSpace?
  public internal(set) var descriptors: DescriptorTable
  public internal(set) var fileSystemContext: FileSystemContext
  public internal(set) var credentials: Credentials
  public internal(set) var actions: SignalActions
  /// The program that the task runs: the file of the last exec.
  var program: ProgramFile?
  let resources = SpinLock((), rank: .task)

  /// The user whose threads this one is counted among. Guarded by the lock of `ProcessTable`.
  var countedUser: UInt32?

  // MARK: Signals

  /// Signals sent to this thread. Guarded by `process.signals`.
  var pending = PendingSignals()
  /// The signal mask. Written by the task itself under `process.signals`.
  public internal(set) var blocked = SignalSet()
  /// The signals for which the task waits (sigtimedwait(2)). Guarded by `process.signals`.
  var awaited = SignalSet()
  /// The mask to restore after a call with a temporary one (sigsuspend, ppoll) when no handler runs.
  var savedMask: SignalSet?
  /// What has to be done before the next return to user mode.
  let attention = Atomic<UInt32>(0)
  public var alternateStack = AlternateStack()
  /// What the next signal frame shows of the fault that raised the signal.
  var faultContext = FaultContext()
  /// How a call that returned ERESTART_RESTARTBLOCK goes on (restart_syscall(2)).
  public var restart: ((Task) throws(Errno) -> Int64)?
  /// PR_SET_PDEATHSIG.
  public var parentDeathSignal: Int32 = 0
  /// The next in a list of leaders of reaped processes (`ProcessTable`).
  var nextForgotten: Task?

  // MARK: Threads

  /// User address to clear, and to wake as a futex, when the thread ends (set_tid_address(2)).
  public var clearChildTid: UInt64 = 0
  /// Head of the robust futex list (set_robust_list(2)).
  public var robustList: UInt64 = 0
  /// Told when this task stops using its parent's address space (vfork).
  var vforkCompletion: VforkCompletion?
  /// CLONE_CHILD_SETTID: where the child stores its identifier when it first runs.
  var childTidAddress: UInt64?
  let futexWaiter: FutexWaiter
  /// The status of exit(2), when the process as a whole is not ending.
  var exitCode = WaitStatus(rawValue: 0)
  var isExiting = false
  public var minorFaults: UInt64 = 0
  public var majorFaults: UInt64 = 0
  /// sched_setscheduler(2): kept and reported; the scheduler has one class.
  public var schedulingPolicy: Int32 = SCHED_OTHER
  public var schedulingPriority: Int32 = 0
  /// PR_SET_TIMERSLACK, in nanoseconds, and the value that PR_SET_TIMERSLACK of 0 restores: what the parent had at fork.
  public var timerSlack: UInt64 = 50_000
  public var defaultTimerSlack: UInt64 = 50_000
  /// The system call that runs, -1 in user mode (/proc/PID/syscall).
  public var currentSystemCall: Int64 = -1
  /// Whether system calls are written to the trace sink.
  public var isTraced = false

  /// Where tasks that have ended stand: a zombie must not keep a directory in use. Set before the first task starts.
  nonisolated(unsafe) static var endedContext: FileSystemContext?

  private var nameStorage: (UInt64, UInt64) = (0, 0)

  init(
    process: Process, addressSpace: AddressSpace?, descriptors: DescriptorTable, fileSystemContext: FileSystemContext,
    credentials: Credentials, actions: SignalActions
  ) {
    self.process = process
    self.addressSpace = addressSpace
    self.descriptors = descriptors
    self.fileSystemContext = fileSystemContext
    self.credentials = credentials
    self.actions = actions
    futexWaiter = FutexWaiter()
    unsafe registers = .allocate(capacity: 1)
    unsafe registers.initialize(to: machine_registers())
    super.init(name: "task")
    account = KernelAccount(user: credentials.realUser)
    account.charge(Task.kernelBytes)
    memoryContext = addressSpace
    unsafe futexWaiter.thread = Unmanaged.passUnretained(self)
  }

  /// What a thread costs the kernel: its stack and its objects, and its share of the process.
  static var kernelBytes: Int { Int(Thread.kernelStackSize) + 4096 }

  deinit {
    LockOrder.mayWait()
    account.release(Task.kernelBytes)
    // SAFETY: nobody runs on a freed task.
    unsafe registers.deallocate()
    if user >= 0 { machine_user_destroy(user) }
  }

  /// The task that runs the caller.
  ///
  /// Only to be asked for in a system call, a fault, or a signal delivery: a kernel thread has none.
  public static var running: Task? { @export(interface) get { Thread.current as? Task } }

  /// The address space of a task that runs a program; every task does until it exits.
  public var runningAddressSpace: AddressSpace {
    @inline(__always) get {
      guard let addressSpace else { panic("a task without an address space runs") }
      return addressSpace
    }
  }

  // MARK: Seen by the scheduler

  public override func run() { runProgram() }

  public override var hasPendingSignal: Bool {
    attention.load(ordering: .relaxed) & (Attention.signal | Attention.exit | Attention.stop) != 0
  }
  public override var hasFatalSignal: Bool { attention.load(ordering: .relaxed) & Attention.exit != 0 }

  // MARK: Seen by other tasks

  /// The address space, for others than the task itself; nil when the task has ended.
  public var sharedAddressSpace: AddressSpace? { @export(interface) get { resources.withLock { _ in addressSpace } } }
  public var sharedCredentials: Credentials { @export(interface) get { resources.withLock { _ in credentials } } }
  public var sharedDescriptors: DescriptorTable { @export(interface) get { resources.withLock { _ in descriptors } } }
  public var sharedFileSystemContext: FileSystemContext {
    @export(interface) get { resources.withLock { _ in fileSystemContext } }
  }
  public var sharedExecutable: OpenFile? { @export(interface) get { resources.withLock { _ in program?.file } } }

  /// Replaces the task's identity; called by the task itself.
  @export(interface)
  public func setCredentials(_ new: Credentials) {
    let old = resources.withLock { _ in
      let old = credentials
      credentials = new
      return old
    }
    if old.effectiveUser != new.effectiveUser { addressSpace?.act(for: new.effectiveUser) }
    let formerAccount = account
    account = KernelAccount(user: new.realUser)
    account.charge(Task.kernelBytes)
    formerAccount.release(Task.kernelBytes)
    if old.realUser != new.realUser { ProcessTable.userChanged(of: self) }
  }

  /// Gives the task an address space of its own or takes it away; returns the former one.
  func exchangeAddressSpace(_ new: AddressSpace?) -> AddressSpace? {
    resources.withLock { _ in
      let old = addressSpace
      addressSpace = new
      memoryContext = new
      return old
    }
  }

  /// Who the task is, for the file system.
  public var caller: Caller {
    @export(interface) get {
      let place = fileSystemContext.snapshot()
      return Caller(
        credentials: credentials, umask: place.umask, root: place.root, workingDirectory: place.workingDirectory)
    }
  }

  /// Enters a new program: address space, identity and dumpable attribute change at one moment, so that no access check
  /// sees parts of both programs.
  ///
  /// - Returns: the former address space.
  func exchangeProgram(_ space: AddressSpace, _ new: Credentials, dumpable: Int32) -> AddressSpace? {
    let (oldSpace, oldCredentials) = resources.withLock { _ in
      let old = (addressSpace, credentials)
      addressSpace = space
      memoryContext = space
      credentials = new
      process.dumpable = dumpable
      process.programNumber.add(1, ordering: .relaxed)
      return old
    }
    _ = oldCredentials
    return oldSpace
  }

  /// The name of 15 bytes at most that ps shows (PR_SET_NAME, comm).
  public var commandName: ByteString {
    @export(interface) get {
      let words = resources.withLock { _ in nameStorage }
      var bytes: [UInt8] = []
      for word in [words.0, words.1] {
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
          let byte = UInt8(truncatingIfNeeded: word >> shift)
          if byte == 0 { return ByteString(bytes) }
          bytes.append(byte)
        }
      }
      return ByteString(bytes)
    }
    @export(interface) set {
      var words: (UInt64, UInt64) = (0, 0)
      for (index, byte) in newValue.bytes.prefix(15).enumerated() {
        if byte == 0 { break }
        if index < 8 {
          words.0 |= UInt64(byte) << UInt64(index * 8)
        } else {
          words.1 |= UInt64(byte) << UInt64(index * 8 - 64)
        }
      }
      resources.withLock { _ in nameStorage = words }
    }
  }

  /// The registers of user mode; for the task itself, in a system call.
  public var registerSnapshot: machine_registers { @export(interface) get { unsafe registers.pointee } }

  /// arch_prctl(2).
  @export(interface)
  public func setThreadPointer(_ value: UInt64) { unsafe registers.pointee.fs_base = value }
  @export(interface)
  public func setSegmentBase(_ value: UInt64) { unsafe registers.pointee.gs_base = value }

  /// The largest resident set of the task's address space so far, in KiB.
  public var peakResidentKiB: UInt64 {
    @export(interface) get { UInt64(sharedAddressSpace?.statistics.peakResidentPages ?? 0) * pageSize / 1024 }
  }

  /// unshare(2): takes copies of what clone(2) may have shared.
  @export(interface)
  public func unshare(files: Bool, directories: Bool) {
    if files && descriptors.isShared {
      let own = descriptors.copy()
      let shared = resources.withLock { _ in
        let shared = descriptors
        descriptors = own
        return shared
      }
      shared.leave()
    }
    if directories {
      let own = fileSystemContext.copy()
      let shared = resources.withLock { _ in
        let shared = fileSystemContext
        fileSystemContext = own
        return shared
      }
      _ = shared
    }
  }

  /// Times and counters up to now.
  public var usage: ResourceUsage {
    @export(interface) get {
      var usage = ResourceUsage()
      usage.userTime = userTime
      usage.systemTime = systemTime
      usage.minorFaults = minorFaults
      usage.majorFaults = majorFaults
      usage.transfers = transfers
      usage.voluntarySwitches = voluntarySwitches
      usage.involuntarySwitches = involuntarySwitches
      return usage
    }
  }

  /// R, S, D, T or Z, as /proc/PID/stat shows it.
  public var stateLetter: UInt8 {
    @export(interface) get {
      if process.isZombie || isExiting { return 0x5a }
      if process.isStopped { return 0x54 }
      return isRunnable ? 0x52 : 0x53
    }
  }
}

/// Bits of `Task.attention`.
enum Attention {
  /// A signal can be taken from the queues, or the mask must be restored.
  static let signal: UInt32 = 1
  /// The thread must end.
  static let exit: UInt32 = 2
  /// The process is stopping.
  static let stop: UInt32 = 4
}

/// sigaltstack(2).
public struct AlternateStack: Equatable, Sendable {
  public var base: UInt64 = 0
  public var size: UInt64 = 0
  public var flags: Int32 = SS_DISABLE

  public init() {}

  public init(base: UInt64, size: UInt64, flags: Int32) {
    self.base = base
    self.size = size
    self.flags = flags
  }

  /// Whether a stack pointer lies in the alternate stack.
  public func contains(_ pointer: UInt64) -> Bool {
    if flags & SS_AUTODISARM != 0 { return false }
    return size != 0 && pointer > base && pointer - base <= size
  }
}

/// Lets a vfork(2) parent wait until the child has its own program or has ended.
final class VforkCompletion {
  private let isDone = Atomic<Bool>(false)
  private let waiters = WaitQueue()

  func complete() {
    isDone.store(true, ordering: .sequentiallyConsistent)
    waiters.wakeAll()
  }

  /// - Throws: ERESTARTSYS when the parent must end.
  func wait() throws(Errno) {
    try waiters.wait(.killable) { isDone.load(ordering: .sequentiallyConsistent) }
  }
}
