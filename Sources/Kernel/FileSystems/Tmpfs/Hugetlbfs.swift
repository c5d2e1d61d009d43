// hugetlbfs: a tmpfs whose files are made of huge pages from the pool. Directories, links and attributes are tmpfs's own;
// what differs is the regular file, the limits, and what statfs(2) says.

import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import VirtualMemory

/// The type "hugetlbfs".
enum Hugetlbfs {
  static var pageSize: UInt64 { UInt64(HugePagePool.framesPerPage * PhysicalMemory.pageSize) }

  static func register() {
    FileSystemTypes.register("hugetlbfs") { (source, options, flags) throws(Errno) -> Superblock in
      try mount(source, options)
    }
  }

  /// Options: size=, min_size= (bytes, or per cent of the pool), nr_inodes=, mode=, uid=, gid=, pagesize=2M.
  private static func mount(_ source: ByteString, _ text: ByteString) throws(Errno) -> TmpfsSuperblock {
    var options = TmpfsOptions()
    (options.pageLimit, options.inodeLimit, options.rootPermissions) = (.max, .max, 0o755)
    var (maximum, minimum) = (Int.max, 0)
    for option in text.split(separator: 0x2c) where !option.isEmpty {
      let (key, value) = TmpfsOptions.keyAndValue(option)
      switch key {
      case "size": maximum = try pages(value)
      case "min_size": minimum = try pages(value)
      case "nr_inodes": options.inodeLimit = Int(clamping: try TmpfsOptions.size(value, total: 0))
      case "pagesize": guard try TmpfsOptions.size(value, total: 0) == pageSize else { throw .EINVAL }
      default: guard try options.takeRootOption(key, value) else { throw .EINVAL }
      }
    }
    guard minimum <= maximum else { throw .EINVAL }
    return try TmpfsSuperblock(
      typeName: "hugetlbfs", source: source, options: options,
      hugePages: try HugePageBudget(maximum: maximum, minimum: minimum))
  }

  private static func pages(_ text: ByteString) throws(Errno) -> Int {
    let pool = UInt64(HugePagePool.statistics.total) * pageSize
    return Int(clamping: try TmpfsOptions.size(text, total: pool) / pageSize)
  }

  static func statistics(_ budget: HugePageBudget) -> FileSystemStatistics {
    var statistics = FileSystemStatistics(magic: HUGETLBFS_MAGIC)
    statistics.blockSize = pageSize
    if budget.maximum != .max {
      statistics.blocks = UInt64(budget.maximum)
      statistics.freeBlocks = UInt64(budget.free)
      statistics.availableBlocks = statistics.freeBlocks
    }
    return statistics
  }

  static func append(_ budget: HugePageBudget, to text: inout TextBuffer) {
    text.append(",pagesize=2M")
    if budget.maximum != .max {
      text.append(",size=")
      text.append(decimal: UInt64(budget.maximum) * pageSize)
    }
    if budget.minimum != 0 {
      text.append(",min_size=")
      text.append(decimal: UInt64(budget.minimum) * pageSize)
    }
  }
}

/// A regular file of a hugetlbfs. It is read and mapped; write(2) is refused, and its size is a multiple of a huge page.
final class HugetlbFile: TmpfsInode {
  private let content: MemoryObject
  private var sealing: FileSeals?

  init(_ state: State, on superblock: TmpfsSuperblock, _ budget: HugePageBudget) {
    content = MemoryObject(store: nil, size: 0, huge: HugePageSupply(budget: budget))
    super.init(state, on: superblock)
  }

  override func attributes() throws(Errno) -> Attributes {
    var attributes = state.withLock { $0.attributes }
    attributes.size = content.size
    attributes.blocks = UInt64(content.residentPages) * 8
    attributes.blockSize = Hugetlbfs.pageSize
    return attributes
  }

  override func size() throws(Errno) -> UInt64 { content.size }
  override var memoryObject: MemoryObject? { content }

  override func setAttributes(_ change: AttributeChange) throws(Errno) {
    if let size = change.size {
      guard size % Hugetlbfs.pageSize == 0 else { throw .EINVAL }
      try sealing?.checkResize(from: content.size, to: size)
      content.truncate(to: size)
    }
    state.withLock { change.apply(to: &$0.attributes) }
  }

  override func write(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int { throw .EINVAL }

  override func allocate(_ mode: AllocationMode, offset: UInt64, length: UInt64) throws(Errno) {
    let end = offset + length
    switch mode {
    case .allocate, .allocateKeepingSize: try makePages(from: offset, to: end, mode)
    case .punchHole:
      try sealing?.checkWrite(end: min(end, content.size), size: content.size)
      content.punchHugeHole(from: offset, length: length)
    case .zero, .zeroKeepingSize: throw .EOPNOTSUPP
    }
    state.withLock { $0.attributes.changeTime = .now() }
  }

  /// Pages beyond the end cannot be kept: with the size as it is only those before it are made.
  private func makePages(from offset: UInt64, to end: UInt64, _ mode: AllocationMode) throws(Errno) {
    let old = content.size
    if mode == .allocate, end > old {
      try sealing?.checkResize(from: old, to: end)
      content.truncate(to: end)
    }
    var position = offset - offset % Hugetlbfs.pageSize
    while position < min(end, content.size) {
      do throws(Errno) {
        _ = try content.hugePage(position / UInt64(PhysicalMemory.pageSize))
      } catch {
        // What was made before stays, as on Linux; the size does not.
        if content.size > old { content.size = old }
        throw error == .ENOMEM ? .ENOSPC : error
      }
      position += Hugetlbfs.pageSize
    }
  }

  override var seals: FileSeals? { sealing }

  override func enableSeals(_ initial: UInt32) throws(Errno) {
    guard sealing == nil else { throw .EINVAL }
    sealing = FileSeals(initial)
  }
}
