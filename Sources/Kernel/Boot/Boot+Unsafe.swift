// The start of the kernel, on the boot CPU and on the others: from the machine's record to a running scheduler. What the
// kernel then does for the program that it was started for is in StartUp.swift.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Process
import Scheduling
import VirtualMemory

/// The boot CPU's first Swift code, called from `_start` on a kernel stack.
@c(apus_boot)
public func boot(_ info: UnsafePointer<machine_boot_info>) {
  #if hasFeature(Embedded)
    // SAFETY: the machine's record, valid as long as the kernel runs.
    guard unsafe info.pointee.magic == MACHINE_BOOT_MAGIC, unsafe machine_patch(info.pointee.rom) == 0 else {
      // Without a ROM there is no way to say anything yet.
      return
    }
    _ = machine_text_seal()
    unsafe PhysicalMemory.initialize(info)
    unsafe BootParameters.info = info
    unsafe Backtrace.imageBase = info.pointee.image_base
    unsafe Backtrace.imageEnd = info.pointee.image_end
    AddressSpace.userLimit = unsafe info.pointee.user_limit
    CPU.count = unsafe Int(info.pointee.cpu_count)
    Clock.boot = .now()
    if let level = BootParameters.number("loglevel").flatMap({ LogLevel(rawValue: UInt8(clamping: $0)) }) {
      Log.consoleLevel = level
    }
    if let limit = BootParameters.number("pids") { ProcessTable.taskLimit = Int(clamping: limit) }
    Reclaim.initialize()
    // Early, while memory is in one piece.
    if let pages = unsafe BootParameters.option("hugepages=", of: info) {
      HugePagePool.resize(to: Int(clamping: pages))
    }
    KernelAccount.limit = MemoryStatistics.snapshot().total / 4 * PhysicalMemory.pageSize
    KernelHeap.outOfMemoryHandler = { MemoryPressure.relieveKernel() }
    Scheduler.adoptCPU()
    do throws(Errno) {
      try Thread.spawn(name: "start-up") { startUp() }
    } catch {
      panic("no memory to start with")
    }
    for index in 1..<max(CPU.count, 1) where machine_cpu_start(UInt64(index)) < 0 {
      panic { line in
        line.append("a CPU does not start: ")
        line.append(decimal: index)
      }
    }
    Scheduler.idleLoop()
  #endif
}

/// The first Swift code of every other CPU.
@c(apus_start_cpu)
public func startCPU(_ index: UInt64) {
  #if hasFeature(Embedded)
    Scheduler.adoptCPU()
    Scheduler.idleLoop()
  #endif
}
