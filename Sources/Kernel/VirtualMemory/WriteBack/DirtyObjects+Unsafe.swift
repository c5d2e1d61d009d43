// The objects that have dirty pages: the flusher looks at these and at no others.
//
//     head ─▶ object ─▶ object ─▶ object ─▶ nil      an object that becomes dirty, or had its turn, goes to the end
//
// The links lie in the objects: to become dirty takes no memory. An object may not end before its pages are stored, so the list
// holds it, and the store that it does not hold itself. Truncation and write-back take objects without dirty pages out.
//
// SAFETY: a link points to an object that the list has retained; links change under the list's lock.

import KernelCore
import Synchronization

/// An object's place among the dirty ones; guarded by the lock of `DirtyObjects`.
@safe struct DirtyLink {
  fileprivate var next: Unmanaged<MemoryObject>?
  fileprivate var previous: Unmanaged<MemoryObject>?
  fileprivate var store: (any PageStore)?
  /// When a clean page of the object became dirty for the first time since the flusher had written them all.
  fileprivate var since = Instant.distantPast
}

@safe enum DirtyObjects {
  @safe private struct List {
    var head: Unmanaged<MemoryObject>?
    var tail: Unmanaged<MemoryObject>?
    var count = 0
  }

  private static let list = SpinLock(List(), rank: .dirtyObjects)
  /// Whether there is a flusher: without one nobody would look at the list, and nothing is entered.
  static let isInUse = Atomic<Bool>(false)

  /// An object with dirty pages, and what has to live for them to be written.
  struct Entry {
    let object: MemoryObject
    let store: any PageStore
  }

  static var count: Int { list.withLock { $0.count } }

  /// Enters an object whose first page became dirty; false when there is no flusher. Called with its pages locked.
  static func add(_ object: MemoryObject, _ store: any PageStore) -> Bool {
    guard isInUse.load(ordering: .relaxed) else { return false }
    let now = Instant.now()
    list.withLock { list in
      object.dirtyLink.store = store
      object.dirtyLink.since = now
      unsafe link(&list, Unmanaged.passRetained(object))
    }
    Flusher.arm()
    return true
  }

  /// Takes out an object that was entered and has no dirty page any more; its pages are locked.
  ///
  /// - Returns: the list's reference to the store, to be dropped without any lock.
  static func remove(_ object: MemoryObject) -> (any PageStore)? {
    list.withLock { list in
      let reference = unsafe Unmanaged.passUnretained(object)
      unsafe unlink(&list, reference)
      let store = object.dirtyLink.store
      object.dirtyLink.store = nil
      // Not the last one: the caller works on the object.
      unsafe reference.release()
      return store
    }
  }

  /// The first object, which goes to the end.
  static func takeTurn() -> Entry? {
    list.withLock { list in
      guard let first = unsafe list.head else { return nil }
      return unsafe moveToEnd(first, &list)
    }
  }

  /// An object that has been dirty since before `time`, as if it became dirty now: for a flusher that writes all of its pages.
  static func takeExpired(before time: Instant) -> Entry? {
    let now = Instant.now()
    return list.withLock { list in
      var next = unsafe list.head
      while let reference = unsafe next {
        let link = unsafe reference._withUnsafeGuaranteedRef { $0.dirtyLink }
        if link.since < time {
          unsafe reference._withUnsafeGuaranteedRef { $0.dirtyLink.since = now }
          return unsafe moveToEnd(reference, &list)
        }
        unsafe next = link.next
      }
      return nil
    }
  }

  private static func moveToEnd(_ reference: Unmanaged<MemoryObject>, _ list: inout List) -> Entry? {
    unsafe unlink(&list, reference)
    unsafe link(&list, reference)
    let object = unsafe reference.takeUnretainedValue()
    guard let store = object.dirtyLink.store else { return nil }
    return Entry(object: object, store: store)
  }

  private static func link(_ list: inout List, _ reference: Unmanaged<MemoryObject>) {
    let tail = unsafe list.tail
    unsafe reference._withUnsafeGuaranteedRef {
      unsafe $0.dirtyLink.next = nil
      unsafe $0.dirtyLink.previous = tail
    }
    if let tail = unsafe tail {
      unsafe tail._withUnsafeGuaranteedRef { unsafe $0.dirtyLink.next = reference }
    } else {
      unsafe list.head = reference
    }
    unsafe list.tail = reference
    list.count += 1
  }

  private static func unlink(_ list: inout List, _ reference: Unmanaged<MemoryObject>) {
    let (next, previous) = unsafe reference._withUnsafeGuaranteedRef {
      unsafe ($0.dirtyLink.next, $0.dirtyLink.previous)
    }
    if let previous = unsafe previous {
      unsafe previous._withUnsafeGuaranteedRef { unsafe $0.dirtyLink.next = next }
    } else {
      unsafe list.head = next
    }
    if let next = unsafe next {
      unsafe next._withUnsafeGuaranteedRef { unsafe $0.dirtyLink.previous = previous }
    } else {
      unsafe list.tail = previous
    }
    list.count -= 1
  }
}
