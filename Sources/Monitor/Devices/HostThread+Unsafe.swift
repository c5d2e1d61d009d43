// Threads of devices, and what they wait on.

import CDevices
import CUserMachine
import Glibc

/// A thread of the host that works for a device until the process ends.
enum HostThread {
  private final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  /// Runs `body` on a new thread, which gets the filter of its kind of work; false when the host has none to give.
  static func start(_ kind: um_thread_kind, _ body: @escaping @Sendable () -> Void) -> Bool {
    var thread = pthread_t()
    let context = unsafe Unmanaged.passRetained(
      Body {
        um_confine_thread(kind)
        body()
      }
    ).toOpaque()
    // All signals stay with the other threads: their handlers and masks are arranged for that. Except the one that tells
    // which call the confinement does not allow.
    var all = sigset_t()
    var old = sigset_t()
    unsafe sigfillset(&all)
    unsafe sigdelset(&all, SIGSYS)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &old)
    // SAFETY: the new thread takes over the reference; the thread handle is only detached.
    let failure = unsafe pthread_create(
      &thread, nil,
      { context in
        unsafe Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, context)
    unsafe pthread_sigmask(SIG_SETMASK, &old, nil)
    guard failure == 0 else {
      unsafe Unmanaged<Body>.fromOpaque(context).release()
      return false
    }
    pthread_detach(thread)
    return true
  }
}

/// A mutex of the host with a condition to wait for.
@safe final class HostCondition: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>

  init() {
    unsafe mutex = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    unsafe pthread_mutex_init(mutex, nil)
    unsafe changed = .allocate(capacity: 1)
    unsafe changed.initialize(to: pthread_cond_t())
    unsafe pthread_cond_init(changed, nil)
  }

  deinit {
    unsafe pthread_cond_destroy(changed)
    unsafe changed.deallocate()
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }

  @inline(__always)
  func withLock<Result>(_ body: () -> Result) -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return body()
  }

  /// Lets the lock go and waits to be woken, maybe for nothing; called with the lock held.
  func wait() { unsafe pthread_cond_wait(changed, mutex) }
  func wakeOne() { unsafe pthread_cond_signal(changed) }
}
