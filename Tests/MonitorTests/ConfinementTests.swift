// What a kernel that fell to its guest could ask of the host: every call here ends the confined monitor with a message, and
// is let through without the confinement, so that no test passes because its call is wrong.

import CDevices
import CMachine
import CMonitor
import CUserMachine
import Glibc
import Testing

@testable import Monitor

/// Starts a machine in this process, as CPU 0, and confines it.
private func startConfined(writes: Bool = true, switches: UInt32 = 0) {
  var configuration = um_config()
  configuration.memory_size = 16 << 20
  configuration.cpu_count = 1
  configuration.test_switches = switches
  guard um_initialize(&configuration, nil) == 0, um_cpu_attach(0) == 0, monitor_confine(writes ? 1 : 0, nil, 0) == 0
  else {
    _exit(99)
  }
  um_set_refusable_call(host_call_place())
}

private func startUnconfined() { startConfined(switches: UM_TEST_UNCONFINED.rawValue) }

/// Calls that a confined monitor may not make.
private enum Attack: String, CaseIterable, Codable {
  case openSocket, forkProcess, cloneThreadOfAnotherKind, newNamespace, execute, typeIntoTerminal, signalAll
  case mapExecutable, makeExecutable, tracing, readOtherMemory, mountSomething, changeIdentity, loadFilter

  @discardableResult
  func run() -> Int {
    switch self {
    case .openSocket: return Int(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
    case .forkProcess:
      let child = systemCall(57, 0, 0, 0)
      if child == 0 { _exit(0) }
      return child
    case .cloneThreadOfAnotherKind: return systemCall(56, 0x0001_0000, 0, 0)  // CLONE_THREAD alone: EINVAL
    case .newNamespace: return systemCall(272, -1, 0, 0)
    case .execute: return systemCall(59, 0, 0, 0)
    case .typeIntoTerminal: return systemCall(16, 0, 0x5412, 0)
    case .signalAll: return Int(kill(getpid(), 0))
    case .mapExecutable:
      return mmap(nil, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0
    case .makeExecutable:
      let page = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      return Int(mprotect(page, 4096, PROT_READ | PROT_EXEC))
    case .tracing: return systemCall(101, 0x4206, 1, 0)
    case .readOtherMemory: return systemCall(310, 1, 0, 0)
    case .mountSomething: return Int(mount("none", "/nowhere", "tmpfs", 0, nil))
    case .changeIdentity: return systemCall(105, -1, 0, 0)  // setuid(-1): EINVAL
    case .loadFilter: return systemCall(317, 99, 0, 0)  // seccomp of no kind: EINVAL
    }
  }
}

/// A system call by number.
private func systemCall(_ number: Int, _ a: Int, _ b: Int, _ c: Int) -> Int {
  typealias Call = @convention(c) (Int, Int, Int, Int) -> Int
  return unsafeBitCast(dlsym(nil, "syscall")!, to: Call.self)(number, a, b, c)
}

@Suite(.serialized) struct ConfinementTests {
  @Test(arguments: Attack.allCases)
  private func `a call that the machine does not need ends the monitor`(_ attack: Attack) async throws {
    let name = attack.rawValue
    let result = await #expect(processExitsWith: .exitCode(125), observing: [\.standardErrorContent]) {
      [name = name as String] in
      startConfined()
      Attack(rawValue: name)?.run()
      _exit(1)
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("its confinement does not allow system call"))
  }

  @Test func `without the confinement the same calls return`() async {
    await #expect(processExitsWith: .exitCode(42)) {
      startUnconfined()
      for attack in Attack.allCases { attack.run() }
      _exit(42)
    }
  }

  @Test func `every thread is confined, also those from before`() async {
    await #expect(processExitsWith: .exitCode(125)) {
      var pipes: [Int32] = [0, 0]
      pipe(&pipes)
      var thread = pthread_t()
      let reading = UnsafeMutableRawPointer(bitPattern: Int(pipes[0]))
      pthread_create(
        &thread, nil,
        { reading in
          var byte: UInt8 = 0
          _ = read(Int32(Int(bitPattern: reading)), &byte, 1)
          Attack.openSocket.run()
          return nil
        }, reading)
      startConfined()
      var byte: UInt8 = 1
      _ = write(pipes[1], &byte, 1)
      pthread_join(thread, nil)
      _exit(1)
    }
  }

  @Test func `files change only where something is exported writable`() async {
    await #expect(processExitsWith: .exitCode(42)) {
      startConfined(writes: true)
      _ = mkdirat(-1, "x", 0o700)
      _ = unlinkat(-1, "x", 0)
      _exit(42)
    }
    await #expect(processExitsWith: .exitCode(125)) {
      startConfined(writes: false)
      _ = mkdirat(-1, "x", 0o700)
      _exit(1)
    }
  }

  @Test func `a call that a request of the guest leads to fails where the others end the monitor`() async {
    let result = await #expect(processExitsWith: .exitCode(42), observing: [\.standardErrorContent]) {
      startConfined(writes: false)
      // Twice: it is reported once.
      for _ in 0..<2 { guard host_make_directory(-1, "x", 0o700) == -EPERM else { _exit(2) } }
      guard host_unlink(-1, "x", 0) == -EPERM else { _exit(3) }
      // Control: what is allowed reaches the host.
      guard host_read_link(-1, nil, 1) == -EBADF else { _exit(4) }
      _exit(42)
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.split(separator: "\n").filter { $0.contains("does not allow system call 258") }.count == 1)
    await #expect(processExitsWith: .exitCode(42)) {
      startConfined(writes: true)
      guard host_make_directory(-1, "x", 0o700) == -EBADF else { _exit(2) }
      _exit(42)
    }
  }

  @Test func `what the machine and its devices need goes on`() async {
    await #expect(processExitsWith: .exitCode(42)) {
      startConfined(writes: false)
      // Threads, which allocate from arenas of their own.
      for _ in 0..<4 {
        var thread = pthread_t()
        let made = pthread_create(
          &thread, nil,
          { _ in
            let memory = malloc(1 << 22)
            memset(memory!, 1, 1 << 22)
            free(realloc(memory, 1 << 23))
            return nil
          }, nil)
        guard made == 0, pthread_join(thread, nil) == 0 else { _exit(2) }
      }
      // Files to read, and the console's questions.
      let file = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
      var status = stat()
      var bytes = [UInt8](repeating: 0, count: 64)
      guard file >= 0, fstat(file, &status) == 0, read(file, &bytes, 64) == 64, lseek(file, 0, SEEK_SET) == 0 else {
        _exit(3)
      }
      var size = winsize()
      _ = ioctl(0, UInt(TIOCGWINSZ), &size)
      var settings = termios()
      if tcgetattr(0, &settings) == 0 { tcsetattr(0, TCSADRAIN, &settings) }
      _ = tcgetpgrp(0)
      _ = fcntl(0, F_GETFL)
      var entry = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, 0)
      // Guest memory goes back to the host; stacks, stub processes.
      guard um_memory_release(0, 4096) == 1, um_thread_stack(32768, 0) != 0 else { _exit(4) }
      for _ in 0..<8 {
        let space = um_space_create(0)
        guard space > 0, um_user_create(space) > 0 else { _exit(5) }
        um_space_destroy(space)
      }
      _exit(42)
    }
  }
}
