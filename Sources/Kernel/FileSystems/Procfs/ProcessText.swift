// The contents of files of /proc/PID that need more than the snapshot: memory of the process, its mounts, its limits.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import Synchronization
import VirtualMemory

enum ProcessText {
  /// The address space, nil for zombies and process 1, whose memory files are empty.
  static func space(_ reference: TaskReference) throws(Errno) -> AddressSpace? {
    try reference.resolve().task?.sharedAddressSpace
  }

  private static func text(_ bytes: [UInt8]) -> TextBuffer {
    var text = TextBuffer(reserving: bytes.count)
    text.append(bytes: bytes)
    return text
  }

  /// The most of arguments or environment that is shown: what execve(2) permits at all.
  private static let longest: UInt64 = 6 << 20

  static func commandLine(_ reference: TaskReference) throws(Errno) -> TextBuffer {
    guard let space = try space(reference) else { return TextBuffer() }
    let layout = space.layout
    guard layout.argumentEnd > layout.argumentStart else { return TextBuffer() }
    let count = min(layout.argumentEnd - layout.argumentStart, longest)
    var bytes = try UserMemory.copyIn(from: layout.argumentStart, count: Int(count), in: space)
    // A program that wrote a longer title over its arguments (setproctitle) continues into the environment.
    if bytes.last != 0, layout.environmentStart == layout.argumentEnd, layout.environmentEnd > layout.environmentStart {
      let more = min(layout.environmentEnd - layout.environmentStart, longest)
      bytes += try UserMemory.copyIn(from: layout.environmentStart, count: Int(more), in: space)
      if let end = bytes.firstIndex(of: 0) { bytes.removeSubrange(end...) }
    }
    return text(bytes)
  }

  static func environment(_ program: ProgramReference) throws(Errno) -> TextBuffer {
    guard let space = try program.space() else { return TextBuffer() }
    let layout = space.layout
    guard layout.environmentEnd > layout.environmentStart else { return TextBuffer() }
    let count = min(layout.environmentEnd - layout.environmentStart, longest)
    return text(try UserMemory.copyIn(from: layout.environmentStart, count: Int(count), in: space))
  }

