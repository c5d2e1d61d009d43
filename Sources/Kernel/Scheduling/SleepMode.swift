// How deep a sleep is: what may end it besides the event that it waits for.

/// What may interrupt a sleep.
public enum SleepMode: Sendable {
  /// Any signal that the thread would act on ends the sleep with ERESTARTSYS.
  case interruptible
  /// Only a signal that ends the process does.
  case killable
  /// Nothing does: for short waits on the kernel's own work.
  case uninterruptible
}
