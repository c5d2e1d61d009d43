// Random system calls on a few spaces, compared with a model that is a dictionary of pages.

import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

/// An object as the model knows it.
private final class ModelObject {
  var values: [UInt64: UInt64] = [:]
  var pages: UInt64
  let store: TestStore?
  var object: MemoryObject

  init(pages: UInt64, store: TestStore?) {
    self.pages = pages
    self.store = store
    object = MemoryObject(store: store, size: pages * page)
  }

  func value(_ index: UInt64) -> UInt64 { values[index] ?? (store == nil ? 0 : TestStore.initial(index)) }
}

/// Shared anonymous memory: an object that the space made itself.
private final class ModelAnonymous {
  var values: [UInt64: UInt64] = [:]
  let pages: UInt64
  init(pages: UInt64) { self.pages = pages }
}

private struct ModelPage {
  enum Origin {
    case zero
    case object(ModelObject, UInt64)
    case anonymous(ModelAnonymous, UInt64)
  }
  var origin: Origin
  var isShared: Bool
  var protection: Protection
  var copy: UInt64?

  /// Whether it shows what the object has no more.
  func isBeyondEnd(of truncated: ModelObject) -> Bool {
    if case .object(let object, let index) = origin { object === truncated && index >= object.pages } else { false }
  }

  /// What a read finds; nil for a fault.
  var value: UInt64? {
    if protection.isEmpty { return nil }
    if let copy { return copy }
    switch origin {
    case .zero: return 0
    case .object(let object, let index): return index < object.pages ? object.value(index) : nil
    case .anonymous(let memory, let index): return memory.values[index] ?? 0
    }
  }

  /// Whether a write works.
  mutating func write(_ value: UInt64) -> Bool {
    guard protection.contains(.write) else { return false }
    if isShared {
      switch origin {
      case .object(let object, let index):
        guard index < object.pages else { return false }
        object.values[index] = value
      case .anonymous(let memory, let index): memory.values[index] = value
      case .zero: return false
      }
      return true
    }
    if copy == nil, case .object(let object, let index) = origin, index >= object.pages { return false }
    copy = value
    return true
  }
}

private final class ModelSpace {
  let space: AddressSpace
  var pages: [UInt64: ModelPage] = [:]
  init(_ space: AddressSpace) { self.space = space }

  /// The next page that is mapped, if it is near: not the dictionary's first one, which differs from run to run.
  func firstPage(from address: UInt64) -> UInt64? {
    (0..<300).lazy.map { address + $0 * page }.first { self.pages[$0] != nil }
  }
}

