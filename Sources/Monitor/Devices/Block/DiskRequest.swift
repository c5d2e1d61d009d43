// A request to a disk (virtio 1.2, section 5.2.6): a head of 16 bytes, data, and a status byte. The head is copied out of
// guest memory once and everything is judged by the copy.

import CLinuxABI
import Glibc

/// A request whose place and lengths were found good for the disk.
struct DiskRequest {
  enum Operation: Equatable {
    case read, write, flush, identify
    /// Give the space back; what is read afterwards is zero.
    case discard, clear
  }

  /// The last byte of the answer.
  enum Status: UInt8 {
    case good = 0
    case failed = 1
    case unsupported = 2
  }

  static let sectorSize = 512
  private static let headLength = 16
  /// The most data of a request: what a chain of pages can have, and no more than is read within a moment.
  static let largestTransfer = 16 << 20
  /// The most ranges of a discard.
  static let largestDiscard = 64
  static let identifierLength = 20

  let chain: DescriptorChain
  let operation: Operation
  /// Where data begin on the disk, and in the readable memory of a write.
  private(set) var offset: UInt64 = 0
  private(set) var skip = 0
  private(set) var count = 0
  /// What a discard is about.
  private(set) var ranges: [(offset: UInt64, count: UInt64)] = []

  /// Judges a request of the guest.
  ///
  /// - Throws: the status with which it is refused.
  init(_ chain: DescriptorChain, disk: HostDisk) throws(Refusal) {
    let head = chain.copyReadable(limit: Self.headLength)
    guard head.count == Self.headLength, chain.writableCount >= 1 else { throw Refusal(.failed) }
    func word(_ bytes: [UInt8], _ place: Int, _ count: Int) -> UInt64 {
      (0..<count).reversed().reduce(0) { $0 << 8 | UInt64(bytes[place + $1]) }
    }
    self.chain = chain
    let sector = word(head, 8, 8)
    let sectors = disk.byteCount / UInt64(Self.sectorSize)
    switch word(head, 0, 4) {
    case 0:
      operation = .read
      count = chain.writableCount - 1
    case 1:
      operation = .write
      skip = Self.headLength
      count = chain.readableCount - Self.headLength
    case 4:
      operation = .flush
      return
    case 8:
      operation = .identify
      guard chain.writableCount > Self.identifierLength else { throw Refusal(.failed) }
      return
    case let kind where kind == 11 || kind == 13:
      operation = kind == 11 ? .discard : .clear
      if disk.isReadOnly { throw Refusal(.failed) }
      let body = chain.copyReadable(limit: Self.headLength + 16 * Self.largestDiscard + 1)
      let length = body.count - Self.headLength
      guard length > 0, length % 16 == 0, length / 16 <= Self.largestDiscard else { throw Refusal(.failed) }
      for place in stride(from: Self.headLength, to: body.count, by: 16) {
        let first = word(body, place, 8)
        let many = word(body, place + 8, 4)
        // The only flag allows what happens anyway: that the space is given back.
        guard word(body, place + 12, 4) <= (kind == 13 ? 1 : 0) else { throw Refusal(.unsupported) }
        guard first <= sectors, many <= sectors - first else { throw Refusal(.failed) }
        ranges.append((first * UInt64(Self.sectorSize), many * UInt64(Self.sectorSize)))
      }
      return
    default: throw Refusal(.unsupported)
    }
    guard count > 0, count % Self.sectorSize == 0, count <= Self.largestTransfer, sector <= sectors,
      UInt64(count / Self.sectorSize) <= sectors - sector, operation == .read || !disk.isReadOnly
    else { throw Refusal(.failed) }
    offset = sector * UInt64(Self.sectorSize)
  }

  /// Performs the request; nil when that would have to wait for the host and must not.
  func perform(on disk: HostDisk, identifier: [UInt8], _ patience: HostDisk.Patience) -> Status? {
    var result = 0
    switch operation {
    case .read, .write:
      result = disk.transfer(chain, writes: operation == .write, skip: skip, count: count, offset: offset, patience)
      // Hosts and file systems that cannot tell in advance whether they will wait.
      if patience == .atOnce, result < 0 { return nil }
    case .identify: chain.write(identifier)
    case .flush, .discard, .clear:
      if patience == .atOnce { return nil }
      if operation == .flush { result = disk.isReadOnly ? 0 : disk.flush() }
      for range in ranges where range.count > 0 && result == 0 {
        result = disk.discard(offset: range.offset, count: range.count)
      }
      if operation == .discard, result == -Int(EOPNOTSUPP) { return .unsupported }
    }
    return result < 0 ? .failed : .good
  }

  /// How many bytes the device put into the guest's memory.
  func written(_ status: Status) -> Int {
    switch operation {
    case .read: status == .good ? count + 1 : 1
    case .identify: Self.identifierLength + 1
    default: 1
    }
  }

  /// A request that is answered with an error at once.
  struct Refusal: Error {
    let status: Status
    init(_ status: Status) { self.status = status }
  }
}
