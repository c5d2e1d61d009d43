import LinuxABI
import PhysicalMemory
import Synchronization
import Testing

@testable import VirtualMemory

#if canImport(Glibc)
  import Glibc
#endif

/// Runs `body` on host threads, which are CPUs of the fake machine, and waits for all.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
  final class Start {
    let index: Int
    let body: @Sendable (Int) -> Void
    init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) {
      self.index = index
      self.body = body
    }
  }
  var threads: [pthread_t] = []
  for index in 0..<count {
    var thread = pthread_t()
    let start = unsafe Unmanaged.passRetained(Start(index, body)).toOpaque()
    let result = unsafe pthread_create(
      &thread, nil,
      { argument in
        let start = unsafe Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        start.body(start.index)
        return nil
      }, start)
    #expect(result == 0)
    threads.append(thread)
  }
  for thread in threads { unsafe pthread_join(thread, nil) }
}

extension VirtualMemoryTests {
  @Test func `threads fault, fork, truncate and unmap at the same time and nothing is lost`() throws {
    let before = VirtualMemoryStatistics.snapshot()
    _ = Frames.zeroPage
    let freeBefore = TestMachine.freeFrames
    let wrong = Atomic<Int>(0)
    do {
      let space = try AddressSpace.create()
      for _ in 0..<3 { space.threadStarted() }
      let store = TestStore()
      let file = MemoryObject(store: store, size: 64 * page)
      let shared = MemoryObject(store: nil, size: 64 * page)
      let fileAddress = try space.map(at: 0, length: 64 * page, protection: .read, flags: .shared, object: file)
      let sharedAddress = try space.map(
        at: 0, length: 64 * page, protection: [.read, .write], flags: .shared, object: shared)
      nonisolated(unsafe) let memory = (space: space, file: file, shared: shared)
      onThreads(4) { thread in
        let space = memory.space
        var random = SystemRandomNumberGenerator()
        for round in 0..<400 as Range<UInt64> {
          let index = UInt64.random(in: 0..<64, using: &random)
          do {
            let own = try space.mapAnonymous(32 * page)
            for place in 0..<32 as Range<UInt64> { try space.store(round &+ place, own + place * page) }
            if (try? space.load(fileAddress + index * page)) != TestStore.initial(index) {
              wrong.add(1, ordering: .relaxed)
            }
            switch thread {
            case 0 where round % 20 == 0:
              let child = try space.fork()
              try child.store(1, own)
              for place in 1..<32 as Range<UInt64> where try child.load(own + place * page) != round &+ place {
                wrong.add(1, ordering: .relaxed)
              }
              child.destroy()
            case 1:
              memory.shared.truncate(to: (index % 2) * 32 * page + 32 * page)
            case 2 where round % 10 == 0:
              memory.file.invalidate()
              _ = Reclaim().reclaim(frames: 20)
            default:
              // Beyond the end it faults, which is right.
              try? space.store(round, sharedAddress + index * page)
            }
            for place in 0..<32 as Range<UInt64> where try space.load(own + place * page) != round &+ place {
              wrong.add(1, ordering: .relaxed)
            }
            try space.unmap(own, 32 * page)
          } catch {
            wrong.add(1, ordering: .relaxed)
          }
        }
      }
      #expect(wrong.load(ordering: .relaxed) == 0)
      #expect(TestMachine.isConsistent(space))
      space.destroy()
      _ = store
    }
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.anonymousPages == before.anonymousPages)
    #expect(after.cachedPages == before.cachedPages)
    #expect(after.pageTablePages == before.pageTablePages)
    #expect(after.areas == before.areas && after.addressSpaces == before.addressSpaces)
    #expect(after.memoryObjects == before.memoryObjects)
    // What the threads' CPUs keep in their lists is free too.
    #expect(TestMachine.freeFrames >= freeBefore - 4)
  }

  @Test func `the last thread to leave frees the memory, whoever still looks at the space`() throws {
    let before = VirtualMemoryStatistics.snapshot()
    do {
      let space = try AddressSpace.create()
      space.threadStarted()
      let own = try space.mapAnonymous(8 * page)
      try space.store(7, own)
      space.threadEnded()
      #expect(try space.load(own) == 7)
      let watcher = space
      space.threadEnded()
      #expect(watcher.statistics.residentPages == 0 && watcher.statistics.totalPages == 0)
      #expect(throws: Errno.EFAULT) { try watcher.load(own) }
      #expect(throws: Errno.ENOMEM) { try watcher.mapAnonymous(page) }
      #expect(throws: Errno.ENOMEM) { try watcher.fork() }
    }
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.anonymousPages == before.anonymousPages && after.pageTablePages == before.pageTablePages)
    #expect(after.areas == before.areas && after.addressSpaces == before.addressSpaces)
  }

  @Test func `spaces come and go while reclaim visits them`() throws {
    let before = VirtualMemoryStatistics.snapshot()
    let wrong = Atomic<Int>(0)
    do {
      let space = try AddressSpace.create()
      let store = TestStore()
      let file = MemoryObject(store: store, size: 64 * page)
      let shown = try space.map(at: 0, length: 64 * page, protection: .read, flags: .shared, object: file)
      let own = try space.mapAnonymous(32 * page)
      for place in 0..<32 as Range<UInt64> { try space.store(place, own + place * page) }
      nonisolated(unsafe) let parent = space
      onThreads(4) { thread in
        for round in 0..<600 as Range<UInt64> {
          guard thread > 0 else {
            _ = Reclaim().reclaim(frames: 20)
            continue
          }
          do {
            let child = try parent.fork()
            for place in 0..<64 as Range<UInt64>
            where try child.load(shown + place * page) != TestStore.initial(place) {
              wrong.add(1, ordering: .relaxed)
            }
            if try child.load(own + round % 32 * page) != round % 32 { wrong.add(1, ordering: .relaxed) }
            child.threadEnded()
          } catch {
            wrong.add(1, ordering: .relaxed)
          }
        }
      }
      #expect(wrong.load(ordering: .relaxed) == 0)
      #expect(TestMachine.isConsistent(space))
      space.threadEnded()
      _ = store
    }
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.anonymousPages == before.anonymousPages && after.cachedPages == before.cachedPages)
    #expect(after.areas == before.areas && after.addressSpaces == before.addressSpaces)
  }
}
