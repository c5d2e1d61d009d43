// tmpfs: files in memory, bounded in size (tmpfs(5)).

import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization
import VirtualMemory

/// The type "tmpfs".
public enum Tmpfs {
  /// Announces the type to mount(2). "ramfs" is the same without a limit.
  @export(interface)
  public static func register() {
    FileSystemTypes.register("tmpfs") { (source, options, flags) throws(Errno) -> Superblock in
      try TmpfsSuperblock(source: source, options: try TmpfsOptions(options))
    }
    Hugetlbfs.register()
    FileSystemTypes.register("ramfs") { (source, options, flags) throws(Errno) -> Superblock in
      var parsed = try TmpfsOptions(options)
      (parsed.pageLimit, parsed.inodeLimit) = (.max, .max)
      parsed.isSwappable = false
      return try TmpfsSuperblock(typeName: "ramfs", source: source, options: parsed)
    }
  }
}

/// Mount options of a tmpfs.
public struct TmpfsOptions: Sendable {
  /// Pages of content; half of the memory by default.
  public var pageLimit: Int
  public var inodeLimit: Int
  public var rootPermissions: UInt32 = 0o1777
  public var rootOwner = Owner.root
  /// Whether content may go to swap areas.
  public var isSwappable = true

  @export(interface)
  public init() {
    pageLimit = MemoryLimits.halfOfMemory
    inodeLimit = MemoryLimits.halfOfMemory
  }

  /// Parses "size=10m,mode=755,uid=0,gid=0,nr_inodes=1k,nr_blocks=…".
  /// - Throws: EINVAL for what is unknown or malformed.
  @export(interface)
  public init(_ text: ByteString) throws(Errno) {
    self.init()
    for option in text.split(separator: 0x2c) where !option.isEmpty {
      let (key, value) = Self.keyAndValue(option)
      switch key {
      case "size":
        pageLimit = Self.clamp(try Self.size(value, total: UInt64(MemoryLimits.memory) * 4096) / 4096)
      case "nr_blocks": pageLimit = Self.clamp(try Self.size(value, total: 0))
      case "nr_inodes": inodeLimit = Self.clamp(try Self.size(value, total: 0))
      case "noswap": isSwappable = false
      case "huge", "mpol", "inode64", "inode32": break
      default: guard try takeRootOption(key, value) else { throw .EINVAL }
      }
    }
  }

  static func keyAndValue(_ option: ByteString) -> (key: ByteString, value: ByteString) {
    let parts = option.bytes.split(separator: 0x3d, maxSplits: 1, omittingEmptySubsequences: false)
    return (ByteString(parts[0]), parts.count == 2 ? ByteString(parts[1]) : ByteString())
  }

  /// An option about the root directory; whether it was one.
  mutating func takeRootOption(_ key: ByteString, _ value: ByteString) throws(Errno) -> Bool {
    switch key {
    case "mode": rootPermissions = try Self.octal(value) & 0o7777
    case "uid": rootOwner.user = try Self.identifier(value)
    case "gid": rootOwner.group = try Self.identifier(value)
    default: return false
    }
    return true
  }

  /// A limit of 0 is none.
  private static func clamp(_ value: UInt64) -> Int { value == 0 ? .max : Int(clamping: value) }

  private static func identifier(_ text: ByteString) throws(Errno) -> UInt32 {
    guard let number = text.decimal(), let id = UInt32(exactly: number) else { throw .EINVAL }
    return id
  }

  private static func octal(_ text: ByteString) throws(Errno) -> UInt32 {
    guard !text.isEmpty, text.count <= 6 else { throw .EINVAL }
    var value: UInt32 = 0
    for byte in text.bytes {
      guard byte >= 0x30, byte <= 0x37 else { throw .EINVAL }
      value = value * 8 + UInt32(byte - 0x30)
    }
    return value
  }

  /// A number with a suffix k, m, g, t or %, the last of `total`.
  static func size(_ text: ByteString, total: UInt64) throws(Errno) -> UInt64 {
    var digits = text
    var shift: UInt64 = 0
    var isPercentage = false
    switch text.bytes.last {
    case 0x6b, 0x4b: shift = 10
    case 0x6d, 0x4d: shift = 20
    case 0x67, 0x47: shift = 30
    case 0x74, 0x54: shift = 40
    case 0x25: isPercentage = true
    default: break
    }
    if shift != 0 || isPercentage { digits.bytes.removeLast() }
    guard let number = digits.decimal() else { throw .EINVAL }
    if isPercentage {
      guard number <= 100 else { throw .EINVAL }
      return total / 100 * number
    }
    let (value, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    guard !overflow else { throw .EINVAL }
    return value
  }
}

/// A mounted tmpfs.
public final class TmpfsSuperblock: Superblock {
  let options: TmpfsOptions
  /// A hugetlbfs's share of the pool of huge pages.
  let hugePages: HugePageBudget?
  /// What content, names and attributes may take.
  let quota: PageQuota
  private let inodes = Atomic<Int>(0)
  private let nextNumber = Atomic<UInt64>(1)

  @export(interface)
  public init(
    typeName: ByteString = "tmpfs", source: ByteString = "tmpfs", options: TmpfsOptions,
    hugePages: HugePageBudget? = nil
  )
    throws(Errno)
  {
    self.options = options
    self.hugePages = hugePages
    quota = PageQuota(limit: options.pageLimit)
    super.init(typeName: typeName, source: source)
    setRoot(
      try TmpfsInode.make(on: self, .directory, permissions: options.rootPermissions, owner: options.rootOwner))
  }

  public override func statistics() throws(Errno) -> FileSystemStatistics {
    var statistics = hugePages.map { Hugetlbfs.statistics($0) } ?? FileSystemStatistics(magic: TMPFS_MAGIC)
    if options.pageLimit != .max {
      // What others take of the quota of all is not used here: it is not there.
      let (used, free) = (quota.usedPages, quota.freePages)
      statistics.blocks = UInt64(min(options.pageLimit, used + free))
      statistics.freeBlocks = UInt64(free)
      statistics.availableBlocks = statistics.freeBlocks
    }
    if options.inodeLimit != .max {
      statistics.files = UInt64(options.inodeLimit)
      statistics.freeFiles = UInt64(max(0, options.inodeLimit - inodes.load(ordering: .relaxed)))
    }
    return statistics
  }

  public override var shownOptions: ByteString {
    var text = TextBuffer()
    if options.pageLimit != .max {
      text.append(",size=")
      text.append(decimal: UInt64(options.pageLimit) * 4)
      text.append("k")
    }
    if options.rootPermissions != (hugePages == nil ? 0o1777 : 0o755) {
      text.append(",mode=")
      text.append(octal: UInt64(options.rootPermissions))
    }
    if !options.isSwappable, typeName == "tmpfs" { text.append(",noswap") }
    if let hugePages { Hugetlbfs.append(hugePages, to: &text) }
    return text.byteString
  }

  // MARK: Accounting

  /// Counts a new inode, or a further name of one, which costs about as much: a name in memory stays until it is removed.
  /// - Throws: ENOSPC at the limit.
  func takeNumber() throws(Errno) -> UInt64 {
    guard inodes.add(1, ordering: .relaxed).oldValue < options.inodeLimit else {
      inodes.subtract(1, ordering: .relaxed)
      throw .ENOSPC
    }
    return nextNumber.add(1, ordering: .relaxed).oldValue
  }

  func didFreeInode() { inodes.subtract(1, ordering: .relaxed) }
}
