// /proc/PID and /proc/PID/task/TID: the same entries, about the process or about one thread.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Synchronization
import VirtualMemory

/// The directory of a process or of a thread.
final class ProcessDirectory: ProcInode {
  private let reference: TaskReference

  init(_ superblock: Superblock, _ reference: TaskReference) {
    self.reference = reference
    super.init(superblock, reference.number, .directory, 0o555, reference)
  }

  /// The entries by place; an entry's inode number is the directory's plus its place and 1.
  enum Entry: Int, CaseIterable {
    case stat, status, statm, cmdline, comm, environ, maps, smaps, fd, fdinfo, exe, cwd, root, mounts, mountinfo
    case mountstats
    case limits, auxv, io, oom_score, oom_score_adj, wchan, cgroup, syscall, personality, loginuid, task, pagemap
    case smaps_rollup, mem, clear_refs, children, numa_maps, map_files
    case fail_nth

    var name: ByteString {
      switch self {
      case .stat: "stat"
      case .status: "status"
      case .statm: "statm"
      case .cmdline: "cmdline"
      case .comm: "comm"
      case .environ: "environ"
      case .maps: "maps"
      case .smaps: "smaps"
      case .fd: "fd"
      case .fdinfo: "fdinfo"
      case .exe: "exe"
      case .cwd: "cwd"
      case .root: "root"
      case .mounts: "mounts"
      case .mountinfo: "mountinfo"
      case .mountstats: "mountstats"
      case .limits: "limits"
      case .auxv: "auxv"
      case .io: "io"
      case .oom_score: "oom_score"
      case .oom_score_adj: "oom_score_adj"
      case .wchan: "wchan"
      case .cgroup: "cgroup"
      case .syscall: "syscall"
      case .personality: "personality"
      case .loginuid: "loginuid"
      case .task: "task"
      case .pagemap: "pagemap"
      case .smaps_rollup: "smaps_rollup"
      case .mem: "mem"
      case .clear_refs: "clear_refs"
      case .children: "children"
      case .numa_maps: "numa_maps"
      case .map_files: "map_files"
      case .fail_nth: "fail-nth"
      }
    }

    var kind: FileKind {
      switch self {
      case .fd, .fdinfo, .task, .map_files: .directory
      case .exe, .cwd, .root: .symbolicLink
      default: .regular
      }
    }
  }

