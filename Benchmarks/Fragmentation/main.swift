// Hours of churn on the kernel's own allocator, page cache, reclaim and compaction: how often a large block can be had, and
// what that costs, when nobody does anything for it, when pages are evicted until there is one (as a kswapd does that knows
// the order that is wanted and nothing else), and when pages are moved. The same steps on each run, whatever is done. The argument
// says what that is.

import DataStructures
import Figures
import KernelCore
import LinuxABI
import PhysicalMemory
import VirtualMemory

let pageSize: UInt64 = 4096

/// What is done when there is no block.
enum Remedy: String, CaseIterable {
  case nothing = "nothing"
  case eviction = "eviction by order"
  case compaction = "compaction"

  func makeBlock(order: Int) {
    switch self {
    case .nothing: break
    case .eviction:
      // An eighth of memory at most for one block.
      var left = MemoryStatistics.snapshot().total / 8
      while left > 0, !MemoryZone(index: 0).isOK(order: order, mark: .low) {
        let freed = Shrinkers.reclaim(frames: 128)
        FrameAllocator.drainLocalFrames()
        if freed == 0 { return }
        left -= freed
      }
    case .compaction: _ = Compaction.makeBlockNow(order: order)
    }
  }
}

/// A file that notes which pages are read again.
final class File: PageStore {
  private(set) var object: MemoryObject!
  private var wasRead: [Bool]
  static nonisolated(unsafe) var pagesReadAgain = 0

  init(pages: UInt64) {
    wasRead = [Bool](repeating: false, count: Int(pages))
    object = MemoryObject(store: self, size: pages * pageSize)
  }

  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    for offset in 0..<frames.count {
      let page = Int(index) + offset
      unsafe frames[offset].pointer.storeBytes(of: index, as: UInt64.self)
      guard page < wasRead.count else { continue }
      if wasRead[page] { Self.pagesReadAgain += 1 }
      wasRead[page] = true
    }
  }
  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {}
}

/// A program with some memory of its own.
struct Program {
  let space: AddressSpace
  let address: UInt64
  let pages: UInt64
}

final class Churn {
  let remedy: Remedy
  var random = Generator(seed: 1)
  let sizes = ObjectSizes()
  let reader: AddressSpace
  /// Twice as much as memory.
  var files: [(file: File, address: UInt64, pages: UInt64)] = []
  var programs: [Program] = []
  var objects: [UnsafeMutableRawPointer] = []
  /// Blocks that were had, and are in use for a while.
  var blocks: [PageFrameNumber] = []
  var attempts: [Int: Int] = [:]
  var successes: [Int: Int] = [:]
  var evicted = 0

  init(_ remedy: Remedy) throws(Errno) {
    self.remedy = remedy
    reader = try AddressSpace.create()
    for _ in 0..<128 {
      let pages = UInt64(64 + random.below(1984))
      let file = File(pages: pages)
      let address = try reader.map(
        at: 0, length: pages * pageSize, protection: .read, flags: .shared, object: file.object)
      files.append((file, address, pages))
    }
  }

  /// About a second of a machine that works: on average each hour it reads 80 GB and starts 700 programs.
  func step() throws(Errno) {
    // What kswapd does for single pages.
    let shortage = FrameAllocator.takeShortage()
    if shortage > 0 { _ = Shrinkers.reclaim(frames: max(128, shortage)) }
    switch random.below(20) {
    case 0..<10: try readFile()
    case 10..<13: try useProgram()
    case 13..<17: try changeObjects()
    case 17: try startProgram()
    default: endProgram()
    }
  }

  /// Some files are read often, and all of them now and then, a piece of a file each time.
  func readFile() throws(Errno) {
    let choice = random.below(4) == 0 ? random.below(files.count) : random.below(1 + random.below(files.count / 4))
    let file = files[choice]
    let start = random.next() % file.pages
    let end = min(file.pages, start + 16 + random.next() % 64)
    for page in start..<end { _ = try UserMemory.read(file.address + page * pageSize, as: UInt64.self, in: reader) }
  }

  /// Programs need up to half of memory.
  func startProgram() throws(Errno) {
    let used = programs.reduce(0) { $0 + $1.pages }
    let pages = UInt64(16 << random.below(8))
    guard used + pages < 32768 else { return endProgram() }
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: pages * pageSize, protection: [.read, .write], flags: [], object: nil)
    programs.append(Program(space: space, address: address, pages: pages))
  }

  func endProgram() {
    guard programs.count > 8 else { return }
    let place = random.below(programs.count)
    programs.swapAt(place, programs.count - 1)
    programs.removeLast().space.destroy()
  }

  func useProgram() throws(Errno) {
    guard !programs.isEmpty else { return }
    let program = programs[random.below(programs.count)]
    let start = random.next() % program.pages
    for page in start..<min(program.pages, start + 64) {
      try UserMemory.write(page, to: program.address + page * pageSize, in: program.space)
    }
  }

  /// Up to 100,000 objects of the kernel, some 8 MB, come and go.
  func changeObjects() throws(Errno) {
    let grows = random.below(100_000) > objects.count
    for _ in 0..<64 {
      if grows {
        unsafe objects.append(try KernelHeap.allocate(size: sizes.next(&random)))
      } else {
        unsafe objects.swapAt(random.below(objects.count), objects.count - 1)
        unsafe KernelHeap.free(objects.removeLast())
      }
    }
  }

  /// Wants a block, which is used for a while if it can be had.
  func attempt(order: Int) {
    attempts[order, default: 0] += 1
    for isRetry in [false, true] {
      do throws(Errno) {
        blocks.append(try FrameAllocator.allocate(order: order))
        successes[order, default: 0] += 1
        break
      } catch {
        if isRetry { break }
        let before = ReclaimStatistics.snapshot().stolen
        remedy.makeBlock(order: order)
        evicted += ReclaimStatistics.snapshot().stolen - before
      }
    }
    if blocks.count > 16 { FrameAllocator.free(blocks.remove(at: random.below(blocks.count))) }
  }

  func run(hours: Int) throws(Errno) {
    // Until memory is full nothing is counted.
    for _ in 0..<20_000 { try step() }
    let readBefore = File.pagesReadAgain
    for _ in 0..<hours {
      for _ in 0..<20 {
        for _ in 0..<180 { try step() }
        attempt(order: 4)
        attempt(order: 9)
      }
    }
    readAgain = File.pagesReadAgain - readBefore
  }
  var readAgain = 0
}

func measure(_ remedy: Remedy) {
  startMachine(megabytes: 256)
  Reclaim.initialize()
  func look(_ operation: String, _ value: Double) { note(operation, of: remedy.rawValue, value) }
  do throws(Errno) {
    let churn = try Churn(remedy)
    try churn.run(hours: 50)
    for order in [4, 9] {
      let successes = churn.successes[order, default: 0]
      look("blocks of order \(order) had, %", Double(100 * successes) / Double(churn.attempts[order]!))
    }
    look("pages evicted for a block that was wanted", Double(churn.evicted) / 2000)
    look("pages moved for a block that was wanted", Double(ReclaimStatistics.snapshot().migrated) / 2000)
    look("pages of files read again, thousands", Double(churn.readAgain) / 1000)
  } catch { fatalError("\(error.rawValue)") }
}

if let remedy = CommandLine.arguments.dropFirst().first.flatMap(Remedy.init(rawValue:)) {
  measure(remedy)
} else {
  print("usage: FragmentationBenchmarks \(Remedy.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: " | "))")
}
