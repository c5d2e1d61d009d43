// Write-back: what is dirty reaches the store by whichever way it goes, nothing else does, and tags, counters and the list of
// dirty objects agree at every step.

import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization
import TestSupport
import Testing

@testable import VirtualMemory

/// A file of numbers, one for each page; what was never written is 0.
private final class FileStore: PageStore {
  var values: [UInt64: UInt64] = [:]
  var failure: Errno?
  /// Requests, and pages in them.
  var writes = 0
  var pages = 0
  private(set) var object: MemoryObject!

  init(pages: UInt64) { object = MemoryObject(store: self, size: pages * page) }

  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    for offset in 0..<frames.count {
      let pointer = unsafe frames[offset].pointer
      unsafe pointer.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
      unsafe pointer.storeBytes(of: values[index + UInt64(offset)] ?? 0, as: UInt64.self)
    }
  }

  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    if let failure { throw failure }
    writes += 1
    pages += frames.count
    for offset in 0..<frames.count {
      values[index + UInt64(offset)] = unsafe frames[offset].pointer.load(as: UInt64.self)
    }
  }

  func write(_ value: UInt64, _ index: UInt64) throws {
    let bytes = (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    _ = try object.writeBytes(at: index * page, bytes)
  }

  func read(_ index: UInt64) throws -> UInt64 {
    try object.readBytes(at: index * page, 8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

/// Runs `body` as if there was a flusher, whose work the test does itself.
private func withDirtyObjects(_ body: () throws -> Void) rethrows {
  DirtyObjects.isInUse.store(true, ordering: .relaxed)
  defer {
    DirtyLimits.expiry = 0
    Flusher.work()
    DirtyLimits.expiry = 3000
    DirtyObjects.isInUse.store(false, ordering: .relaxed)
    #expect(DirtyObjects.count == 0)
  }
  try body()
}

extension VirtualMemoryTests {
  @Test func `write-back by all its ways agrees with a flat file`() throws {
    try withDirtyObjects {
      var random = SeededGenerator("write-back")
      let pageCount: UInt64 = 300
      let dirtyBefore = Counters.dirtyPages.load(ordering: .relaxed)
      let listedBefore = DirtyObjects.count
      let store = FileStore(pages: pageCount)
      let object = store.object!
      let space = try AddressSpace.create()
      defer { space.destroy() }
      let address = try space.map(
        at: 0, length: pageCount * page, protection: [.read, .write], flags: .shared, object: object)
      // What a reader sees; pages that were given up may also have fallen back to what the store has.
      var model = [UInt64](repeating: 0, count: Int(pageCount))
      var dirty: Set<UInt64> = []
      var givenUp: Set<UInt64> = []
      var end = pageCount

      func didStore(_ isGone: (UInt64) -> Bool) {
        for index in dirty where isGone(index) {
          if store.failure == nil {
            #expect(store.values[index] == model[Int(index)])
            givenUp.remove(index)
          } else {
            givenUp.insert(index)
          }
          dirty.remove(index)
        }
      }

      for step in 0..<SeededGenerator.steps(6_000) {
        let index = UInt64(random.below(Int(end)))
        switch random.below(24) {
        case 0..<8:
          let length = UInt64(1 + random.below(6))
          for index in index..<min(end, index + length) {
            model[Int(index)] = UInt64(step) << 16 | index
            try store.write(model[Int(index)], index)
            dirty.insert(index)
          }
        case 8..<13:
          model[Int(index)] = UInt64(step) << 16 | index | 1 << 60
          try space.store(model[Int(index)], address + index * page)
          dirty.insert(index)
        case 13..<15:
          let seen = random.below(2) == 0 ? try store.read(index) : try space.load(address + index * page)
          if givenUp.contains(index), seen != model[Int(index)] {
            #expect(seen == store.values[index] ?? 0)
            model[Int(index)] = seen
          }
          #expect(seen == model[Int(index)], "page \(index) at step \(step)")
        case 15..<17:
          let last = index + UInt64(random.below(40))
          if store.failure == nil {
            try object.writeBack(index * page..<(last + 1) * page)
            didStore { $0 >= index && $0 <= last }
          } else {
            let isAny = dirty.contains { $0 >= index && $0 <= last }
            do throws(Errno) {
              try object.writeBack(index * page..<(last + 1) * page)
              #expect(!isAny)
            } catch { #expect(isAny && error == .EIO) }
          }
        case 17..<19:
          let before = dirty.count
          let cleaned = object.flush(limit: random.below(100))
          let left = before - cleaned
          #expect(left >= 0)
          let tagged = object.dirtyPages
          #expect(tagged.count == left)
          didStore { !tagged.contains($0) }
        case 19: _ = Reclaim().reclaim(frames: random.below(200))
        case 20:
          DirtyLimits.backgroundBytes = random.below(200) * 4096 + 1
          Flusher.work()
          let tagged = object.dirtyPages
          #expect(tagged.count <= DirtyLimits.levels().background)
          didStore { !tagged.contains($0) }
          DirtyLimits.backgroundRatio = 10
        case 21:
          let size = UInt64(1 + random.below(Int(pageCount)))
          object.truncate(to: size * page)
          for index in size..<max(size, end) {
            (store.values[index], model[Int(index)]) = (nil, 0)
            dirty.remove(index)
            givenUp.remove(index)
          }
          end = size
        case 22: store.failure = random.below(3) == 0 ? .EIO : nil
        default: object.invalidate()
        }
        #expect(object.dirtyPages == dirty)
        #expect(Counters.dirtyPages.load(ordering: .relaxed) - dirtyBefore == dirty.count)
        #expect(Counters.writeBackPages.load(ordering: .relaxed) == 0)
        #expect(DirtyObjects.count - listedBefore == (dirty.isEmpty ? 0 : 1))
        if step % 64 == 0 { #expect(TestMachine.isConsistent(space)) }
      }
      store.failure = nil
      try object.writeBack()
      for index in 0..<end where !givenUp.contains(index) {
        #expect(store.values[index] ?? 0 == model[Int(index)], "page \(index)")
      }
    }
  }

  @Test func `the flusher writes runs, down to the background level and what is old`() throws {
    try withDirtyObjects {
      let store = FileStore(pages: 2000)
      for index in 0..<1000 as Range<UInt64> { try store.write(index, index) }
      // Neither too much nor too old.
      Flusher.work()
      #expect(store.writes == 0)
      DirtyLimits.backgroundBytes = 300 * 4096
      Flusher.work()
      DirtyLimits.backgroundRatio = 10
      #expect((200...300).contains(store.object.dirtyPages.count))
      #expect(store.writes == store.pages / 32)
      Flusher.request(pages: 100)
      let before = store.object.dirtyPages.count
      Flusher.work()
      #expect(store.object.dirtyPages.count <= before - 100)
      try store.write(1, 1999)
      DirtyLimits.expiry = 0
      Flusher.work()
      DirtyLimits.expiry = 3000
      #expect(!store.object.isDirty)
      #expect((0..<1000).allSatisfy { store.values[$0] == $0 })
      #expect(DirtyObjects.count == 0)
    }
  }

  @Test func `objects have their turns`() throws {
    try withDirtyObjects {
      let stores = (0..<3).map { _ in FileStore(pages: 4000) }
      for store in stores { for index in 0..<1000 as Range<UInt64> { try store.write(index, index) } }
      Flusher.request(pages: 700)
      Flusher.work()
      #expect(stores.allSatisfy { $0.pages == 256 })
    }
  }

  @Test func `a dirty object lives until it is stored`() throws {
    let objectsBefore = VirtualMemoryStatistics.snapshot().memoryObjects
    try withDirtyObjects {
      var store: TestOwner? = TestOwner()
      _ = try store!.object.writeBytes(at: 0, [1])
      let record = store!.record
      store = nil
      #expect(VirtualMemoryStatistics.snapshot().memoryObjects == objectsBefore + 1)
      DirtyLimits.expiry = 0
      Flusher.work()
      DirtyLimits.expiry = 3000
      #expect(record.writes == 1)
      #expect(VirtualMemoryStatistics.snapshot().memoryObjects == objectsBefore)
    }
  }

  @Test func `each who asks learns once of what the flusher could not write`() throws {
    try withDirtyObjects {
      let store = FileStore(pages: 10)
      let object = store.object!
      var first = object.writeErrorSample
      var second = object.writeErrorSample
      try store.write(1, 1)
      store.failure = .ENOSPC
      #expect(object.flush(limit: 100) == 1)
      #expect(!object.isDirty)
      // Nobody knows of it yet: it is also the business of who comes now.
      var third = object.writeErrorSample
      store.failure = nil
      try object.writeBack()
      #expect(object.takeWriteError(since: &first) == .ENOSPC)
      #expect(object.takeWriteError(since: &first) == nil)
      #expect(object.takeWriteError(since: &second) == .ENOSPC)
      #expect(object.takeWriteError(since: &third) == .ENOSPC)
      #expect(object.takeWriteError(since: &third) == nil)
      var fourth = object.writeErrorSample
      #expect(object.takeWriteError(since: &fourth) == nil)
      // Errors that may pass cost no data.
      try store.write(2, 2)
      store.failure = .ENOMEM
      #expect(object.flush(limit: 100) == 0)
      #expect(object.isDirty)
      Flusher.request(pages: 10)
      Flusher.work()
      #expect(object.isDirty)
      store.failure = nil
    }
  }

  @Test func `an error that a write tells of is nobody else's business`() throws {
    try withDirtyObjects {
      let store = FileStore(pages: 10)
      let object = store.object!
      var seen = object.writeErrorSample
      try store.write(1, 1)
      store.failure = .EFBIG
      #expect(throws: Errno.EFBIG) { try object.writeBack(4096..<8192, tellingErrorsTo: .caller) }
      #expect(object.takeWriteError(since: &seen) == nil)
      #expect(object.isDirty)
      // It is if the page that stays cannot be written later.
      #expect(throws: Errno.EFBIG) { try object.writeBack() }
      #expect(object.takeWriteError(since: &seen) == .EFBIG)
      store.failure = nil
      try object.writeBack()
    }
  }

  @Test func `write-back allocates nothing`() throws {
    try withDirtyObjects {
      let store = FileStore(pages: 400)
      for index in 0..<400 as Range<UInt64> {
        try store.write(index, index)
        store.values[index] = 0
      }
      AllocationFailure.fail(after: 0)
      #expect(store.object.flush(limit: 200) >= 200)
      try store.object.writeBack()
      #expect(!AllocationFailure.stop())
      #expect(store.values[399] == 399)
    }
  }

  @Test func `reclaim has dirty pages written and takes them next`() throws {
    try withDirtyObjects {
      let store = FileStore(pages: 200)
      for index in 0..<200 as Range<UInt64> { try store.write(index, index) }
      _ = Reclaim().reclaim(frames: 300)
      #expect(store.object.residentPages == 200)
      Flusher.work()
      #expect(!store.object.isDirty)
      #expect(Reclaim().reclaim(frames: 200) >= 200)
      #expect(store.object.residentPages == 0)
      #expect(try store.read(77) == 77)
    }
  }

  @Test func `levels follow memory, or are numbers of bytes`() {
    typealias Levels = DirtyLimits.Levels
    #expect(DirtyLimits.levels(dirtyable: 10_000) == Levels(background: 1000, limit: 2000))
    DirtyLimits.backgroundRatio = 30
    #expect(DirtyLimits.levels(dirtyable: 10_000) == Levels(background: 1000, limit: 2000))
    DirtyLimits.bytes = 40_001
    DirtyLimits.backgroundBytes = 1
    #expect(DirtyLimits.levels(dirtyable: 10_000) == Levels(background: 1, limit: 10))
    DirtyLimits.ratio = 20
    DirtyLimits.backgroundRatio = 10
    #expect(DirtyLimits.bytes == 0 && DirtyLimits.backgroundBytes == 0)
    #expect(DirtyLimits.levels(dirtyable: 0) == Levels(background: 0, limit: 2))
  }

  @Test func `writers, truncation, syncs and the flusher at once lose nothing`() throws {
    try withDirtyObjects {
      let store = FileStore(pages: 256)
      let writers = Atomic<Int>(2)
      let lock = SpinLock((), rank: .process)
      let locked = LockedStore(store, lock)
      nonisolated(unsafe) let object = locked.object!
      onThreads(4) { thread in
        var random = SystemRandomNumberGenerator()
        if thread < 2 {
          for step in 0..<SeededGenerator.steps(4_000) {
            // Each thread has pages of its own.
            let index = UInt64.random(in: 0..<128, using: &random) * 2 + UInt64(thread)
            _ = try? object.writeBytes(
              at: index * page, [UInt8(truncatingIfNeeded: step), UInt8(thread), 1, 0, 0, 0, 0, 0])
          }
          writers.subtract(1, ordering: .relaxed)
        } else {
          while writers.load(ordering: .relaxed) > 0 {
            if thread == 2 {
              Flusher.request(pages: 50)
              Flusher.work()
            } else {
              try? object.writeBack()
              object.invalidate()
            }
          }
        }
      }
      try object.writeBack()
      #expect(Counters.writeBackPages.load(ordering: .relaxed) == 0)
      for index in 0..<256 as Range<UInt64> {
        let bytes = try object.readBytes(at: index * page, 8)
        let value = bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        #expect(store.values[index] ?? 0 == value)
      }
    }
  }
}

/// A store that may be called by several threads.
private final class LockedStore: PageStore {
  let inner: FileStore
  let lock: SpinLock<Void>
  var object: MemoryObject!
  init(_ inner: FileStore, _ lock: SpinLock<Void>) {
    (self.inner, self.lock) = (inner, lock)
    object = MemoryObject(store: self, size: 256 * page)
  }
  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try lock.withLock { _ throws(Errno) in try unsafe inner.readPages(object, index: index, frames: frames) }
  }
  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    try lock.withLock { _ throws(Errno) in try unsafe inner.writePages(object, index: index, frames: frames) }
  }
}

/// A store that owns its object and is owned by nobody else.
private final class TestOwner: PageStore {
  final class Record { var writes = 0 }
  let record = Record()
  private(set) var object: MemoryObject!
  init() { object = MemoryObject(store: self, size: 10 * page) }
  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {}
  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    record.writes += 1
  }
}

extension MemoryObject {
  /// The dirty pages; the tag of the whole tree is looked at too.
  fileprivate var dirtyPages: Set<UInt64> {
    pages.withLock { pages in
      var result: Set<UInt64> = []
      var start: UInt64 = 0
      while let (index, _) = pages.tree.next(from: start, tagged: ObjectPages.dirtyTag) {
        result.insert(index)
        start = index + 1
      }
      #expect(pages.isListed == !result.isEmpty)
      return result
    }
  }
}
