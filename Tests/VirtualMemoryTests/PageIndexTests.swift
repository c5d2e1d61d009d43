// The index of the page cache: trees read without a lock, nodes without memory, and write-back by tags.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization
import TestSupport
import Testing

@testable import VirtualMemory

/// A store that does something during each write.
private final class BusyStore: PageStore {
  let inner = TestStore()
  var duringWrite: (MemoryObject, UInt64) -> Void = { _, _ in }

  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try unsafe inner.readPages(object, index: index, frames: frames)
  }
  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    duringWrite(object, index)
    try unsafe inner.writePages(object, index: index, frames: frames)
  }
}

extension VirtualMemoryTests {
  @Test func `a tree is read while it is changed`() throws {
    let tree = RadixTree(nodes: RadixNodePool.shared)
    // Some items stay for ever, the others come and go, and with them the tree's height.
    func value(_ index: UInt64) -> UInt { UInt(truncatingIfNeeded: index &* 2 &+ 1) }
    let lasting = (0..<100).map { UInt64($0) * 97 }
    for index in lasting { try tree.insert(value(index), at: index) }
    let isWriting = Atomic<Bool>(true)
    let wrong = Atomic<Int>(0)
    nonisolated(unsafe) let shared = tree
    onThreads(4) { thread in
      let tree = shared
      var random = SystemRandomNumberGenerator()
      if thread == 0 {
        for _ in 0..<SeededGenerator.steps(60_000) {
          var index = UInt64.random(in: 0..<10_000, using: &random)
          if index % 97 == 0 { index += 1 }
          if index % 7 == 0 { index <<= UInt64.random(in: 0..<50, using: &random) }
          if index < 10_000, index % 97 == 0 { continue }
          if tree[index] == 0 { try? tree.insert(value(index), at: index) } else { tree.remove(at: index) }
        }
        isWriting.store(false, ordering: .relaxed)
      }
      while isWriting.load(ordering: .relaxed) {
        let index = lasting[Int.random(in: 0..<lasting.count, using: &random)]
        let other = UInt64.random(in: 0..<10_000, using: &random)
        RCU.read {
          if tree[index] != value(index) { wrong.add(1, ordering: .relaxed) }
          let seen = tree[other]
          if seen != 0, seen != value(other) { wrong.add(1, ordering: .relaxed) }
          // The next lasting item is not passed over.
          var next = tree.next(from: index)
          if let found = next, found.index != index { wrong.add(1, ordering: .relaxed) }
          next = tree.next(from: index &+ 1)
          let following = index + 97
          if following < 9700, next == nil || next!.index > following || next!.value != value(next!.index) {
            wrong.add(1, ordering: .relaxed)
          }
        }
      }
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
    for index in lasting { #expect(tree.remove(at: index) == value(index)) }
  }

  @Test func `an insert after a preload succeeds when all memory is gone`() throws {
    let tree = RadixTree(nodes: RadixNodePool.shared)
    try tree.insert(1, at: 0)
    try tree.preload()
    var frames: [PageFrameNumber] = []
    while let frame = try? FrameAllocator.allocate() { frames.append(frame) }
    defer { for frame in frames { FrameAllocator.free(frame) } }
    // What the caches still have goes to another tree.
    let other = RadixTree(nodes: RadixNodePool.shared)
    var taken: UInt64 = 0
    while (try? other.insert(1, at: taken << 6)) != nil { taken += 1 }
    #expect(other.count == Int(taken) && other.items(upTo: Int(taken) + 1) == Int(taken))
    #expect(throws: RadixTreeFailure.noMemory) { try other.preload() }
    // It took the reserve as well: give as much back as an insert may need.
    for index in 0..<min(taken, 60) { other.remove(at: index << 6) }
    try tree.preload()
    try tree.insert(1, at: .max)
    #expect(tree[.max] == 1 && tree[0] == 1)
  }

  @Test func `pages found without the lock are the right ones`() {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 64 * page)
    let wrong = Atomic<Int>(0)
    let readers = Atomic<Int>(2)
    nonisolated(unsafe) let shared = object
    onThreads(4) { thread in
      let object = shared
      var random = SystemRandomNumberGenerator()
      if thread < 2 {
        for _ in 0..<SeededGenerator.steps(20_000) {
          let index = UInt64.random(in: 0..<64, using: &random)
          guard let bytes = try? object.readBytes(at: index * page, 8) else {
            wrong.add(1, ordering: .relaxed)
            continue
          }
          let value = unsafe bytes.withUnsafeBytes { unsafe $0.load(as: UInt64.self) }
          if value != TestStore.initial(index) { wrong.add(1, ordering: .relaxed) }
        }
        readers.subtract(1, ordering: .relaxed)
      } else {
        // One thread takes the pages away, the other uses the frames for something else.
        while readers.load(ordering: .relaxed) > 0 {
          if thread == 2 {
            object.invalidate()
          } else if let frame = try? Frames.allocate() {
            unsafe Frames.pointer(frame).initializeMemory(as: UInt8.self, repeating: 0x77, count: 4096)
            FrameAllocator.free(frame)
          }
        }
      }
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
    _ = store
  }

  @Test func `a sync does not chase pages that are written meanwhile`() throws {
    let store = BusyStore()
    let object = MemoryObject(store: store, size: 1000 * page)
    for index in 0..<10 as Range<UInt64> { _ = try object.writeBytes(at: index * 10 * page, [1]) }
    store.duringWrite = { object, index in _ = try? object.writeBytes(at: (index + 5) * page, [2]) }
    try object.writeBack()
    #expect(store.inner.writes == 10 && object.isDirty)
    store.duringWrite = { _, _ in }
    try object.writeBack()
    #expect(store.inner.writes == 20 && !object.isDirty)
  }

  @Test func `a page that is written to while it is stored is dirty again`() throws {
    let store = BusyStore()
    let object = MemoryObject(store: store, size: 10 * page)
    _ = try object.writeBytes(at: 3 * page, [1])
    store.duringWrite = { object, index in
      if store.inner.writes == 0 { _ = try? object.writeBytes(at: index * page, [2]) }
    }
    try object.writeBack()
    #expect(object.isDirty)
    try object.writeBack()
    #expect(!object.isDirty && store.inner.writes == 2)
    #expect(store.inner.values[3]! & 0xff == 2)
  }

  @Test func `a sync waits for pages that another stores, and learns of its failure`() throws {
    for failure in [nil, Errno.EIO] {
      let store = BusyStore()
      let object = MemoryObject(store: store, size: 10 * page)
      _ = try object.writeBytes(at: 0, [1])
      _ = try object.writeBytes(at: page, [1])
      store.inner.failure = failure
      let hasBegun = Atomic<Bool>(false)
      let isStored = Atomic<Bool>(false)
      let early = Atomic<Int>(0)
      let failures = Atomic<Int>(0)
      store.duringWrite = { object, _ in
        hasBegun.store(true, ordering: .releasing)
        // Clean pages in flight stay in memory.
        _ = Reclaim().reclaim(frames: 100)
        if object.residentPages != 2 { early.add(1, ordering: .relaxed) }
        let end = Instant.now().advanced(byNanoseconds: 20_000_000)
        while Instant.now() < end {}
        isStored.store(true, ordering: .releasing)
      }
      nonisolated(unsafe) let shared = object
      onThreads(2) { thread in
        if thread == 1 { while !hasBegun.load(ordering: .acquiring) {} }
        do throws(Errno) { try shared.writeBack() } catch {
          if error == .EIO { failures.add(1, ordering: .relaxed) }
        }
        if !isStored.load(ordering: .acquiring) { early.add(1, ordering: .relaxed) }
      }
      #expect(early.load(ordering: .relaxed) == 0)
      #expect(failures.load(ordering: .relaxed) == (failure == nil ? 0 : 2))
      #expect(object.isDirty == (failure != nil))
    }
  }
}

extension RadixTree {
  /// The number of items that gathering finds.
  fileprivate func items(upTo limit: Int) -> Int {
    var position: UInt64? = 0
    var found = 0
    while let start = position, found < limit, let item = next(from: start) {
      found += 1
      position = item.index == .max ? nil : item.index + 1
    }
    return found
  }
}
