import LinuxABI
import TestSupport
import Testing

@testable import FileSystem

private final class Owner {}

@Suite struct RecordLockTests {
  /// Each byte of a small file with what each owner holds there.
  @Test func `record locks agree with a model of single bytes`() {
    var random = SeededGenerator("record locks")
    let owners = (0..<4).map { _ in Owner() }
    let keys = owners.map { LockOwner.table(ObjectIdentifier($0)) }
    var list = RecordLockList()
    let size = 48
    // 0 nothing, 1 shared, 2 exclusive; the last "byte" stands for everything to the end.
    var model = [[Int]](repeating: [Int](repeating: 0, count: size + 1), count: 4)
    for _ in 0..<SeededGenerator.steps(20_000) {
      let owner = random.below(4)
      let start = random.below(size)
      let toEnd = random.below(6) == 0
      let end = toEnd ? size : min(size - 1, start + random.below(12))
      let isExclusive = random.below(2) == 0
      if random.below(3) == 0 {
        list.remove(owner: keys[owner], start: UInt64(start), end: toEnd ? .max : UInt64(end))
        for byte in start...end { model[owner][byte] = 0 }
        if toEnd { for byte in start...size { model[owner][byte] = 0 } }
      } else {
        let request = RecordLock(
          owner: keys[owner], isExclusive: isExclusive, start: UInt64(start), end: toEnd ? .max : UInt64(end),
          processID: 1)
        let conflicts = (0..<4).contains { other in
          other != owner && (start...end).contains { model[other][$0] == 2 || (isExclusive && model[other][$0] == 1) }
        }
        if (list.conflict(with: request) != nil) != conflicts { Issue.record("the conflict is judged wrongly") }
        if !conflicts {
          list.insert(request)
          for byte in start...end { model[owner][byte] = isExclusive ? 2 : 1 }
        }
      }
      for lock in list.locks {
        let owner = keys.firstIndex(of: lock.owner)!
        let last = lock.end == .max ? size : Int(lock.end)
        let agrees = (Int(lock.start)...last).allSatisfy { model[owner][$0] == (lock.isExclusive ? 2 : 1) }
        if !agrees { Issue.record("a lock on bytes \(lock.start)...\(lock.end) that nobody took") }
      }
      let held = list.locks.reduce(0) { $0 + (($1.end == .max ? size : Int($1.end)) - Int($1.start) + 1) }
      let expected = model.reduce(0) { $0 + $1.filter { $0 != 0 }.count }
      if held != expected { Issue.record("\(held) bytes are locked, not \(expected)") }
    }
  }

  @Test func `flock refuses a second exclusive holder and lets readers share`() throws {
    let locks = FileLocks()
    let left = Owner()
    let right = Owner()
    let first = LockOwner.file(ObjectIdentifier(left))
    let second = LockOwner.file(ObjectIdentifier(right))
    try locks.setWhole(owner: first, isExclusive: false, waits: false)
    try locks.setWhole(owner: second, isExclusive: false, waits: false)
    #expect(throws: Errno.EAGAIN) { try locks.setWhole(owner: first, isExclusive: true, waits: false) }
    locks.unlockWhole(owner: second)
    try locks.setWhole(owner: first, isExclusive: true, waits: false)
    #expect(throws: Errno.EAGAIN) { try locks.setWhole(owner: second, isExclusive: false, waits: false) }
  }
}
