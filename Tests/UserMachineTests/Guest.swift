// What the tests share: a machine for the time of a test, and guest programs with a page of code and a page of data.

import CMachine
import CUserMachine
import Glibc
import UserMachineTestSupport

@testable import UserMachine

let codeAddress: UInt64 = 0x40_0000
let dataAddress: UInt64 = 0x50_0000
let page: UInt64 = 4096
let noDeadline = UInt64.max
let oneSecond: UInt64 = 1_000_000_000

func now() -> UInt64 { um_clock_monotonic() }

let alwaysPolling = UserMachine.HandOver.polling(kernelTicks: 200_000, userTicks: 200_000)

/// Runs `body` as CPU 0 of a fresh machine.
func withMachine(
  cpus: Int = 1, spaces: Int = 0, switches: um_test_switch? = nil, mappingLimit: UInt64 = 0,
  handOver: UserMachine.HandOver = .sleeping, _ body: () throws -> Void
) throws {
  var options = UserMachine.Options(memorySize: 64 << 20, cpuCount: cpus)
  options.maximumSpaces = spaces
  options.handOver = handOver
  try UserMachine.start(options, testSwitches: switches?.rawValue ?? 0, mappingLimit: mappingLimit, cpuMain: nil)
  defer { UserMachine.stop() }
  precondition(um_cpu_attach(0) == 0)
  defer { um_cpu_detach() }
  guest_copy(UserMachine.memory)
  try body()
}

/// Runs `body` as CPU `index` on a thread of its own.
final class OtherCPU {
  private let body: () -> Void
  private let index: UInt64
  private var thread = pthread_t()

  init(_ index: UInt64, _ body: @escaping () -> Void) {
    self.index = index
    self.body = body
    let me = Unmanaged.passRetained(self).toOpaque()
    pthread_create(
      &thread, nil,
      { argument in
        let me = Unmanaged<OtherCPU>.fromOpaque(argument!).takeRetainedValue()
        precondition(um_cpu_attach(me.index) == 0)
        me.body()
        um_cpu_detach()
        return nil
      }, me)
  }

  func join() { pthread_join(thread, nil) }
}

/// An address space with the guest programs at `codeAddress` and one page of data at `dataAddress`.
final class Space {
  let handle: Int64
  /// Guest-physical address of the data page.
  let data: UInt64

  init(data: UInt64 = page) {
    handle = um_space_create(0)
    precondition(handle > 0, "um_space_create: \(handle)")
    self.data = data
    um_space_map(handle, codeAddress, 0, page, 5)
    um_space_map(handle, dataAddress, data, page, 3)
  }

  func destroy() { um_space_destroy(handle) }

  /// The page of data as the kernel process sees it.
  var memory: UnsafeMutableRawPointer { UnsafeMutableRawPointer(UserMachine.memory + Int(data)) }
}

/// A user thread and its registers.
final class Guest {
  let handle: Int64
  var registers = machine_registers()
  var event = machine_event()

  init(_ space: Space, _ entry: guest_entry) {
    handle = um_user_create(space.handle)
    precondition(handle > 0, "um_user_create: \(handle)")
    start(entry)
    registers.rsp = dataAddress + page - 64
  }

  func start(_ entry: guest_entry) { registers.rip = codeAddress + guest_offset(entry) }

  @discardableResult
  func run(deadline: UInt64 = now() + 5 * oneSecond) -> machine_event_kind {
    um_user_run(handle, &registers, &event, deadline)
    return machine_event_kind(event.kind)
  }

  /// Runs behind a run that was preempted: its timer and the watch may both have sent the signal, and the second one ends the next
  /// run at once.
  func runAfterPreemption(deadline: UInt64 = now() + 5 * oneSecond) -> machine_event_kind {
    for _ in 0..<4 where run(deadline: deadline) != MACHINE_EVENT_INTERRUPT { break }
    return machine_event_kind(event.kind)
  }
}

/// Host processes whose parent is this one, the zygote included.
func childProcesses() -> Int {
  let me = getpid()
  var count = 0
  guard let directory = opendir("/proc") else { return -1 }
  defer { closedir(directory) }
  while let entry = readdir(directory) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    guard Int32(name) != nil, let file = fopen("/proc/\(name)/stat", "r") else { continue }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 512)
    guard fgets(&line, 512, file) != nil else { continue }
    let text = String(cString: line)
    guard let end = text.lastIndex(of: ")") else { continue }
    let fields = text[text.index(after: end)...].split(separator: " ")
    if fields.count > 1, Int32(fields[1]) == me { count += 1 }
  }
  return count
}
