// Resource limits (getrlimit(2)): for each resource a soft limit, which is in force, and a hard limit, up to which the
// process may raise the soft one.

import LinuxABI

/// A limited resource; the raw value is Linux's RLIMIT_ number.
public enum Resource: UInt8, CaseIterable, Sendable {
  case processorTime = 0  // RLIMIT_CPU, seconds
  case fileSize, data, stack, core, residentSet, processes, openFiles, lockedMemory, addressSpace
  case fileLocks, pendingSignals, messageQueues, nice, realTimePriority, realTimeTime

  /// The row's title in /proc/PID/limits.
  public var name: StaticString {
    @export(interface) get {
      switch self {
      case .processorTime: "Max cpu time"
      case .fileSize: "Max file size"
      case .data: "Max data size"
      case .stack: "Max stack size"
      case .core: "Max core file size"
      case .residentSet: "Max resident set"
      case .processes: "Max processes"
      case .openFiles: "Max open files"
      case .lockedMemory: "Max locked memory"
      case .addressSpace: "Max address space"
      case .fileLocks: "Max file locks"
      case .pendingSignals: "Max pending signals"
      case .messageQueues: "Max msgqueue size"
      case .nice: "Max nice priority"
      case .realTimePriority: "Max realtime priority"
      case .realTimeTime: "Max realtime timeout"
      }
    }
  }

  /// The unit in /proc/PID/limits.
  public var unit: StaticString {
    @export(interface) get {
      switch self {
      case .processorTime: "seconds"
      case .processes: "processes"
      case .openFiles: "files"
      case .fileLocks: "locks"
      case .pendingSignals: "signals"
      case .nice, .realTimePriority: ""
      case .realTimeTime: "us"
      default: "bytes"
      }
    }
  }
}

/// A soft and a hard limit; `ResourceLimit.infinity` is no limit.
public struct ResourceLimit: Equatable, Sendable {
  public static var infinity: UInt64 { .max }
  public var soft: UInt64
  public var hard: UInt64

  public init(soft: UInt64, hard: UInt64) {
    self.soft = soft
    self.hard = hard
  }
}

/// The limits of a process.
public struct ResourceLimits: Sendable {
  private var limits: [ResourceLimit]

  /// The limits with which Linux starts its first process, for a machine that can run `threads` threads.
  @export(interface)
  public init(threads: UInt64) {
    limits = Array(
      repeating: ResourceLimit(soft: ResourceLimit.infinity, hard: ResourceLimit.infinity),
      count: Resource.allCases.count)
    self[.stack] = ResourceLimit(soft: 8 << 20, hard: ResourceLimit.infinity)
    self[.core] = ResourceLimit(soft: 0, hard: ResourceLimit.infinity)
    self[.processes] = ResourceLimit(soft: threads, hard: threads)
    self[.openFiles] = ResourceLimit(soft: 1024, hard: 4096)
    self[.lockedMemory] = ResourceLimit(soft: 8 << 20, hard: 8 << 20)
    self[.pendingSignals] = ResourceLimit(soft: threads, hard: threads)
    self[.messageQueues] = ResourceLimit(soft: 819_200, hard: 819_200)
    self[.nice] = ResourceLimit(soft: 0, hard: 0)
    self[.realTimePriority] = ResourceLimit(soft: 0, hard: 0)
  }

  public subscript(resource: Resource) -> ResourceLimit {
    @export(interface) get { limits[Int(resource.rawValue)] }
    @export(interface) set { limits[Int(resource.rawValue)] = newValue }
  }

  /// setrlimit(2): changes a limit on behalf of `credentials`.
  @export(interface)
  public mutating func set(
    _ resource: Resource, to limit: ResourceLimit, by credentials: Credentials
  ) throws(Errno) {
    guard limit.soft <= limit.hard else { throw .EINVAL }
    guard limit.hard <= self[resource].hard || credentials.has(.resources) else { throw .EPERM }
    // fs.nr_open bounds every descriptor table.
    if resource == .openFiles, limit.hard > 1 << 20 { throw .EPERM }
    self[resource] = limit
  }
}
