// wait4(2) and waitid(2): one search over the children, repeated until one of them has something to tell.

import DataStructures
import Identity
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// Which children, and which changes of theirs, a wait is about.
public struct WaitRequest: Sendable {
  public enum Target: Equatable, Sendable {
    case any
    case process(Int32)
    case group(Int32)
  }
  public var target: Target
  /// WNOHANG, WEXITED, WSTOPPED, WCONTINUED, WNOWAIT, __WALL, __WCLONE, __WNOTHREAD.
  public var options: Int32
  /// The thread that waits: __WNOTHREAD means only the children that this thread has made.
  public var thread: Int32

  public init(target: Target, options: Int32, thread: Int32) {
    self.target = target
    self.options = options
    self.thread = thread
  }

  func has(_ option: Int32) -> Bool { options & option != 0 }

  /// Under the lock of ProcessTable.
  func matches(_ child: Process) -> Bool {
    switch target {
    case .any: break
    case .process(let pid): if child.pid != pid { return false }
    case .group(let identifier): if child.group.identifier != identifier { return false }
    }
    if has(__WNOTHREAD) && child.threadOfParent != thread { return false }
    // A "clone child" is one that ends with another signal than SIGCHLD (wait(2)).
    if has(__WALL) { return true }
    return (child.exitSignal != SIGCHLD) == has(__WCLONE)
  }
}

/// What a wait found.
public struct WaitResult: Sendable {
  public var pid: Int32
  public var uid: UInt32
  public var status: WaitStatus
  public var usage: ResourceUsage
}

extension Process {
  /// The thread to which this child belongs: the one that made it or, when that has ended, the parent's oldest one. Under
  /// the lock of ProcessTable.
  fileprivate var threadOfParent: Int32 {
    guard let tasks = parent?.tasks, let oldest = tasks.first else { return 0 }
    return tasks.contains { $0.tid == parentThread } ? parentThread : oldest.tid
  }

  /// Waits for a child of this process to change state.
  ///
  /// - Returns: nil when WNOHANG is set and nothing has happened.
  /// - Throws: ECHILD when no child matches; ERESTARTSYS.
  @export(interface)
  public func wait(_ request: WaitRequest) throws(Errno) -> WaitResult? {
    var result: WaitResult?
    var hasChildren = false
    let search = { () -> Bool in
      (result, hasChildren) = self.search(request)
      return result != nil || !hasChildren || request.has(WNOHANG)
    }
    try childEvents.wait(.interruptible, search)
    if result == nil && !hasChildren { throw .ECHILD }
    return result
  }

  /// One look at the children.
  private func search(_ request: WaitRequest) -> (WaitResult?, hasChildren: Bool) {
    ProcessTable.withLock { state in
      if case .process(let pid) = request.target {
        guard let child = state.identifiers[pid]?.process, child.parent === self, request.matches(child) else {
          return (nil, false)
        }
        let result = child.takeNews(request, &state)
        return (result, result != nil || !child.isZombie)
      }
      var result: WaitResult?
      changedChildren.visit { child in
        if request.matches(child) { result = child.takeNews(request, &state) }
        return result == nil
      }
      return (result, result != nil || hasChildToWaitFor(request))
    }
  }

  /// A zombie neither stops nor continues: it is no reason to go on waiting for that.
  private func hasChildToWaitFor(_ request: WaitRequest) -> Bool {
    var isFound = false
    children.visit { child in
      isFound = !child.isZombie && request.matches(child)
      return !isFound
    }
    return isFound
  }

  /// What this child has to tell of what the wait is about. Under the lock of ProcessTable.
  private func takeNews(_ request: WaitRequest, _ state: inout ProcessTable.State) -> WaitResult? {
    if isZombie {
      guard request.has(WEXITED) else { return nil }
      let result = result(status)
      if !request.has(WNOWAIT) { reap(&state) }
      return result
    }
    guard let report else { return nil }
    let isContinuation = report == .continued
    // A stop that SIGCONT has ended meanwhile is no longer reported (POSIX.1, waitid).
    guard isContinuation || isStopped else { return nil }
    guard request.has(isContinuation ? WCONTINUED : WSTOPPED) else { return nil }
    if !request.has(WNOWAIT) { clearReport() }
    return result(report)
  }

  private func result(_ status: WaitStatus) -> WaitResult {
    var sum = usage
    sum.add(childrenUsage)
    return WaitResult(pid: pid, uid: leader?.sharedCredentials.realUser ?? 0, status: status, usage: sum)
  }
}
