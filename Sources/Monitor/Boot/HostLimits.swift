// The host's limits of a process (setrlimit(2)), when a machine cannot be started because of one: which it is, how much it
// permits, what would be needed, and how to raise it.

import CUserMachine
import Glibc

/// A limit of the host.
struct HostLimit: Equatable {
  enum Kind { case addressSpace, data, fileSize, openFiles, processes }
  var kind: Kind
  /// nil: none.
  var permitted: UInt64?
  var needed: UInt64

  /// Whether it is the reason for an error.
  func explains(_ error: Int32) -> Bool {
    guard let permitted else { return false }
    return switch kind {
    case .addressSpace, .data: error == ENOMEM && permitted < needed
    case .fileSize: error == EFBIG && permitted < needed
    case .openFiles: error == EMFILE
    // Other processes of the user count, too.
    case .processes: error == EAGAIN
    }
  }

  /// Whether the machine cannot be started at all.
  var isCertain: Bool {
    switch kind {
    case .addressSpace, .data, .openFiles: permitted.map { $0 < needed } ?? false
    // The limit is raised for the machine's own files; other processes count, too.
    case .fileSize, .processes: false
    }
  }

  /// The sentence behind the error's own.
  func sentence(memory: String) -> String {
    let permitted = permitted ?? .max
    return switch kind {
    case .addressSpace:
      "the limit of address space (ulimit -v) is \(Self.size(permitted)); a sandbox with \(memory) reserves "
        + "\(Self.size(needed)), most of it without using it. Start apus with `ulimit -v unlimited`, or give the sandbox less"
    case .data:
      "the limit of private memory (ulimit -d) is \(Self.size(permitted)); a sandbox with \(memory) reserves "
        + "\(Self.size(needed)), most of it without using it. Start apus with `ulimit -d unlimited`, or give the sandbox less"
    case .fileSize:
      "the limit of the size of files (ulimit -f) is \(Self.size(permitted)), also for files in memory, of which a sandbox with "
        + "\(memory) needs one of \(Self.size(needed)). Start apus with `ulimit -f unlimited`, or give the sandbox less"
    case .openFiles:
      "the limit of open files (ulimit -n) is \(permitted), and a sandbox needs \(needed) to start and one for each file that its "
        + "programs have open in the host's directories. Start apus with a higher one, such as `ulimit -n 4096`"
    case .processes:
      "the limit of processes (ulimit -u) is \(permitted) for all that the user runs, and a sandbox needs \(needed) to start and two "
        + "for each of its processes. Start apus with a higher one, such as `ulimit -u 4096`, or end other processes"
    }
  }

  /// In the largest unit of which there are ten at least, rounded up.
  private static func size(_ bytes: UInt64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] as [(UInt64, String)] where bytes >= 10 << shift {
      return "\((bytes - 1) >> shift + 1) \(unit)"
    }
    return "\(bytes) bytes"
  }
}

enum HostLimits {
  private static func soft(_ resource: __rlimit_resource) -> UInt64? {
    var limit = rlimit()
    // SAFETY: here and below, the calls read or write the structures that they are given, and keep no pointer.
    guard unsafe getrlimit(Int32(resource.rawValue), &limit) == 0, limit.rlim_cur != .max else { return nil }
    return UInt64(limit.rlim_cur)
  }

  /// Raises the limit of open files as far as the host permits, and finds a limit with which no machine can be started: it
  /// would show in some step or another, or in a program for which a file cannot be opened.
  ///
  /// - Returns: the reason; nil if there is none.
  static func obstacle(_ machine: um_config, memory: String) -> String? {
    let files = Int32(RLIMIT_NOFILE.rawValue)
    var limit = rlimit()
    if unsafe getrlimit(files, &limit) == 0, limit.rlim_cur < limit.rlim_max {
      limit.rlim_cur = limit.rlim_max
      unsafe setrlimit(files, &limit)
    }
    return limits(machine, beside: 0).first { $0.isCertain }?.sentence(memory: memory)
  }

  /// Why a machine could not be started; nil if it was not for a limit.
  static func explanation(of error: Int32, _ machine: um_config, memory: String) -> String? {
    // What the monitor had before is not counted: a few MiB.
    limits(machine, beside: 32 << 20).first { $0.explains(error) }?.sentence(memory: memory)
  }

  private static func limits(_ machine: um_config, beside others: UInt64) -> [HostLimit] {
    var machine = machine
    var needs = um_needs()
    unsafe um_needs(&machine, &needs)
    let threads = UInt64(machine.cpu_count) + 10
    return [
      HostLimit(kind: .addressSpace, permitted: soft(RLIMIT_AS), needed: needs.address_space + 2 * others),
      HostLimit(kind: .data, permitted: soft(RLIMIT_DATA), needed: needs.private_memory + others),
      HostLimit(kind: .fileSize, permitted: soft(RLIMIT_FSIZE), needed: needs.file_size),
      // The file server's cache is among them (`FileNodeTable`).
      HostLimit(kind: .openFiles, permitted: soft(RLIMIT_NOFILE), needed: UInt64(machine.cpu_count) * 2 + 100),
      HostLimit(kind: .processes, permitted: soft(__RLIMIT_NPROC), needed: threads),
    ]
  }

  /// Runs `body`, which makes the memory files, with as high a limit of the size of files as there can be: the limit is meant
  /// for files of a disk.
  static func withoutFileLimit<Result>(_ body: () -> Result) -> Result {
    let fileSize = Int32(RLIMIT_FSIZE.rawValue)
    var limit = rlimit()
    guard unsafe getrlimit(fileSize, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return body() }
    var raised = rlimit(rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max)
    unsafe setrlimit(fileSize, &raised)
    defer { unsafe setrlimit(fileSize, &limit) }
    return body()
  }
}
