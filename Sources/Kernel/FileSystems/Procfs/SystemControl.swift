// /proc/sys: parameters of the kernel (proc(5)). Those that can be changed take a number or a name; the others say how
// things are.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Sockets
import Synchronization
import VirtualMemory

/// The entries of /proc/sys.
enum SystemControl {
  static var entries: [ProcEntry] {
    [
      .directory("kernel", kernel), .directory("vm", memory), .directory("fs", files),
      .directory("net", network),
    ]
  }

  private static var kernel: [ProcEntry] {
    [
      .text("ostype") { () throws(Errno) in SystemFormat.line(ByteString(KERNEL_NAME)) },
      .text("osrelease") { () throws(Errno) in SystemFormat.line(ByteString(KERNEL_RELEASE)) },
      .text("version") { () throws(Errno) in SystemFormat.line(ByteString(KERNEL_VERSION)) },
      .text("hostname", 0o644, sink: { name throws(Errno) in HostIdentity.setName(try checked(name)) }) {
        () throws(Errno) in SystemFormat.line(HostIdentity.name)
      },
      .text("domainname", 0o644, sink: { name throws(Errno) in HostIdentity.setDomain(try checked(name)) }) {
        () throws(Errno) in SystemFormat.line(HostIdentity.domain)
      },
      number("pid_max", 32768), number("threads-max", ProcessTable.taskLimit), number("ngroups_max", 65536),
      number("cap_last_cap", Capability.allCases.count - 1), number("overflowuid", 65534),
      number("overflowgid", 65534), number("tainted", 0),
      parameter("randomize_va_space", 0...2, MappingLayout.randomization) { MappingLayout.randomization = $0 },
      number("panic", 0), number("sched_child_runs_first", 0), number("rtsig-max", 32),
      .text("core_pattern") { () throws(Errno) in SystemFormat.line("core") },
      .text("printk") { () throws(Errno) in SystemFormat.line("4\t4\t1\t7") },
      .directory(
        "random",
        [
          .text("boot_id") { () throws(Errno) in bootIdentifier },
          .text("uuid") { () throws(Errno) in SystemFormat.uuid(Random.next(), Random.next()) },
          number("entropy_avail", 256), number("poolsize", 256),
        ]),
      .directory("pty", [number("max", 4096)]),
    ]
  }

  private static let bootIdentifier = SystemFormat.uuid(Random.next(), Random.next())

  private static var memory: [ProcEntry] {
    [
      .text(
        "overcommit_memory", 0o644,
        sink: { value throws(Errno) in
          guard let number = value.decimal(), let raw = Int(exactly: number),
            let mode = CommitAccounting.Mode(rawValue: raw)
          else { throw .EINVAL }
          try requireAdministrator()
          CommitAccounting.mode = mode
        }
      ) { () throws(Errno) in SystemFormat.number(CommitAccounting.mode.rawValue) },
      parameter("overcommit_ratio", 0...Int(Int32.max), CommitAccounting.ratio) { CommitAccounting.ratio = $0 },
      parameter("overcommit_kbytes", 0...Int.max, CommitAccounting.kibibytes) { CommitAccounting.kibibytes = $0 },
      parameter("admin_reserve_kbytes", 0...Int.max, CommitAccounting.administratorReserve) {
        CommitAccounting.administratorReserve = $0
      },
      parameter("user_reserve_kbytes", 0...Int.max, CommitAccounting.userReserve) { CommitAccounting.userReserve = $0 },
      parameter("legacy_va_layout", 0...Int(Int32.max), MappingLayout.isLegacyByDefault ? 1 : 0) {
        MappingLayout.isLegacyByDefault = $0 != 0
      },
      // What was reached is what a read says then.
      parameter("nr_hugepages", 0...Int.max, HugePagePool.persistent) {
        Compaction.resizeHugePagePool(to: $0)
      },
      parameter("nr_overcommit_hugepages", 0...Int.max, HugePagePool.surplusLimit) { HugePagePool.surplusLimit = $0 },
      number("hugetlb_shm_group", 0),
      .text(
        "compact_memory", 0o200,
        sink: { _ throws(Errno) in
          try requireAdministrator()
          Compaction.compactAll()
        }
      ) { () throws(Errno) in TextBuffer() },
      number("max_map_count", 65530), number("mmap_min_addr", Int(AddressSpace.minimumAddress)),
      parameter("swappiness", 0...200, Reclaim.swappiness.load(ordering: .relaxed)) {
        Reclaim.swappiness.store($0, ordering: .relaxed)
      },
    ] + writeBack + caches
  }

