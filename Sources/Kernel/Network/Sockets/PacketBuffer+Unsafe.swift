// The data of one message while the kernel has it: an array when it is small, page frames when it is not, so that nothing larger
// than a page is ever allocated in one piece. A buffer is charged to its sender's account, and to the budget of the
// socket that sent it, for as long as it exists.
//
// SAFETY: the buffer owns its frames from `init` to `deinit`; offsets are within `count`, which the frames or the array hold.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import VirtualMemory

/// The data of a message, with what the family says about it.
public final class PacketBuffer {
  /// The length of the message.
  public let count: Int
  /// Bytes at the front that a stream's reader has had.
  public private(set) var consumed = 0
  /// What the buffer costs the kernel, counted as Linux counts it (skb->truesize).
  public let trueSize: Int
  /// The sender's address, when the receiver is to see it.
  public var source: SocketAddress?
  /// What the family hangs on it.
  public var attachment: AnyObject?
  /// Whether a reader has peeked at it.
  public var wasPeeked = false
  /// CLOCK_REALTIME when it arrived, for receivers that ask for it; else 0.
  public var timestamp: UInt64 = 0

  private var small: [UInt8] = []
  private var frames: [PageFrameNumber] = []
  private let budget: SendBudget
  private let account = Thread.current.account
  fileprivate var links = ListLinks<PacketBuffer>()

  private static var pageSize: Int { PhysicalMemory.pageSize }
  /// The largest message in one array (Linux: SKB_MAX_HEAD).
  public static var largestSmall: Int { 3776 }

  /// What a message of `count` bytes will cost.
  @export(interface)
  public static func trueSize(of count: Int) -> Int {
    guard count <= largestSmall else { return 768 + (count + pageSize - 1) / pageSize * pageSize }
    var data = 512
    while data < count + 320 { data *= 2 }
    return 256 + data
  }

  /// A message of the next `count` bytes of a program.
  ///
  /// - Throws: EFAULT, ENOMEM.
  @export(interface)
  public static func make(
    _ count: Int, from buffer: inout TransferBuffer, budget: SendBudget
  ) throws(Errno) -> PacketBuffer {
    try KernelMemory.admit()
    let packet = PacketBuffer(count, budget)
    try packet.fill(from: &buffer)
    return packet
  }

  private init(_ count: Int, _ budget: SendBudget) {
    self.count = count
    trueSize = Self.trueSize(of: count)
    self.budget = budget
    account.charge(trueSize)
    budget.charge(trueSize)
  }

  private func fill(from buffer: inout TransferBuffer) throws(Errno) {
    guard count > Self.largestSmall else {
      if count > 0 { small = try buffer.copyIn(count: count) }
      return
    }
    frames.reserveCapacity((count + Self.pageSize - 1) / Self.pageSize)
    var left = count
    while left > 0 {
      let frame = try MemoryPressure.retrying { () throws(Errno) in try FrameAllocator.allocate() }
      frames.append(frame)
      let part = min(left, Self.pageSize)
      try unsafe buffer.copyIn(DirectMap.pointer(to: frame), count: part)
      left -= part
    }
  }

  deinit {
    for frame in frames { frame.frame.release() }
    account.release(trueSize)
    budget.release(trueSize)
  }

  /// Bytes that have not been read.
  public var remaining: Int { count - consumed }

  /// A reader has had `size` bytes.
  @export(interface)
  public func consume(_ size: Int) { consumed += min(size, remaining) }

  /// Copies `size` bytes from `offset` on, which are there, to a program.
  ///
  /// - Throws: EFAULT.
  @export(interface)
  public func copy(from offset: Int, _ size: Int, to buffer: inout TransferBuffer) throws(Errno) {
    guard offset >= 0, size >= 0, size <= count - offset else { throw .EINVAL }
    if size == 0 { return }
    guard !frames.isEmpty else {
      var failure: Errno?
      unsafe small.withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        do throws(Errno) { try unsafe buffer.copyOut(base + offset, count: size) } catch { failure = error }
      }
      if let failure { throw failure }
      return
    }
    var place = offset
    while place < offset + size {
      let within = place % Self.pageSize
      let part = min(Self.pageSize - within, offset + size - place)
      let start = unsafe UnsafeRawPointer(DirectMap.pointer(to: frames[place / Self.pageSize]) + within)
      try unsafe buffer.copyOut(start, count: part)
      place += part
    }
  }
}

/// A place in a queue of a socket.
public enum PacketQueue: ListMembership {
  public static func links(of packet: PacketBuffer) -> ListLinks<PacketBuffer> { packet.links }
  public static func setLinks(_ links: ListLinks<PacketBuffer>, of packet: PacketBuffer) { packet.links = links }
}
