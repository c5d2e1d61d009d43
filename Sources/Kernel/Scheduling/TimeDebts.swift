// Time that users owe. A thread that the machine had to end, because it would not give its CPU back or ran when it should not, has
// had time at the cost of all others, and no virtual run time of its own that could make up for it. So its user owes that
// time, and the user's other threads pay: the next ones that run let the others go first for as long. A program that spends one
// process after another in this way gets no more than its share.

import KernelCore
import Synchronization

/// The debts of users, in nanoseconds of CPU time.
public enum TimeDebts {
  private struct Debt {
    var user: UInt32 = 0
    var time: UInt64 = 0
  }
  /// Users in debt at a time; when there are more, the largest debts count.
  private static var capacity: Int { 32 }
  /// What a thread pays at once, at most.
  private static var largestPayment: UInt64 { 1_000_000_000 }

  private static let debts = SpinLock([Debt](repeating: Debt(), count: capacity), rank: .timer)
  /// Whether anybody owes anything: all that a thread looks at most of the time.
  public static let exist = Atomic<Bool>(false)

  /// `user` owes `time` more.
  @export(interface)
  public static func add(_ time: UInt64, to user: UInt32) {
    guard time > 0 else { return }
    debts.withLock { debts in
      var place = 0
      for index in debts.indices {
        if debts[index].time != 0, debts[index].user == user {
          debts[index].time = min(debts[index].time &+ time, largestPayment)
          return
        }
        if debts[index].time < debts[place].time { place = index }
      }
      if debts[place].time < time { debts[place] = Debt(user: user, time: min(time, largestPayment)) }
    }
    exist.store(true, ordering: .relaxed)
  }

  /// The current thread takes over what `user` owes.
  @export(interface) @inline(never)
  public static func pay(for user: UInt32) {
    let time = debts.withLock { debts in
      var time: UInt64 = 0
      var isOver = true
      for index in debts.indices where debts[index].time != 0 {
        if debts[index].user == user {
          time = debts[index].time
          debts[index].time = 0
        } else {
          isOver = false
        }
      }
      if isOver { exist.store(false, ordering: .relaxed) }
      return time
    }
    let thread = Thread.current
    thread.virtualRuntime &+= Scheduler.weighted(time, niceness: thread.niceness)
  }
}
