// The file server: serves a directory of the host to the guest by the FUSE protocol over virtqueues (virtio 1.2,
// section 5.11). The README tells the confinement and permission model.
//
// Requests are answered on the thread of the CPU that kicks. The server keeps no state of open files: what a request
// needs is found by the node's number, and OPEN only checks that the host permits the access.

import CDevices
import CLinuxABI
import Glibc

/// A directory of the host, as a virtio device.
@safe public final class FileServer: VirtioDevice, @unchecked Sendable {
  /// How an export is offered.
  public struct Options: Sendable {
    public var isReadOnly: Bool
    /// Request queues; one for each CPU lets them work side by side.
    public var requestQueues = 1
    /// For how many seconds the guest may believe names and attributes without asking again.
    public var validSeconds: UInt64 = 1
    /// The most descriptors of the host that are kept open; nil: half of the process's limit.
    public var descriptorLimit: Int?
    /// What the guest sees.
    public var view = FileView.everything
    /// Whether set-ID bits, device files and attributes of the kernel's name spaces reach a writable export. They would have
    /// power over the host: there a process that executes the file gets its owner's rights.
    public var takesPrivilegedFiles = false

    public init(isReadOnly: Bool) { self.isReadOnly = isReadOnly }
  }

  let table: FileNodeTable
  let options: Options
  private let tag: [UInt8]
  private let queueLock = QueueLock()
  private var queues: [Virtqueue?]
  /// The identity for new files when it is the monitor's right to choose.
  let mayChangeOwner: Bool

  /// Serves `directory` under the name `tag` (at most 36 bytes).
  ///
  /// - Returns: nil and an error number in `failure` when the directory cannot be served: ENOSYS when the host lacks
  ///   openat2(2) or /proc.
  public init?(tag: String, directory: String, options: Options, failure: inout Int32) {
    do throws(HostError) {
      guard tag.utf8.count <= 36, !tag.isEmpty else { throw HostError(EINVAL) }
      table = try FileNodeTable(
        rootPath: directory, isReadOnly: options.isReadOnly, view: options.view,
        descriptorLimit: options.descriptorLimit, keepsSetID: options.takesPrivilegedFiles)
    } catch {
      failure = error.code
      return nil
    }
    self.tag = Array(tag.utf8)
    self.options = options
    queues = Array(repeating: nil, count: 1 + max(1, options.requestQueues))
    mayChangeOwner = geteuid() == 0
    // The guest applies its own umask.
    umask(0)
  }

  // MARK: The device

  public var kind: UInt32 { 26 }
  public var queueCount: Int { queues.count }
  /// The tag, filled with zeros, and the number of request queues (virtio 1.2, section 5.11.4).
  public var configuration: [UInt8] {
    let count = UInt32(queues.count - 1)
    return tag + Array(repeating: 0, count: 36 - tag.count) + bytesOf(count.littleEndian)
  }

  public func attach(memory: GuestMemory, interrupt: @escaping @Sendable () -> Void) {}

  public func setQueue(_ index: Int, _ queue: Virtqueue?) { queueLock.withLock { queues[index] = queue } }

  public func kick(_ index: Int) {
    guard let queue = queueLock.withLock({ queues[index] }) else { return }
    while let chain = queue.next() { queue.complete(chain, written: answer(chain)) }
  }

  // MARK: Requests

  /// Performs the request in `chain`; how many bytes were written into its memory.
  func answer(_ chain: DescriptorChain) -> Int {
    guard var request = FUSERequest(chain) else { return 0 }
    var error: Int32 = 0
    var reply = FUSEReply.empty
    do throws(HostError) {
      guard Int(request.header.length) >= FUSERequest.headerLength else { throw HostError(EINVAL) }
      reply = try perform(&request)
    } catch let failure {
      error = -failure.code
    }
    let headerLength = MemoryLayout<linux_fuse_out_header>.size
    let room = chain.writableCount
    var length: Int
    switch reply {
    case .nothing: return 0
    case .placed(let count): length = headerLength + count
    case .bytes(let bytes):
      length = headerLength + bytes.count
      if length <= room {
        chain.write(bytes, at: headerLength)
      } else {
        // The guest left too little room for an answer of this kind.
        error = -EINVAL
        length = headerLength
      }
    }
    guard room >= headerLength else { return 0 }
    chain.write(
      bytesOf(
        linux_fuse_out_header(length: UInt32(clamping: length), error: error, unique: request.header.unique)))
    return length
  }

