// What the kernel does once the scheduler runs: drivers, file systems, the root, and the command that it was booted for.

import Block
import Console
import Devtmpfs
import FileSystem
import Identity
import KernelCore
import LinuxABI
import LocalSockets
import Machine
import Process
import Procfs
import Scheduling
import Sysfs
import SystemCalls
import Tmpfs
import VirtualMemory
import VirtioBlock
import VirtioFS
import VirtualMemory

/// Why the machine cannot run its command: the sentence for the user, and the exit status of the monitor.
struct StartUpFailure: Error {
  var sentence: String
  var status: UInt64 = UInt64(Panic.exitStatus)
}

/// The life of the start-up thread.
func startUp() {
  do throws(StartUpFailure) {
    try startDrivers()
    // Without kswapd, allocators fall back to direct reclaim.
    try? Kswapd.start()
    try? Flusher.start()
    registerFileSystems()
    let namespace = try RootFileSystem.mount()
    if let name = BootParameters.value("hostname") { HostIdentity.setName(name) }
    SystemCallDispatcher.install()
    Task.installOopsHandler()
    if BootParameters.value("trace") == ByteString("syscalls") {
      SystemCallTrace.sink = { line in if !HostConsole.trace(line) { Log.console(line) } }
    }
    ProcessTable.firstProcessExited = { _ in
      Flusher.finish()
      HostConsole.finish()
    }
    try Command.start(in: namespace)
  } catch {
    Log.console(ByteString("apus: \(error.sentence)\n"))
    machine_power_off(error.status << 8)
  }
}

private func startDrivers() throws(StartUpFailure) {
  do throws(Errno) {
    try HostConsole.start()
  } catch {
    throw StartUpFailure(sentence: "the console device does not start (\(error.words))")
  }
  do throws(Errno) {
    try VirtioBlock.start()
  } catch {
    throw StartUpFailure(sentence: "the disks do not start (\(error.words))")
  }
  for place in BootParameters.values("swap") { try enableSwap(place) }
}

/// `swap=N`: the Nth disk is swap space.
private func enableSwap(_ place: ByteString) throws(StartUpFailure) {
  let disks = BlockDevices.all()
  guard let number = place.decimal(), number < UInt64(disks.count) else {
    throw StartUpFailure(sentence: "bad boot parameter swap=\(place.string)")
  }
  let disk = disks[Int(number)]
  do throws(Errno) {
    try SwapSpace.enable(try SwapDisk(disk))
  } catch {
    throw StartUpFailure(sentence: "--swap: \(disk.name.string) cannot be used (\(error.words))")
  }
}

/// The file system types of the kernel, and the address families, whose files /proc shows.
private func registerFileSystems() {
  LocalFamily.register()
  Tmpfs.register()
  Devtmpfs.register()
  Procfs.register()
  Sysfs.register()
  VirtioFS.register()
}
