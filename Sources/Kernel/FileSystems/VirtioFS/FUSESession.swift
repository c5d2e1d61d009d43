// The connection to a file server: queues, messages, and the nodes to be forgotten.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization
import Virtio

/// A session with a file server.
final class FUSESession {
  /// The largest transfer; also what fits a queue of 256 descriptors with room to spare.
  private(set) var transferLimit = 128 << 10
  private let queues: [Virtqueue]
  private struct Pool {
    var messages: [FUSEMessage] = []
    /// Requests sent, by operation.
    var counts = [UInt64](repeating: 0, count: FUSEOperation.limit)
  }
  private let pool = SpinLock(Pool(), rank: .device)
  /// Woken when a message comes back to the pool.
  private let isReturned = WaitQueue()
  /// Held to send pages of files (shared), and to cut files short (exclusively): a page that was cut off must not arrive
  /// after that and make the file longer again.
  let sizes = SharedSleepLock(.serverSizes)
  /// What listings bring along.
  let listings = ListingPolicy()
  /// For how long names and attributes are believed.
  let caching: VirtioFSCaching
  /// Nodes whose inodes are gone, with the look-ups to take back.
  private let forgotten = SpinLock([linux_fuse_forget_one](), rank: .device)
  private let forgottenCount = Atomic<Int>(0)

  /// Connects to `device` and opens a session.
  /// - Throws: ENOMEM, EPROTO for a server of another version, what the device answers.
  init(_ device: VirtioDevice, caching: VirtioFSCaching) throws(Errno) {
    self.caching = caching
    var queues: [Virtqueue] = []
    // Queue 0 is for urgent messages, which this kernel has none of (virtio 1.2, section 5.11.2).
    for index in 1..<max(2, min(device.queueCount, CPU.count + 1)) {
      queues.append(try Virtqueue(device, index: index))
    }
    self.queues = queues
    let all = queues
    Interrupts.register(device: device.number) { for queue in all { queue.collect() } }
    let reply = try call(LINUX_FUSE_INIT, UInt64(LINUX_FUSE_ROOT), room: MemoryLayout<linux_fuse_init_out>.size) {
      (message) throws(Errno) in
      var body = linux_fuse_init_in()
      body.major = UInt32(LINUX_FUSE_VERSION)
      body.minor = UInt32(LINUX_FUSE_MINOR_VERSION)
      body.maximum_readahead = UInt32(128 << 10)
      body.flags = UInt32(
        LINUX_FUSE_ASYNC_READ | LINUX_FUSE_BIG_WRITES | LINUX_FUSE_DONT_MASK | LINUX_FUSE_DO_READDIRPLUS
          | LINUX_FUSE_PARALLEL_DIROPS | LINUX_FUSE_MAX_PAGES)
      message.append(body)
    } reply: { (message) throws(Errno) in
      try message.value(linux_fuse_init_out.self)
    }
    guard reply.major == UInt32(LINUX_FUSE_VERSION) else { throw .EPROTO }
    transferLimit = max(4096, min(transferLimit, Int(reply.maximum_write) & ~4095))
  }

  /// Sends a request and waits for its answer.
  ///
  /// - Parameters:
  ///   - room: bytes of the answer behind its header.
  ///   - build: appends the body.
  ///   - reply: takes what is wanted out of the answer.
  /// - Throws: the server's error; EIO.
  @inline(__always)
  func call<Result>(
    _ opcode: linux_fuse_opcode, _ node: UInt64, owner: Owner = .root, room: Int,
    target: [MemorySegment] = [],
    _ build: (FUSEMessage) throws(Errno) -> Void, reply: (FUSEMessage) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    if forgottenCount.load(ordering: .relaxed) >= 64 { sendForgotten() }
    let message = takeMessage(for: opcode)
    message.begin(opcode, node, owner: owner)
    do throws(Errno) {
      try build(message)
      message.finish(room: room, target: target)
      try queue.perform(message)
      try message.checkReply()
      let result = try reply(message)
      keep(message)
      return result
    } catch {
      keep(message)
      throw error
    }
  }

  private var queue: Virtqueue {
    @inline(__always) get { queues[CPU.currentIndex % queues.count] }
  }

  private func takeMessage(for opcode: linux_fuse_opcode) -> FUSEMessage {
    let kept = pool.withLock { pool in
      pool.counts[Int(opcode.rawValue)] += 1
      return pool.messages.popLast()
    }
    if let kept { return kept }
    if let fresh = try? FUSEMessage(checking: ()) { return fresh }
    // Without memory for another, requests take turns: it may be this one that makes memory free.
    var returned: FUSEMessage?
    try? isReturned.wait(.uninterruptible, exclusive: true) {
      returned = pool.withLock { $0.messages.popLast() }
      return returned != nil
    }
    guard let returned else { panic("a wait without an end ended") }
    return returned
  }

  private func keep(_ message: FUSEMessage) {
    pool.withLock { if $0.messages.count < 16 { $0.messages.append(message) } }
    isReturned.wakeOne()
  }

  /// How many requests of this kind have been sent.
  func count(of opcode: linux_fuse_opcode) -> UInt64 { pool.withLock { $0.counts[Int(opcode.rawValue)] } }

  /// The counts of all kinds that occurred, a line for each.
  var countLines: ByteString {
    let counts = pool.withLock { $0.counts }
    var text = TextBuffer()
    for (opcode, count) in counts.enumerated() where count > 0 {
      text.append("\t")
      if let name = FUSEOperation.name(opcode) { text.append(name) } else { text.append(decimal: UInt64(opcode)) }
      text.append(": ")
      text.append(decimal: count)
      text.append("\n")
    }
    return text.byteString
  }

  /// Until when something may be believed that the server said.
  func validity(_ seconds: UInt64, _ nanoseconds: UInt32) -> Validity {
    caching == .always ? .forever : Validity(seconds, nanoseconds)
  }

  // MARK: Forgetting

  /// Notes that an inode is gone. Callable from anywhere: nothing is sent.
  func forget(_ node: UInt64, lookups: UInt64) {
    let count = forgotten.withLock { list in
      list.append(linux_fuse_forget_one(node: node, lookups: lookups))
      return list.count
    }
    forgottenCount.store(count, ordering: .relaxed)
  }

  /// Tells the server about the inodes that are gone.
  func sendForgotten() {
    while true {
      let batch = forgotten.withLock { list in
        let batch = Array(list.suffix(256))
        list.removeLast(batch.count)
        forgottenCount.store(list.count, ordering: .relaxed)
        return batch
      }
      guard !batch.isEmpty else { return }
      let message = takeMessage(for: LINUX_FUSE_BATCH_FORGET)
      message.begin(LINUX_FUSE_BATCH_FORGET, 0)
      message.append(linux_fuse_batch_forget_in(count: UInt32(batch.count), padding: 0))
      for entry in batch { message.append(entry) }
      // There is no answer.
      message.finish(room: -1)
      try? queue.perform(message)
      keep(message)
    }
  }

  /// Ends the session.
  func close() {
    sendForgotten()
    _ = try? call(LINUX_FUSE_DESTROY, 0, room: 0) { (_) throws(Errno) in
    } reply: { (_) throws(Errno) in
      ()
    }
  }
}
