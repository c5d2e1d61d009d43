// A disk of memory that answers when and in which order the test wants, and fails where it is told to.

import FileSystem
import Foundation
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory

@testable import Block

enum Harness {
  private static let memory: Void = {
    let info = machine_fake_boot_info(64 << 20)!
    PhysicalMemory.initialize(info)
    BootParameters.info = UnsafePointer(info)
  }()
  static func prepare() { _ = memory }
}

final class MemoryDisk: BlockDevice {
  private(set) var bytes: [UInt8]
  /// Requests that the device takes at a time; the others are refused.
  var depth = Int.max
  /// Requests are answered by `answer` only.
  var isLate = false
  var badSectors: Set<UInt64> = []
  /// (operation, first sector, sectors, segments) of every request.
  private(set) var log: [(BlockIO.Operation, UInt64, UInt64, Int)] = []
  private(set) var underWay: [BlockIO] = []

  init(sectors: Int, limits: BlockLimits = BlockLimits(segments: 8, bytes: 64 << 10), isReadOnly: Bool = false) {
    Harness.prepare()
    bytes = [UInt8](repeating: 0, count: sectors * 512)
    super.init(
      name: "fake", number: DeviceNumber(major: 254, minor: 0), sectorCount: UInt64(sectors), isReadOnly: isReadOnly,
      limits: limits)
  }

  func fill(_ content: [UInt8]) { bytes = content }
  func forgetLog() { log = [] }

  override func start(_ request: BlockIO) -> Bool {
    guard underWay.count < depth else { return false }
    var segments = 0
    request.forEachSegment { _ in segments += 1 }
    log.append((request.operation, request.sector, request.requestSectors, segments))
    precondition(!request.operation.hasData || segments <= limits.segments)
    underWay.append(request)
    if !isLate { answer(underWay.count - 1) }
    return true
  }

  /// Answers one of the requests under way.
  func answer(_ place: Int = 0) {
    let request = underWay.remove(at: place)
    let sectors = request.sector..<request.sector + request.requestSectors
    if sectors.contains(where: { badSectors.contains($0) }) { return complete(request, .EIO) }
    var position = Int(request.sector) * 512
    switch request.operation {
    case .read, .write:
      request.forEachSegment { segment in
        let frame = PageFrameNumber(physicalAddress: segment.physicalAddress)
        let start = DirectMap.pointer(to: frame) + Int(segment.physicalAddress % 4096)
        let memory = UnsafeMutableRawBufferPointer(start: start, count: Int(segment.length))
        if request.operation == .read {
          memory.copyBytes(from: bytes[position..<position + memory.count])
        } else {
          bytes.replaceSubrange(position..<position + memory.count, with: memory)
        }
        position += memory.count
      }
    case .flush: break
    case .discard, .clear:
      let end = position + Int(request.requestSectors) * 512
      bytes.replaceSubrange(position..<end, with: repeatElement(0, count: end - position))
    }
    complete(request, nil)
  }
}

/// A transfer with a page of memory of its own.
final class PageIO: BlockIO {
  let frame: PageFrameNumber
  private(set) var completions = 0

  init(_ operation: Operation, sector: UInt64, sectors: Int = 8, byte: UInt8 = 0) {
    Harness.prepare()
    frame = try! FrameAllocator.allocate()
    super.init(segments: 1)
    prepare(operation, sector: sector)
    memory.append(frame, length: sectors * 512)
    content = [UInt8](repeating: byte, count: 4096)
  }

  deinit { FrameAllocator.free(frame) }

  var content: [UInt8] {
    get { Array(UnsafeRawBufferPointer(start: DirectMap.pointer(to: frame), count: 4096)) }
    set { UnsafeMutableRawBufferPointer(start: DirectMap.pointer(to: frame), count: 4096).copyBytes(from: newValue) }
  }

  override func didComplete() { completions += 1 }
}
