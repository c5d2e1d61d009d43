import Dispatch
import KernelCore
import LinuxABI
import Synchronization
import TestSupport
import Testing

@testable import FileSystem

/// A file that counts its ends, and uses of it after its end.
private final class WatchedFile: OpenFile {
  let closes = Atomic<Int>(0)
  let lateUses = Atomic<Int>(0)

  init() {
    super.init(path: AnonymousFiles.makePath(kind: .fifo, name: "test"), flags: .readWrite, isSeekable: false)
  }

  func use() { if closes.load(ordering: .acquiring) != 0 { lateUses.add(1, ordering: .relaxed) } }
  override func close() { closes.add(1, ordering: .acquiringAndReleasing) }
}

@Suite struct FileUseTests {
  @Test func `a closed file cannot be acquired again`() {
    let file = WatchedFile()
    file.acquire()
    #expect(file.tryAcquire())
    file.release()
    file.release()
    #expect(file.closes.load(ordering: .relaxed) == 1)
    #expect(!file.tryAcquire())
    let table = DescriptorTable()
    #expect(throws: Errno.EBADF) { try table.insert(file) }
    #expect(file.closes.load(ordering: .relaxed) == 1)
  }

  @Test func `a use keeps the file of a shared table open, and its end closes the file`() throws {
    let table = DescriptorTable()
    table.enter()
    let file = WatchedFile()
    let number = try table.insert(file)
    do {
      let use = try table.get(number)
      try table.close(number)
      #expect(file.closes.load(ordering: .relaxed) == 0)
      let used = use.file
      #expect(used === file)
    }
    #expect(file.closes.load(ordering: .relaxed) == 1)
  }

  @Test func `uses of many files end together`() throws {
    let table = DescriptorTable()
    table.enter()
    let files = (0..<5).map { _ in WatchedFile() }
    for file in files { _ = try table.insert(file) }
    do {
      var uses = FileUses()
      for number in 0..<5 { _ = uses.add(try table.get(Int32(number))) }
      table.close(from: 0, through: .max, marking: false)
      let isShared = uses.isShared
      #expect(isShared)
      for file in files { #expect(file.closes.load(ordering: .relaxed) == 0) }
    }
    for file in files { #expect(file.closes.load(ordering: .relaxed) == 1) }
  }

  @Test func `a table of one user is used without counting, and from outside with`() throws {
    let table = DescriptorTable()
    let file = WatchedFile()
    let number = try table.insert(file)
    do {
      let use = try table.getFromOutside(number)
      try table.close(number)
      #expect(file.closes.load(ordering: .relaxed) == 0)
      let used = use.file
      #expect(used === file)
    }
    #expect(file.closes.load(ordering: .relaxed) == 1)
    var uses = FileUses()
    let other = try table.insert(WatchedFile())
    _ = uses.add(try table.get(other))
    let isShared = uses.isShared
    #expect(!isShared)
  }

  @Test func `four threads that use, duplicate and close the same descriptors close each file once and use none later`()
  {
    let seed = SeededGenerator("uses").seed
    nonisolated(unsafe) let table = DescriptorTable(limit: 64)
    for _ in 0..<3 { table.enter() }
    nonisolated(unsafe) var made: [WatchedFile] = []
    let lock = SpinLock((), rank: .log)
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      var random = SeededGenerator(seed: seed &+ UInt64(worker))
      for _ in 0..<20_000 {
        let (number, other) = (Int32(random.below(8)), Int32(random.below(8)))
        switch random.below(5) {
        case 0:
          let file = WatchedFile()
          if (try? table.insert(file)) != nil { lock.withLock { _ in made.append(file) } }
        case 1: try? table.close(number)
        case 2: if number != other { try? table.duplicate(number, to: other, closeOnExec: false) }
        case 3:
          do throws(Errno) {
            let use = try table.get(number)
            (use.file as? WatchedFile)?.use()
            _ = try table.insert(use.file)
            (use.file as? WatchedFile)?.use()
          } catch {}
        default:
          do throws(Errno) {
            let use = try table.getFromOutside(number)
            (use.file as? WatchedFile)?.use()
          } catch {}
        }
      }
    }
    for _ in 0..<4 { table.leave() }
    let files = made
    #expect(!files.isEmpty)
    #expect(files.allSatisfy { $0.closes.load(ordering: .relaxed) == 1 })
    #expect(files.allSatisfy { $0.lateUses.load(ordering: .relaxed) == 0 })
  }
}
