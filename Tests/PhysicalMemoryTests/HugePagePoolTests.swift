import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import PhysicalMemory

/// The pool's counts as the documentation of Linux describes them, and who has which block.
private struct PoolModel {
  var persistent = 0
  var surplus = 0
  var free = 0
  var reserved = 0
  var surplusLimit = 0
  var counts: HugePagePool.Statistics {
    HugePagePool.Statistics(total: persistent + surplus, free: free, reserved: reserved, surplus: surplus)
  }
}

@Suite struct HugePagePoolTests {
  @Test func `the pool's counts follow the model and every block comes back over random steps`() throws {
    var random = SeededGenerator("huge pages")
    let test = TestMemory(megabytes: 64)
    let initial = test.free
    var pool = HugePages(memory: test.memory)
    var model = PoolModel()
    var held: [UInt64] = []
    for _ in 0..<SeededGenerator.modelSteps(2_000) {
      let capacity = (test.free - test.memory.statistics().minimum) / 512
      switch random.below(7) {
      case 0:
        let wish = random.below(12)
        while pool.resizeStep(to: wish, pages: 2) {}
        if wish > model.persistent {
          let adopted = min(model.surplus, wish - model.persistent)
          model.surplus -= adopted
          model.persistent += adopted
          // As far as memory allows: 2 MiB blocks, so at most what is free, and never less than nothing.
          let grown = pool.counts.total - pool.counts.surplus - model.persistent
          #expect(grown >= 0 && grown <= max(0, min(wish - model.persistent, capacity)))
          model.persistent += grown
          model.free += grown
        } else {
          let dropped = min(model.persistent - wish, model.free - model.reserved)
          model.free -= dropped
          model.surplus += model.persistent - dropped - wish
          model.persistent = wish
        }
      case 1:
        model.surplusLimit = random.below(6)
        pool.surplusLimit = model.surplusLimit
      case 2:
        let wish = 1 + random.below(4)
        let missing = max(0, model.reserved + wish - model.free)
        let before = pool.counts
        do throws(Errno) {
          try pool.reserve(wish)
          #expect(missing == 0 || missing <= model.surplusLimit - model.surplus)
          model.surplus += missing
          model.free += missing
          model.reserved += wish
        } catch {
          #expect(missing > model.surplusLimit - model.surplus || missing > capacity)
          #expect(pool.counts == before)
        }
      case 3 where model.reserved > 0:
        let count = 1 + random.below(model.reserved)
        pool.unreserve(count)
        model.reserved -= count
        let dropped = max(0, min(model.surplus, model.free - model.reserved))
        model.surplus -= dropped
        model.free -= dropped
      case 4:
        let isReserved = model.reserved > 0 && random.below(2) == 0
        do throws(Errno) {
          let block = try pool.take(isReserved ? .reserved : .unreserved)
          #expect(block.number % 512 == 0 && !held.contains(block.number))
          if isReserved {
            model.reserved -= 1
            model.free -= 1
          } else if model.free > model.reserved {
            model.free -= 1
          } else {
            model.surplus += 1
          }
          held.append(block.number)
        } catch {
          #expect(!isReserved && model.free == model.reserved)
          #expect(model.surplus >= model.surplusLimit || capacity <= 0)
        }
      default:
        guard !held.isEmpty else { break }
        let block = held.remove(at: random.below(held.count))
        for frame in (block..<block + 512).shuffled(using: &random) {
          #expect(pool.counts == model.counts)
          pool.frameBecameFree(frame)
        }
        if model.surplus > 0 { model.surplus -= 1 } else { model.free += 1 }
      }
      #expect(pool.counts == model.counts)
      #expect(pool.counts.reserved <= pool.counts.free)
      #expect(pool.counts.total == pool.counts.free + held.count)
    }
    for block in held { for frame in block..<block + 512 { pool.frameBecameFree(frame) } }
    pool.unreserve(pool.counts.reserved)
    while pool.resizeStep(to: 0, pages: 8) {}
    #expect(pool.counts == HugePagePool.Statistics())
    #expect(test.free == initial)
  }
}
