// Collects what /proc/PID shows from the process, its thread, its address space and its identity. The parts are read one
// after another: a snapshot of a running process is not a consistent cut, on Linux neither.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import VirtualMemory

extension TaskSnapshot {
  /// The snapshot of a process or thread.
  ///
  /// - Throws: ESRCH when it has gone.
  init(_ reference: TaskReference) throws(Errno) {
    let (process, task) = try reference.resolve()
    pid = process.pid
    tid = reference.scope == .process ? process.pid : reference.identifier
    parent = process.parentPid
    group = process.groupIdentifier
    session = process.sessionIdentifier
    startTime = (reference.scope == .process ? process.startTime : task?.startTime ?? process.startTime)
      .nanoseconds(since: Clock.boot)
    // A leader that has ended stays until the process does.
    threads = max(1, process.tasks.count + (process.hasLeaderEnded ? 1 : 0))
    queuedLimit = process.limit(.pendingSignals)
    residentLimit = process.limit(.residentSet)
    exitSignal = reference.scope == .process ? SIGCHLD : -1
    addUsage(process, task, reference.scope)
    guard let task else {
      name = "init"
      return
    }
    name = task.commandName
    state = process.isZombie ? UInt8(ascii: "Z") : task.stateLetter
    niceness = task.niceness
    lastCPU = task.lastCPU
    nodes = (1 << UInt64(MemoryZone.nodeCount)) - 1
    affinity = task.affinity & (CPU.count >= 64 ? .max : (1 << UInt64(CPU.count)) - 1)
    policy = task.schedulingPolicy
    realTimePriority = task.schedulingPriority
    if let terminal = process.controllingTerminal {
      self.terminal = terminal.deviceNumber
      foregroundGroup = terminal.foregroundGroup
    }
    addIdentity(task)
    addSignals(task)
    if let space = task.sharedAddressSpace { addMemory(space) }
  }

  private mutating func addUsage(_ process: Process, _ task: Task?, _ scope: TaskReference.Scope) {
    let usage = scope == .process ? process.usage : task?.usage ?? process.usage
    let children = process.usageOfChildren
    userTime = usage.userTime
    systemTime = usage.systemTime
    minorFaults = usage.minorFaults
    majorFaults = usage.majorFaults
    voluntarySwitches = usage.voluntarySwitches
    involuntarySwitches = usage.involuntarySwitches
    childUserTime = children.userTime
    childSystemTime = children.systemTime
    childMinorFaults = children.minorFaults
    childMajorFaults = children.majorFaults
  }

  private mutating func addIdentity(_ task: Task) {
    let identity = task.sharedCredentials
    users = [identity.realUser, identity.effectiveUser, identity.savedUser, identity.fileSystemUser]
    groups = [identity.realGroup, identity.effectiveGroup, identity.savedGroup, identity.fileSystemGroup]
    supplementaryGroups = identity.groups
    capabilities = [
      identity.inheritable.rawValue, identity.permitted.rawValue, identity.effective.rawValue,
      identity.bounding.rawValue, identity.ambient.rawValue,
    ]
    noNewPrivileges = identity.noNewPrivileges
    umask = task.sharedFileSystemContext.umask
    descriptorCapacity = task.sharedDescriptors.capacity
  }

  private mutating func addSignals(_ task: Task) {
    let signals = task.signalSnapshot
    pending = signals.own.rawValue
    sharedPending = signals.shared.rawValue
    blocked = signals.blocked.rawValue
    queuedSignals = signals.queued
    let actions = task.actions.sets()
    ignored = actions.ignored.rawValue
    caught = actions.caught.rawValue
  }

  private mutating func addMemory(_ space: AddressSpace) {
    let memory = space.statistics
    hasMemory = true
    totalPages = memory.totalPages
    peakTotalPages = memory.peakTotalPages
    residentPages = memory.residentPages
    peakResidentPages = memory.peakResidentPages
    anonymousPages = memory.anonymousPages
    objectPages = memory.objectPages
    dataPages = memory.dataPages
    stackPages = memory.stackPages
    executablePages = memory.executablePages
    lockedPages = memory.lockedPages
    pageTablePages = memory.pageTablePages
    swappedPages = memory.swappedPages
    hugePages = memory.hugePages
    let layout = space.layout
    startCode = layout.startCode
    endCode = layout.endCode
    startStack = layout.startStack
    startData = layout.startData
    endData = layout.endData
    startBreak = layout.startBreak
    argumentStart = layout.argumentStart
    argumentEnd = layout.argumentEnd
    environmentStart = layout.environmentStart
    environmentEnd = layout.environmentEnd
  }
}