  private func has(_ entry: Entry) -> Bool {
    switch entry {
    case .task, .map_files: reference.scope == .process
    case .children: reference.scope == .thread
    case .fail_nth: FaultInjection.isEnabled
    default: true
    }
  }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    _ = try reference.resolve()
    guard !reference.isHidden(on: superblock, from: .access) else { throw .EPERM }
    guard let entry = Entry.allCases.first(where: { $0.name == name }), has(entry) else { throw .ENOENT }
    return make(entry)
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard (try? reference.resolve()) != nil else { return }
    for entry in Entry.allCases where UInt64(entry.rawValue) + 3 > cookie && has(entry) {
      let reported = DirectoryEntry(
        name: entry.name, number: number(of: entry), kind: entry.kind, cookie: UInt64(entry.rawValue) + 3)
      guard emit(reported) else { return }
    }
  }

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    guard !reference.isHidden(on: superblock, from: .access) else { throw .EPERM }
    return try super.open(flags, path: path, by: caller)
  }

  private func number(of entry: Entry) -> UInt64 { number + UInt64(entry.rawValue) + 1 }

  private func make(_ entry: Entry) -> ProcInode {
    let reference = reference
    switch entry {
    case .stat:
      return text(entry) { () throws(Errno) in
        var snapshot = try TaskSnapshot(reference)
        if !reference.isAccessible() { snapshot.hideAddresses() }
        return ProcessFormat.stat(snapshot)
      }
    case .status: return text(entry) { () throws(Errno) in ProcessFormat.status(try TaskSnapshot(reference)) }
    case .statm: return text(entry) { () throws(Errno) in ProcessFormat.statm(try TaskSnapshot(reference)) }
    case .cmdline: return text(entry) { () throws(Errno) in try ProcessText.commandLine(reference) }
    case .comm:
      return text(entry, 0o644, sink: { name throws(Errno) in try ProcessText.setName(reference, name) }) {
        () throws(Errno) in SystemFormat.line(try TaskSnapshot(reference).name)
      }
    case .environ:
      return memory(entry, 0o400) { program, _ throws(Errno) in (try ProcessText.environment(program), nil) }
    case .auxv:
      return memory(entry, 0o400) { program, _ throws(Errno) in (try ProcessText.auxiliaryVector(program), nil) }
    case .maps:
      return memory(entry) { program, start throws(Errno) in try ProcessText.maps(program, .names, from: start) }
    case .smaps:
      return memory(entry) { program, start throws(Errno) in try ProcessText.maps(program, .residency, from: start) }
    case .smaps_rollup:
      return memory(entry) { program, _ throws(Errno) in (try ProcessText.rollUp(program), nil) }
    case .mounts: return text(entry) { () throws(Errno) in MountFormat.mounts(try ProcessText.mounts(reference)) }
    case .mountinfo:
      return text(entry) { () throws(Errno) in MountFormat.mountInformation(try ProcessText.mounts(reference)) }
    case .mountstats:
      return text(entry, 0o400) { () throws(Errno) in MountFormat.mountStatistics(try ProcessText.mounts(reference)) }
    case .limits: return text(entry) { () throws(Errno) in try ProcessText.limits(reference) }
    case .io:
      return text(entry, 0o400) { () throws(Errno) in
        try reference.requireAccess()
        return ProcessFormat.io(try ProcessText.transfers(reference))
      }
    case .oom_score: return text(entry) { () throws(Errno) in try ProcessText.outOfMemoryScore(reference) }
    case .oom_score_adj:
      return text(entry, 0o644, sink: { value throws(Errno) in try ProcessText.setAdjustment(reference, value) }) {
        () throws(Errno) in
        SystemFormat.number(try reference.resolve().process.outOfMemoryAdjustment.load(ordering: .relaxed))
      }
    case .fail_nth:
      return text(entry, 0o600, sink: { value throws(Errno) in try FaultInjection.set(reference, value) }) {
        () throws(Errno) in SystemFormat.number(AllocationFailure.remaining)
      }
    case .wchan: return constant(entry, "0")
    case .cgroup: return constant(entry, "0::/\n")
    case .loginuid: return constant(entry, "4294967295")
    case .syscall:
      return text(entry, 0o400) { () throws(Errno) in
        try reference.requireAccess(else: .EPERM)
        return try ProcessText.systemCall(reference)
      }
    case .personality:
      return text(entry, 0o400) { () throws(Errno) in
        try reference.requireAccess(else: .EPERM)
        var text = TextBuffer()
        text.append(hex: UInt64(try reference.resolve().process.personality), width: 8)
        text.append("\n")
        return text
      }
    case .exe:
      return link(entry) { () throws(Errno) in
        guard let file = try reference.task().sharedExecutable else { throw .ENOENT }
        return file.path
      }
    case .cwd: return link(entry) { () throws(Errno) in try reference.task().sharedFileSystemContext.workingDirectory }
    case .root: return link(entry) { () throws(Errno) in try reference.task().sharedFileSystemContext.root }
    case .fd: return DescriptorDirectory(superblock, number(of: entry), reference, .links)
    case .fdinfo: return DescriptorDirectory(superblock, number(of: entry), reference, .information)
    case .task: return ThreadsDirectory(superblock, number(of: entry), reference)
    case .pagemap: return ProcPageMap(superblock, number(of: entry), reference)
    case .mem: return ProcMemory(superblock, number(of: entry), reference)
    case .clear_refs:
      return text(entry, 0o200, sink: { value throws(Errno) in try ProcessText.clearReferences(reference, value) }) {
        () throws(Errno) in throw .EINVAL
      }
    case .children: return text(entry) { () throws(Errno) in try ProcessText.children(reference) }
    case .numa_maps:
      return memory(entry) { program, start throws(Errno) in try ProcessText.nodes(program, reference, from: start) }
    case .map_files: return MappedFilesDirectory(superblock, number(of: entry), reference)
    }
  }

  private func text(
    _ entry: Entry, _ permissions: UInt32 = 0o444, sink: TextSink? = nil, _ source: @escaping TextSource
  ) -> ProcInode {
    ProcText(
      superblock, number(of: entry), permissions: permissions, of: reference, sink: sink, source)
  }

  /// A file about the program's memory: open for those who may look into the process, and for as long as this program runs.
  private func memory(
    _ entry: Entry, _ permissions: UInt32 = 0o444,
    _ source: @escaping (ProgramReference, UInt64) throws(Errno) -> (text: TextBuffer, next: UInt64?)
  ) -> ProcInode {
    let reference = reference
    return ProcText(
      superblock, number(of: entry), permissions: permissions, of: reference,
      opening: { caller throws(Errno) in
        let program = try ProgramReference(reference, by: caller)
        return { start throws(Errno) in try source(program, start) }
      })
  }

  private func constant(_ entry: Entry, _ value: StaticString) -> ProcInode {
    let reference = reference
    return text(entry) { () throws(Errno) in
      _ = try reference.resolve()
      var text = TextBuffer()
      text.append(value)
      return text
    }
  }

  private func link(_ entry: Entry, _ place: @escaping () throws(Errno) -> Path) -> ProcInode {
    ProcLink(superblock, number(of: entry), of: reference, place: place) { () throws(Errno) in
      PlaceName.of(try place())
    }
  }
}

/// /proc/PID/task.
final class ThreadsDirectory: ProcInode {
  private let reference: TaskReference

  init(_ superblock: Superblock, _ number: UInt64, _ reference: TaskReference) {
    self.reference = reference
    super.init(superblock, number, .directory, 0o555, reference)
  }

  /// The threads, and a leader that has ended before them.
  private static func identifiers(of process: Process) -> [Int32] {
    var identifiers = process.tasks.map { $0.tid }
    if process.hasLeaderEnded, !identifiers.contains(process.pid) { identifiers.append(process.pid) }
    return identifiers.sorted()
  }

  override var linkCount: UInt64 {
    2 + ((try? reference.resolve().process).map { UInt64(Self.identifiers(of: $0).count) } ?? 0)
  }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    let process = try reference.resolve().process
    guard let identifier = ProcName.identifier(name), let task = ProcessTable.task(identifier),
      task.process === process
    else { throw .ENOENT }
    return ProcessDirectory(superblock, try TaskReference(identifier, as: .thread))
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard let process = try? reference.resolve().process else { return }
    for identifier in Self.identifiers(of: process) where UInt64(identifier) + 2 > cookie {
      let entry = DirectoryEntry(
        name: ProcName.of(identifier), number: TaskReference.number(identifier, .thread), kind: .directory,
        cookie: UInt64(identifier) + 2)
      guard emit(entry) else { return }
    }
  }
}

/// The name of a place as links of /proc show it.
enum PlaceName {
  static func of(_ path: Path) -> ByteString {
    let root = Task.running?.fileSystemContext.root ?? path
    var name = PathWalk.describe(path, from: root).text
    if path.dentry.isDeleted { name.append(" (deleted)") }
    return name
  }
}
