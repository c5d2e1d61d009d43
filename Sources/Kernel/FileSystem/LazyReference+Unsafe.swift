// An object that is made when it is first asked for, by whichever CPU comes first, and then stays: locks and companions
// of inodes, most of which are never needed.

import Synchronization

/// A reference that is nil until its first use.
@safe struct LazyReference<Object: AnyObject>: ~Copyable {
  private let word = Atomic<UInt>(0)

  init() {}

  /// The object if it has been made.
  var ifPresent: Object? {
    @inline(__always) get {
      let bits = word.load(ordering: .acquiring)
      guard bits != 0, let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { return nil }
      // SAFETY: the word holds a retained object until deinit, which needs exclusive access to the owner.
      return unsafe Unmanaged<Object>.fromOpaque(pointer).takeUnretainedValue()
    }
  }

  /// The object, made by `make` if this is the first use. A maker that loses the race is dropped.
  @inline(__always)
  func get(_ make: () -> Object) -> Object {
    if let object = ifPresent { return object }
    let object = make()
    let retained = unsafe Unmanaged.passRetained(object)
    let bits = unsafe UInt(bitPattern: retained.toOpaque())
    if word.compareExchange(expected: 0, desired: bits, ordering: .acquiringAndReleasing).exchanged { return object }
    // SAFETY: balances passRetained: the other maker's object is in the word.
    unsafe retained.release()
    return ifPresent ?? object
  }

  deinit {
    let bits = word.load(ordering: .acquiring)
    guard bits != 0, let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { return }
    // SAFETY: balances passRetained in `get`; nobody can reach the word any more.
    unsafe Unmanaged<Object>.fromOpaque(pointer).release()
  }
}
