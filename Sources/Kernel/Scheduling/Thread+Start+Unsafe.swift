// The birth and the death of threads, and the current one.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Synchronization

extension Thread {
  /// Bytes of a kernel stack.
  public static var kernelStackSize: UInt64 { MACHINE_STACK_SIZE }

  /// The thread that runs the caller.
  public static var current: Thread {
    @inline(__always) get {
      #if hasFeature(Embedded)
        // SAFETY: set before the first use on each CPU, to a thread that stays alive while it runs.
        unsafe Unmanaged<Thread>.fromOpaque(machine_this_cpu().pointee.current).takeUnretainedValue()
      #else
        hostThread()
      #endif
    }
  }

  #if !hasFeature(Embedded)
    private static func hostThread() -> Thread {
      let cpu = unsafe machine_this_cpu()!
      if unsafe cpu.pointee.current == nil {
        unsafe cpu.pointee.current = Unmanaged.passRetained(Thread(name: "host")).toOpaque()
      }
      // SAFETY: retained above for the rest of the process.
      return unsafe Unmanaged<Thread>.fromOpaque(cpu.pointee.current).takeUnretainedValue()
    }
  #endif

  /// Gives the thread its kernel stack, if it has none. `start` does so, too; an operation that is not to fail once it
  /// has begun takes the stack first. May sleep.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public final func makeKernelStack() throws(Errno) {
    #if hasFeature(Embedded)
      if stackBase == 0 { stackBase = try KernelStacks.allocate() }
    #endif
  }

  /// Makes the thread ready to run for the first time.
  ///
  /// - Throws: ENOMEM when there is no memory for its kernel stack; ENOSYS on the fake machine, which cannot switch stacks.
  @export(interface)
  public final func start() throws(Errno) {
    #if hasFeature(Embedded)
      try makeKernelStack()
      prepareStack()
      RunQueue.enqueueWoken(self)
    #else
      throw .ENOSYS
    #endif
  }

  #if hasFeature(Embedded)
    private final func prepareStack() {
      // Sleeping must not take memory: threads sleep because there is none.
      _ = sleepTimer
      // The scheduler's reference, given back by `threadDidEnd`.
      let reference = unsafe Unmanaged.passRetained(self).toOpaque()
      savedStack.pointer = unsafe machine_prepare_stack(stackBase + Thread.kernelStackSize, threadEntry, reference)
      cpu = mayRun(on: CPU.currentIndex) ? CPU.currentIndex : affinity.trailingZeroBitCount
      virtualRuntime = RunQueue.startOfNewThread
    }
  #endif

  /// Starts a kernel thread that runs `body`.
  @export(interface) @discardableResult
  public static func spawn(name: StaticString, _ body: @escaping () -> Void) throws(Errno) -> Thread {
    let thread = ClosureThread(name: name, body: body)
    try thread.start()
    return thread
  }
}

/// A kernel thread made of a closure.
private final class ClosureThread: Thread {
  private let body: () -> Void

  init(name: StaticString, body: @escaping () -> Void) {
    self.body = body
    super.init(name: name)
  }

  override func run() { body() }
}

/// The first code on a new thread's stack.
private func threadEntry(_ argument: UnsafeMutableRawPointer?) {
  #if hasFeature(Embedded)
    Scheduler.finishSwitch()
    // SAFETY: `start` passed a retained thread, which stays alive until the scheduler has left its stack.
    unsafe Unmanaged<Thread>.fromOpaque(argument!)._withUnsafeGuaranteedRef { $0.run() }
    Scheduler.exit()
  #endif
}

/// Kernel stacks: blocks of frames, which the machine maps behind a guard. A few are kept for the next thread.
enum KernelStacks {
  private static let kept = SpinLock([UInt64](), rank: .kernelStacks)
  private static let keepAtMost = 16
  /// 2 to this power page frames make a stack.
  private static let order = 3

  /// - Throws: ENOMEM. May sleep.
  static func allocate() throws(Errno) -> UInt64 {
    LockOrder.mayWait()
    if let stack = kept.withLock({ $0.popLast() }) { return stack }
    let frames = try FrameAllocator.allocate(order: order, options: .mayReclaim)
    let stack = machine_thread_stack(frames.rawValue << 12, 0)
    guard stack != 0 else {
      FrameAllocator.free(frames)
      throw .ENOMEM
    }
    return stack
  }

  static func free(_ stack: UInt64) {
    let isKept = kept.withLock { stacks in
      guard stacks.count < keepAtMost else { return false }
      stacks.append(stack)
      return true
    }
    if !isKept { FrameAllocator.free(PageFrameNumber(machine_thread_stack(0, stack) >> 12)) }
  }
}