extension VirtualMemoryTests {
  /// With page tables shared from the first private page on, and with small programs copied.
  @Test(arguments: [-1, AddressSpace.eagerCopyPages])
  func `random calls agree with a flat model of memory`(eagerCopyPages: Int) throws {
    let usual = unsafe AddressSpace.eagerCopyPages
    unsafe AddressSpace.eagerCopyPages = eagerCopyPages
    defer { unsafe AddressSpace.eagerCopyPages = usual }
    var random = SeededGenerator("address spaces")
    let before = VirtualMemoryStatistics.snapshot()
    // Frames that are made once and kept.
    _ = Frames.zeroPage
    _ = MemorySwapDevice.shared
    let slotsBefore = SwapSpace.freePages
    let freeBefore = TestMachine.freeFrames
    do {
      let base: UInt64 = 0x10_0000_0000 - 100 * page  // windows and tables begin within the arena
      let arena: UInt64 = 1700
      var spaces = [ModelSpace(try AddressSpace.create())]
      let objects = [
        ModelObject(pages: 40, store: nil), ModelObject(pages: 90, store: TestStore()),
        ModelObject(pages: 30, store: TestStore()),
      ]
      func range() -> (UInt64, UInt64) {
        let start = UInt64(random.below(Int(arena) - 1))
        let most = random.below(4) == 0 ? 300 : random.below(20) == 0 ? 1000 : 24
        return (base + start * page, min(UInt64(1 + random.below(most)), arena - start))
      }
      let protections: [Protection] = [[], .read, [.read, .write], [.read, .write], [.read, .execute], .all]
      var nextValue: UInt64 = 1
      let steps = SeededGenerator.modelSteps(12_000, parts: 2)
      for step in 0..<steps {
        let model = spaces[random.below(spaces.count)]
        let space = model.space
        let (address, count) = range()
        let keys = (0..<count).map { address + $0 * page }
        switch random.below(100) {
        case 0..<8:
          // mmap
          let protection = protections[random.below(protections.count)]
          let kind = random.below(6)
          let isShared = kind == 1 || kind == 3
          let object = kind >= 2 && kind < 4 || kind == 5 ? objects[random.below(objects.count)] : nil
          var first = UInt64(random.below(60))
          var (address, count) = (address, count)
          if isShared, random.below(2) == 0 {
            // Congruent to its place in the object, and long enough for tables in common.
            address = (base + 100 * page) + UInt64(random.below(3)) * 512 * page
            count = min(UInt64(500 + random.below(600)), (base + arena * page - address) / page)
            first = 0
          }
          var flags: MappingFlags = isShared ? .shared : []
          let isFixed = random.below(4) != 0
          if isFixed { flags.insert(.fixed) }
          if random.below(5) == 0 { flags.insert(.populate) }
          let result = try space.map(
            at: address, length: count * page, protection: protection, flags: flags, object: object?.object,
            offset: object == nil ? 0 : first * page)
          if isFixed { Self.expect(result == address) }
          let memory = ModelAnonymous(pages: count)
          for index in 0..<count {
            if !isFixed { Self.expect(model.pages[result + index * page] == nil) }
            let origin: ModelPage.Origin
            if let object {
              origin = .object(object, first + index)
            } else if isShared {
              origin = .anonymous(memory, index)
            } else {
              origin = .zero
            }
            model.pages[result + index * page] = ModelPage(
              origin: origin, isShared: isShared, protection: protection, copy: nil)
          }
          if flags.contains(.populate), !isShared, protection.contains(.write) {
            // Writable private memory gets its copies, up to the end of the object.
            for index in 0..<count {
              guard let value = model.pages[result + index * page]?.value else { break }
              model.pages[result + index * page]?.copy = value
            }
          }
        case 8..<13:
          try space.unmap(address, count * page)
          for key in keys { model.pages[key] = nil }
        case 13..<21:
          let protection = protections[random.below(protections.count)]
          let isComplete = keys.allSatisfy { model.pages[$0] != nil }
          do throws(Errno) {
            try space.protect(address, count * page, protection)
            Self.expect(isComplete)
          } catch { Self.expect(error == .ENOMEM && !isComplete) }
          for key in keys {
            if model.pages[key] == nil { break }
            model.pages[key]?.protection = protection
          }
        case 21..<60:
          // Writes, biased to what is mapped.
          guard let key = random.below(3) == 0 ? address : model.firstPage(from: address) else {
            break
          }
          nextValue += 1
          let isExpected = model.pages[key]?.write(nextValue) ?? false
          let isDone = (try? space.store(nextValue, key)) != nil
          Self.expect(isExpected == isDone, "step \(step): write \(key)")
        case 60..<84:
          let key = random.below(3) == 0 ? address : model.firstPage(from: address) ?? address
          let value = try? space.load(key)
          Self.expect(
            value == model.pages[key]?.value,
            "step \(step): read \(key): \(String(describing: value)), not \(String(describing: model.pages[key]))"
              + " with \(TestMachine.freeFrames) frames free")
        case 84..<87:
          if spaces.count < 4 {
            let child = ModelSpace(try space.fork())
            child.pages = model.pages
            spaces.append(child)
          } else {
            let index = random.below(spaces.count)
            spaces[index].space.destroy()
            spaces.remove(at: index)
          }
        case 87..<92:
          // mremap
          let newCount = random.below(3) == 0 ? count : UInt64(1 + random.below(40))
          var options: RemapOptions = random.below(3) == 0 ? [] : .mayMove
          let (target, _) = range()
          if random.below(3) == 0, target + newCount * page <= base + arena * page,
            target >= address + count * page || target + newCount * page <= address
          {
            options = [.mayMove, .fixed]
          }
          do throws(Errno) {
            let result = try space.remap(
              address, oldLength: count * page, newLength: newCount * page, options: options, target: target)
            if result == address, newCount <= count, !options.contains(.fixed) {
              // Shrinking is munmap of the rest, whatever is mapped before it.
              for key in keys[Int(newCount)...] { model.pages[key] = nil }
              break
            }
            let old = keys.map { model.pages[$0] }
            if options.contains(.fixed) { Self.expect(result == target) }
            for key in keys { model.pages[key] = nil }
            var last = old[0]
            for index in 0..<newCount {
              let key = result + index * page
              if !options.contains(.fixed) { Self.expect(model.pages[key] == nil || keys.contains(key)) }
              if index < count {
                Self.expect(old[Int(index)] != nil)
                model.pages[key] = old[Int(index)]
              } else if var added = last {
                added.copy = nil
                switch added.origin {
                case .zero: break
                case .object(let object, let place): added.origin = .object(object, place + 1)
                case .anonymous(let memory, let place): added.origin = .anonymous(memory, place + 1)
                }
                model.pages[key] = added
              }
              last = model.pages[key]
            }
          } catch { Self.expect(error == .EFAULT || error == .ENOMEM, "\(error)") }
          // Memory beyond the end of a shared anonymous object faults: not modelled, so cut it off.
          for (key, value) in model.pages.sorted(by: { $0.key < $1.key }) {
            if case .anonymous(let memory, let place) = value.origin, place >= memory.pages {
              try space.unmap(key, page)
              model.pages[key] = nil
            }
          }
        case 92..<95:
          do throws(Errno) { try space.advise(address, count * page, .discard) } catch { Self.expect(error == .ENOMEM) }
          for key in keys where model.pages[key]?.isShared == false { model.pages[key]?.copy = nil }
        case 95:
          let object = objects[0]
          let pages = UInt64(random.below(70))
          object.object.truncate(to: pages * page)
          object.pages = pages
          object.values = object.values.filter { $0.key < pages }
          for other in spaces {
            for (key, value) in other.pages where value.copy != nil && value.isBeyondEnd(of: object) {
              other.pages[key]?.copy = nil
            }
          }
        case 96:
          let object = objects[random.below(objects.count)]
          let index = UInt64(random.below(70))
          nextValue += 1
          var bytes = [UInt64](repeating: 0, count: 512)
          bytes[0] = nextValue
          let written = try unsafe bytes.withUnsafeMutableBytes { buffer in
            var transfer = unsafe TransferBuffer(kernel: buffer)
            return try object.object.write(at: index * page, &transfer)
          }
          Self.expect(written == 4096)
          object.values[index] = nextValue
          object.pages = max(object.pages, index + 1)
        case 97:
          let object = objects[random.below(objects.count)]
          let index = UInt64(random.below(70))
          var word: UInt64 = 0
          let count = try unsafe withUnsafeMutableBytes(of: &word) { buffer in
            var transfer = unsafe TransferBuffer(kernel: buffer)
            return try object.object.read(at: index * page, &transfer)
          }
          Self.expect(count == (index < object.pages ? 8 : 0))
          if count == 8 { Self.expect(word == object.value(index)) }
        case 98:
          let object = objects[1 + random.below(2)]
          if random.below(2) == 0 { try object.object.writeBack() } else { object.object.invalidate() }
          _ = Reclaim().reclaim(frames: random.below(random.below(4) == 0 ? 400 : 40))
          if random.below(4) == 0 { Compaction.compactAll() }
        default:
          if let runs = try? space.pin(address, count * page) { AddressSpace.unpin(runs) }
          // A pin for writing makes private copies, with the same contents.
          for key in keys {
            guard let value = model.pages[key]?.value, model.pages[key]?.protection.contains(.write) == true else {
              break
            }
            if model.pages[key]?.isShared == false { model.pages[key]?.copy = value }
          }
        }
        // What the step touched after each step, all tables and lists now and then, all contents sometimes.
        for key in keys.prefix(64) where model.pages[key] == nil {
          Self.expect(space.tables.withLock { $0.entry(key) }.isEmpty, "step \(step): \(key) is mapped nowhere")
        }
        if spaces.contains(where: { $0 === model }) {
          Self.expect(
            TestMachine.isConsistent(space, within: address..<address + min(count, 64) * page), "step \(step)")
        }
        // Every step, every space: what a step changes in a table, all who have the table must notice.
        for model in spaces {
          let isRight = model.space.tables.withLock { $0.own == $0.census().own && $0.commonPages >= 0 }
          Self.expect(isRight, "step \(step): pages of a tree")
        }
        if Self.failures > 0 { break }
        if step % 500 == 0 {
          // What was mapped anywhere would pile up, for the other calls stay in the arena.
          for model in spaces {
            for key in model.pages.keys.sorted() where key < base || key >= base + arena * page {
              try model.space.unmap(key, page)
              model.pages[key] = nil
            }
          }
        }
        if step % 20 == 0 {
          Self.expect(TestMachine.audit(spaces.map(\.space)), "step \(step)")
        }
        if step % 100 == 0 {
          for model in spaces { Self.expect(TestMachine.isConsistent(model.space), "step \(step)") }
          let failures = ReclaimCheck.failures(spaces.map(\.space))
          Self.expect(failures.isEmpty, "step \(step): \(failures.prefix(3))")
        }
        if step % 1000 == 0 && (step < 20_000 || step % 5000 == 0) || step == steps - 1 {
          for model in spaces { check(model, "step \(step)") }
        }
      }
      for model in spaces { model.space.destroy() }
    }
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.anonymousPages == before.anonymousPages)
    #expect(after.cachedPages == before.cachedPages)
    #expect(after.dirtyPages == before.dirtyPages)
    #expect(after.pageTablePages == before.pageTablePages)
    #expect(after.areas == before.areas)
    #expect(after.memoryObjects == before.memoryObjects)
    #expect(after.committedPages == before.committedPages)
    #expect(after.addressSpaces == before.addressSpaces)
    #expect(TestMachine.freeFrames == freeBefore)
    #expect(SwapSpace.freePages == slotsBefore && SwapSpace.cachedPages == 0)
  }

  nonisolated(unsafe) static var failures = 0

  /// `#expect` that ends the run: after the first difference everything differs.
  static func expect(
    _ condition: Bool, _ comment: @autoclosure () -> String = "", line: Int = #line
  ) {
    guard !condition else { return }
    failures += 1
    if failures < 5 { Issue.record("line \(line): \(comment())") }
  }

  /// Compares everything: the areas, their rights, the contents, the sums.
  private func check(_ model: ModelSpace, _ place: String) {
    var covered = 0
    var previousEnd: UInt64 = 0
    for area in model.space.areas(.residency) {
      Self.expect(area.start >= previousEnd && area.start < area.end, "\(place)")
      previousEnd = area.end
      for address in stride(from: area.start, to: area.end, by: Int(page)) {
        covered += 1
        Self.expect(model.pages[address]?.protection == area.protection, "\(place): \(address)")
      }
    }
    Self.expect(covered == model.pages.count, "\(place)")
    Self.expect(model.space.statistics.totalPages == covered, "\(place)")
    for (address, expected) in model.pages {
      let found = try? model.space.load(address)
      Self.expect(found == expected.value, "\(place): \(address) holds \(String(describing: found)), not \(expected)")
    }
  }
}
