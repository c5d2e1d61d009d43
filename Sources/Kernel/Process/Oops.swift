// A kernel bug in a thread's context costs that thread's process, not the machine: the process is killed, and the thread
// gives back what it holds and ends where it stands. Its kernel stack is not unwound: what the frames on it refer to is
// lost, and a sleeping lock that it held stays held, as after an oops of Linux.

import KernelCore
import LinuxABI
import Scheduling

extension Task {
  /// Makes oopses end the process in whose context they happen; without this they are panics.
  @export(interface)
  public static func installOopsHandler() {
    Panic.endThread = {
      guard let task = Task.running else { return }
      task.endAfterBug()
    }
  }

  private func endAfterBug() -> Never {
    // A second bug while the task ends must not come back here.
    if isExiting { panic("a bug in the end of a process") }
    Log.error("process \(process.pid) (\(commandName.string)) is killed: the kernel failed while it worked for it")
    process.beginExit(.killed(SIGKILL))
    finish()
    Thread.exit()
  }
}
