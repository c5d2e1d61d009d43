// Read-copy update: readers of a shared structure take no lock and write nothing; a writer unlinks a part, waits until
// nobody can be looking at it any more, and frees it. `GracePeriods` has the mechanism.

import Machine

/// Reading without locks, and freeing what is read so.
///
/// The kernel is not preempted in kernel mode, so a CPU gives up what it holds when it switches threads, idles, or goes
/// to user code: `read` costs nothing. On the host, where unit tests run, threads are CPUs and `read` is what counts.
public enum RCU {
  static let periods = GracePeriods(cpuCount: Int(MACHINE_MAX_CPUS))

  /// Runs `body`, within which what is found in structures of this kind stays allocated. It must not sleep, yield or
  /// take long; what is to be kept for longer needs a reference of its own.
  @inline(__always)
  public static func read<Result: ~Copyable, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    #if !hasFeature(Embedded)
      beginRead()
      defer { endRead() }
    #endif
    return try body()
  }

  /// Calls `function` with the address of `call` when all reading that has begun before is over. The call comes on this
  /// CPU, without locks, and must not sleep. `call` usually lies within the object that `function` frees.
  @export(interface)
  public static func `defer`(_ call: UnsafeMutablePointer<DeferredCall>, _ function: DeferredFunction) {
    // SAFETY: the caller lends the memory until the call.
    unsafe periods.deferCall(CPU.currentIndex, call, function)
    #if !hasFeature(Embedded)
      settle()
    #endif
  }

  /// As above for a closure, which needs memory: not for paths that free memory when there is none.
  @export(interface)
  public static func `defer`(_ body: @escaping () -> Void) {
    let box = UnsafeMutablePointer<ClosureCall>.allocate(capacity: 1)
    unsafe box.initialize(to: ClosureCall(call: DeferredCall(), body: body))
    // SAFETY: the call is the first field, so its address is the box's.
    let call = unsafe UnsafeMutableRawPointer(box).assumingMemoryBound(to: DeferredCall.self)
    unsafe `defer`(call) { address in
      // SAFETY: allocated above; each deferred call is made once.
      let box = unsafe address.assumingMemoryBound(to: ClosureCall.self)
      let body = unsafe box.move().body
      unsafe box.deallocate()
      body()
    }
  }

  private struct ClosureCall {
    var call: DeferredCall
    var body: () -> Void
  }

  // MARK: For the scheduler

  /// How long a CPU with deferred calls idles or runs user code before it looks again, in nanoseconds. It matters only
  /// when another CPU stays in kernel code as long as that.
  public static var pollInterval: UInt64 { 500_000 }

  /// Whether this CPU has deferred calls that wait.
  public static var hasPending: Bool { @inline(__always) get { periods.hasPending(CPU.currentIndex) } }

  /// Makes deferred calls whose time has come. Where the running thread may be switched away, without locks.
  @inline(__always)
  public static func poll() {
    if hasPending { periods.poll(CPU.currentIndex) }
  }

  /// This CPU is about to run another thread.
  @inline(__always) public static func switchThreads() { periods.pass(CPU.currentIndex) }
  /// Around idling. A CPU that has not started counts as idle.
  @inline(__always) public static func beginIdle() { periods.leave(CPU.currentIndex) }
  @inline(__always) public static func endIdle() { periods.enter(CPU.currentIndex) }
  /// Around runs of user code: full barriers.
  @inline(__always) public static func beginUser() { periods.leaveForUser(CPU.currentIndex) }
  @inline(__always) public static func endUser() { periods.enterFromUser(CPU.currentIndex) }
  /// A value that changes when `cpu` stops running user code; nil while it does something else.
  @export(interface) public static func userRun(cpu: Int) -> UInt64? { periods.userRun(cpu) }

  // MARK: On the host

  #if !hasFeature(Embedded)
    @export(interface) public static func beginRead() { periods.enter(CPU.currentIndex) }

    @export(interface) public static func endRead() {
      periods.leaveNested(CPU.currentIndex)
      settle()
    }

    /// Nothing polls for a thread of the host: it waits for the readers itself.
    private static func settle() {
      let cpu = CPU.currentIndex
      guard periods.depth(cpu) == 0 else { return }
      var spin = SpinWait()
      while periods.hasPending(cpu) {
        periods.poll(cpu)
        spin.pause()
      }
    }
  #endif
}
