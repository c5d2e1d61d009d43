// Where a thread that is not running keeps its stack pointer: memory of its own, so that the switch can write it without
// holding a reference to the thread.

import Machine

/// The saved stack pointer of a thread.
@safe struct SavedStack {
  // SAFETY: allocated by `init`, freed by the thread's deinit; the switch is the only other user, and a thread that is
  // being switched from or to is alive.
  let place: UnsafeMutablePointer<UInt64>

  init() {
    unsafe place = .allocate(capacity: 1)
    unsafe place.initialize(to: 0)
  }

  var pointer: UInt64 {
    get { unsafe place.pointee }
    nonmutating set { unsafe place.pointee = newValue }
  }

  func free() { unsafe place.deallocate() }
}