  static func auxiliaryVector(_ program: ProgramReference) throws(Errno) -> TextBuffer {
    guard let space = try program.space() else { return TextBuffer() }
    var bytes: [UInt8] = []
    for word in space.layout.auxiliaryVector {
      for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    return text(bytes)
  }

  /// Areas in a piece of maps and smaps: a program may have so many that the whole text does not fit into memory.
  private static let areasInPiece = 32, detailedAreasInPiece = 8

  /// The areas from address `start` on; and where the next piece begins.
  static func maps(
    _ program: ProgramReference, _ detail: AddressSpace.SnapshotDetail, from start: UInt64
  ) throws(Errno) -> (text: TextBuffer, next: UInt64?) {
    guard let space = try program.space() else { return (TextBuffer(), nil) }
    var text = TextBuffer(reserving: 4096)
    let limit = detail == .residency ? detailedAreasInPiece : areasInPiece
    let areas = space.areas(detail, from: start, limit: limit)
    for area in areas {
      let device = DeviceNumber(encoded: area.source?.mappingDevice ?? 0)
      var line = MapLine(
        start: area.start, end: area.end, isReadable: area.protection.contains(.read),
        isWritable: area.protection.contains(.write), isExecutable: area.protection.contains(.execute),
        isShared: area.flags.contains(.shared), offset: area.offset)
      line.major = UInt64(device.major)
      line.minor = UInt64(device.minor)
      line.inode = area.source?.mappingInode ?? 0
      line.isLocked = area.flags.contains(.locked)
      line.isHuge = area.flags.contains(.hugeTLB)
      line.residency = area.residency
      if let source = area.source {
        line.name = source.mappingName
      } else if area.flags.contains(.heap) {
        line.name = "[heap]"
      } else if area.flags.contains(.stack) {
        line.name = "[stack]"
      } else if area.isSharedAnonymous {
        line.name = "/dev/zero (deleted)"
      }
      MemoryMapFormat.append(line, to: &text)
      if detail == .residency { MemoryMapFormat.appendDetails(line, to: &text) }
    }
    return (text, areas.count < limit ? nil : areas.last?.end)
  }

  /// The sums of smaps over all areas.
  static func rollUp(_ program: ProgramReference) throws(Errno) -> TextBuffer {
    guard let space = try program.space() else { return TextBuffer() }
    var sum = Residency()
    var range: Range<UInt64> = 0..<0
    while true {
      let areas = space.areas(.residency, from: range.upperBound, limit: detailedAreasInPiece)
      for area in areas {
        range = (range.isEmpty ? area.start : range.lowerBound)..<area.end
        sum += area.residency
      }
      if areas.count < detailedAreasInPiece { break }
      if Thread.current.hasFatalSignal { throw .EINTR }
    }
    return MemoryMapFormat.rollUp(range, sum)
  }

  /// numa_maps, as `maps`.
  static func nodes(
    _ program: ProgramReference, _ reference: TaskReference, from start: UInt64
  ) throws(Errno) -> (text: TextBuffer, next: UInt64?) {
    guard let space = try program.space() else { return (TextBuffer(), nil) }
    let usual = try reference.task().memoryPolicy
    var text = TextBuffer(reserving: 2048)
    let areas = space.areas(.residency, from: start, limit: detailedAreasInPiece)
    for area in areas { NodeFormat.append(area, area.policy ?? usual, nodes: MemoryZone.nodeCount, to: &text) }
    return (text, areas.count < detailedAreasInPiece ? nil : areas.last?.end)
  }

  /// A write to clear_refs (proc(5)).
  static func clearReferences(_ reference: TaskReference, _ value: ByteString) throws(Errno) {
    // 4 is for soft-dirty bits, which pagemap does not have.
    guard let what = value.decimal(), [1, 2, 3, 5].contains(what) else { throw .EINVAL }
    try reference.requireAccess()
    guard let space = try space(reference) else { return }
    switch what {
    case 1: space.forgetUse(of: .all)
    case 2: space.forgetUse(of: .anonymous)
    case 3: space.forgetUse(of: .ofObjects)
    default: space.forgetPeak()
    }
  }

  /// The process's children. Which of its threads made them is not known: they are all the leader's.
  static func children(_ reference: TaskReference) throws(Errno) -> TextBuffer {
    let process = try reference.resolve().process
    var text = TextBuffer()
    guard reference.identifier == process.pid else { return text }
    for child in ProcessTable.children(of: process) {
      text.append(signed: Int64(child))
      text.append(" ")
    }
    return text
  }

  static func limits(_ reference: TaskReference) throws(Errno) -> TextBuffer {
    let limits = try reference.resolve().process.limits
    return ProcessFormat.limits(
      Resource.allCases.map { resource in
        let limit = limits[resource]
        return ProcessFormat.LimitRow(
          name: resource.name, soft: limit.soft == ResourceLimit.infinity ? nil : limit.soft,
          hard: limit.hard == ResourceLimit.infinity ? nil : limit.hard, unit: resource.unit)
      })
  }

  /// /proc/PID/comm can be written by the threads of the process itself.
  static func setName(_ reference: TaskReference, _ name: ByteString) throws(Errno) {
    let (process, task) = try reference.resolve()
    guard let task, Task.running?.process === process else { throw .EINVAL }
    task.commandName = name
  }

  // MARK: Out of memory

  /// 0…2000 as on Linux: the share of memory in thousandths plus the adjustment, shifted so that 0 is never chosen.
  static func outOfMemoryScore(_ reference: TaskReference) throws(Errno) -> TextBuffer {
    SystemFormat.number(OutOfMemoryKiller.score(of: try reference.resolve().process))
  }

  static func setAdjustment(_ reference: TaskReference, _ value: ByteString) throws(Errno) {
    let isNegative = value.bytes.first == 0x2d
    let digits = isNegative ? ByteString(value.bytes.dropFirst()) : value
    guard let magnitude = digits.decimal(), magnitude <= 1000 else { throw .EINVAL }
    let new = isNegative ? -Int(magnitude) : Int(magnitude)
    let process = try reference.resolve().process
    // Claiming less of a right to be killed takes CAP_SYS_RESOURCE.
    if new < process.outOfMemoryAdjustment.load(ordering: .relaxed), let task = Task.running,
      !task.credentials.has(.resources)
    {
      throw .EACCES
    }
    process.outOfMemoryAdjustment.store(new, ordering: .relaxed)
  }

  /// What a thread, or a process with the children that it has waited for, has read and written.
  static func transfers(_ reference: TaskReference) throws(Errno) -> TransferCounts {
    let (process, task) = try reference.resolve()
    if reference.scope == .thread { return task?.transfers ?? TransferCounts() }
    var counts = process.usage.transfers
    counts.add(process.usageOfChildren.transfers)
    return counts
  }

  // MARK: Mounts

  /// The mounts that the process can reach from its root.
  static func mounts(_ reference: TaskReference) throws(Errno) -> [MountLine] {
    guard let task = try reference.resolve().task else { return [] }
    let context = task.sharedFileSystemContext
    let root = context.root
    var lines: [MountLine] = []
    for mount in context.namespace.mounts() {
      let place = PathWalk.describe(Path(mount: mount, dentry: mount.root), from: root)
      guard place.isReachable else { continue }
      let superblock = mount.superblock
      lines.append(
        MountLine(
          identifier: mount.identifier,
          parent: MountNamespace.place(of: mount)?.mount.identifier ?? mount.identifier,
          major: superblock.device.major, minor: superblock.device.minor, root: rootName(mount),
          mountPoint: place.text, options: options(mount.flags, isReadOnly: mount.isReadOnly),
          type: superblock.typeName, source: superblock.source,
          superOptions: (superblock.isReadOnly ? "ro" : "rw") + superblock.shownOptions,
          statistics: superblock.shownStatistics))
    }
    return lines
  }

  /// The path, within its file system, of the directory that is mounted: "/" unless it is a bind mount.
  private static func rootName(_ mount: Mount) -> ByteString {
    var parts: [ByteString] = []
    var dentry = mount.root
    while true {
      let place = DentryCache.place(of: dentry)
      guard let parent = place.parent else { break }
      parts.append(place.name)
      dentry = parent
    }
    guard !parts.isEmpty else { return "/" }
    var text = TextBuffer()
    for part in parts.reversed() {
      text.append("/")
      text.append(part)
    }
    return text.byteString
  }

  private static func options(_ flags: MountFlags, isReadOnly: Bool) -> ByteString {
    var text = TextBuffer()
    text.append(isReadOnly ? "ro" : "rw")
    let names: [(MountFlags, StaticString)] = [
      (.noSetID, ",nosuid"), (.noDevices, ",nodev"), (.noExecute, ",noexec"), (.noAccessTime, ",noatime"),
      (.noDirectoryAccessTime, ",nodiratime"), (.relativeAccessTime, ",relatime"), (.noSymbolicLinks, ",nosymfollow"),
    ]
    for (flag, name) in names where flags.contains(flag) { text.append(name) }
    return text.byteString
  }
}