  private func perform(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    if options.isReadOnly, Self.isChange(request.opcode) { throw HostError(EROFS) }
    switch request.opcode {
    case LINUX_FUSE_LOOKUP: return try lookup(&request)
    case LINUX_FUSE_GETATTR: return try attributes(&request)
    case LINUX_FUSE_READ: return try read(&request)
    case LINUX_FUSE_OPEN: return try open(&request)
    case LINUX_FUSE_READDIR: return try readDirectory(&request, isPlus: false)
    case LINUX_FUSE_READDIRPLUS: return try readDirectory(&request, isPlus: true)
    case LINUX_FUSE_READLINK: return try readLink(&request)
    case LINUX_FUSE_WRITE: return try write(&request)
    case LINUX_FUSE_CREATE: return try create(&request)
    case LINUX_FUSE_TMPFILE: return try createTemporary(&request)
    case LINUX_FUSE_SETATTR: return try setAttributes(&request)
    case LINUX_FUSE_UNLINK: return try remove(&request, isDirectory: false)
    case LINUX_FUSE_RMDIR: return try remove(&request, isDirectory: true)
    case LINUX_FUSE_MKDIR: return try makeDirectory(&request)
    case LINUX_FUSE_MKNOD: return try makeNode(&request)
    case LINUX_FUSE_SYMLINK: return try makeSymbolicLink(&request)
    case LINUX_FUSE_LINK: return try link(&request)
    case LINUX_FUSE_RENAME: return try rename(&request, hasFlags: false)
    case LINUX_FUSE_RENAME2: return try rename(&request, hasFlags: true)
    case LINUX_FUSE_RELEASE: return try release(&request)
    case LINUX_FUSE_OPENDIR: return try openDirectory(&request)
    case LINUX_FUSE_RELEASEDIR, LINUX_FUSE_FLUSH: return .empty
    case LINUX_FUSE_STATFS: return try statistics(&request)
    case LINUX_FUSE_FSYNC, LINUX_FUSE_FSYNCDIR: return try sync(&request)
    case LINUX_FUSE_SYNCFS: return try syncAll()
    case LINUX_FUSE_FALLOCATE: return try allocate(&request)
    case LINUX_FUSE_LSEEK: return try seek(&request)
    case LINUX_FUSE_GETXATTR: return try extendedAttribute(&request)
    case LINUX_FUSE_LISTXATTR: return try extendedAttributeNames(&request)
    case LINUX_FUSE_IOCTL: return try control(&request)
    case LINUX_FUSE_SETXATTR: return try setExtendedAttribute(&request)
    case LINUX_FUSE_REMOVEXATTR: return try removeExtendedAttribute(&request)
    case LINUX_FUSE_INIT: return try initialize(&request)
    case LINUX_FUSE_DESTROY:
      table.forgetAll()
      return .empty
    case LINUX_FUSE_FORGET:
      // There is no answer, so there is no error either.
      if let body = try? request.take(linux_fuse_forget_in.self) { table.forget(request.header.node, body.lookups) }
      return .nothing
    case LINUX_FUSE_BATCH_FORGET: return forgetMany(&request)
    case LINUX_FUSE_INTERRUPT: return .nothing
    // ACCESS: the guest checks permissions on the attributes, and stops asking after this answer.
    default: throw HostError(ENOSYS)
    }
  }

  private static func isChange(_ opcode: linux_fuse_opcode) -> Bool {
    switch opcode {
    case LINUX_FUSE_WRITE, LINUX_FUSE_CREATE, LINUX_FUSE_SETATTR, LINUX_FUSE_UNLINK, LINUX_FUSE_RMDIR,
      LINUX_FUSE_MKDIR, LINUX_FUSE_MKNOD, LINUX_FUSE_SYMLINK, LINUX_FUSE_LINK, LINUX_FUSE_RENAME, LINUX_FUSE_RENAME2,
      LINUX_FUSE_TMPFILE, LINUX_FUSE_FALLOCATE, LINUX_FUSE_SETXATTR, LINUX_FUSE_REMOVEXATTR:
      return true
    default: return false
    }
  }

  // MARK: The session

  /// What the server can do; also the largest transfer: 128 KiB.
  private static let features =
    LINUX_FUSE_ASYNC_READ | LINUX_FUSE_BIG_WRITES | LINUX_FUSE_DONT_MASK | LINUX_FUSE_DO_READDIRPLUS
    | LINUX_FUSE_PARALLEL_DIROPS | LINUX_FUSE_MAX_PAGES
  static let largestTransfer = 128 << 10

  private func initialize(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let major = try request.take(UInt32.self)
    let minor = try request.take(UInt32.self)
    let readahead = try request.take(UInt32.self)
    let flags = try request.take(UInt32.self)
    guard major == UInt32(LINUX_FUSE_VERSION), minor >= 28 else { throw HostError(EPROTO) }
    table.forgetAll()
    var reply = linux_fuse_init_out()
    reply.major = UInt32(LINUX_FUSE_VERSION)
    reply.minor = UInt32(LINUX_FUSE_MINOR_VERSION)
    reply.maximum_readahead = min(readahead, UInt32(Self.largestTransfer))
    reply.flags = flags & UInt32(Self.features)
    reply.maximum_background = 64
    reply.congestion_threshold = 48
    reply.maximum_write = UInt32(Self.largestTransfer)
    reply.time_granularity = 1
    reply.maximum_pages = UInt16(Self.largestTransfer / 4096)
    return .value(reply)
  }

  private func forgetMany(_ request: inout FUSERequest) -> FUSEReply {
    guard let body = try? request.take(linux_fuse_batch_forget_in.self) else { return .nothing }
    for _ in 0..<body.count {
      guard let entry = try? request.take(linux_fuse_forget_one.self) else { break }
      table.forget(entry.node, entry.lookups)
    }
    return .nothing
  }
}