  private static var files: [ProcEntry] {
    [
      number("file-max", Int.max), number("nr_open", 1 << 20), number("pipe-max-size", 1 << 20),
      number("suid_dumpable", 0),
      .directory(
        "inotify",
        [number("max_user_instances", 128), number("max_user_watches", 65536), number("max_queued_events", 16384)]),
      .directory("epoll", [number("max_user_watches", 1 << 20)]),
    ] + protection
  }

  private static var network: [ProcEntry] {
    func entry(_ setting: NetworkSetting) -> ProcEntry {
      parameter(ByteString(setting.name), setting.range, setting.value) { setting.value = $0 }
    }
    let namespace = NetworkNamespace.initial
    return [
      .directory(
        "core",
        [
          entry(namespace.longestBacklog), entry(SocketLimits.defaultReceiveBuffer),
          entry(SocketLimits.largestReceiveBuffer), entry(SocketLimits.defaultSendBuffer),
          entry(SocketLimits.largestSendBuffer), entry(SocketLimits.largestControl),
        ]),
      .directory("unix", [entry(namespace.longestDatagramQueue)]),
    ]
  }

  private static var protection: [ProcEntry] {
    [
      parameter("protected_symlinks", 0...1, FileProtection.symbolicLinks.load(ordering: .relaxed), permissions: 0o600)
      {
        FileProtection.symbolicLinks.store($0, ordering: .relaxed)
      },
      parameter("protected_hardlinks", 0...1, FileProtection.hardLinks.load(ordering: .relaxed), permissions: 0o600) {
        FileProtection.hardLinks.store($0, ordering: .relaxed)
      },
      parameter("protected_fifos", 0...2, FileProtection.fifos.load(ordering: .relaxed), permissions: 0o600) {
        FileProtection.fifos.store($0, ordering: .relaxed)
      },
      parameter("protected_regular", 0...2, FileProtection.regularFiles.load(ordering: .relaxed), permissions: 0o600) {
        FileProtection.regularFiles.store($0, ordering: .relaxed)
      },
    ]
  }

  /// A number that administrators may change within `range`.
  static func parameter(
    _ name: ByteString, _ range: ClosedRange<Int>, _ value: @escaping @autoclosure () -> Int,
    permissions: UInt32 = 0o644, set: @escaping (Int) -> Void
  ) -> ProcEntry {
    .text(
      name, permissions,
      sink: { text throws(Errno) in
        guard let number = text.decimal(), let value = Int(exactly: number), range.contains(value) else {
          throw .EINVAL
        }
        try requireAdministrator()
        set(value)
      }
    ) { () throws(Errno) in SystemFormat.number(value()) }
  }

  private static func number(_ name: ByteString, _ value: Int) -> ProcEntry {
    .text(name) { () throws(Errno) in SystemFormat.number(value) }
  }

  /// A write to /proc/sysrq-trigger (proc(5)). Of Linux's commands there is one: `c`, which makes the kernel fail in the
  /// writer's context, so that the report and the end of the process can be seen.
  static func request(_ command: ByteString) throws(Errno) {
    try requireAdministrator()
    if FaultInjection.isEnabled { endKernel(command) }
    guard command == ByteString("c") else { throw .EINVAL }
    preconditionFailure("a crash was asked for")
  }

  /// The ends of the whole kernel that tests ask for, with the option `fault-injection`: a panic, one from within the log
  /// and from within the heap, where nothing can be allocated, and one on all CPUs at once.
  private static func endKernel(_ command: ByteString) {
    if command == ByteString("panic") { panic("a panic was asked for") }
    if command == ByteString("panic-log") { Log.panicWithinLock() }
    if command == ByteString("panic-heap") { KernelHeap.panicWithinLock() }
  }

  private static func checked(_ name: ByteString) throws(Errno) -> ByteString {
    guard name.count <= 64 else { throw .EINVAL }
    try requireAdministrator()
    return name
  }

  /// The permission bits let root write; a root without its capabilities is not root.
  static func requireAdministrator() throws(Errno) {
    if let task = Task.running, !task.credentials.has(.systemAdministration) { throw .EPERM }
  }
}
