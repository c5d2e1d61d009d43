// Waiting for several files at once: the core of poll(2) and select(2).

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// A file and the events that are waited for.
public struct PollRequest {
  public let descriptor: Int32
  /// nil: a negative descriptor, which is skipped, or a bad one (`result` says so).
  fileprivate let file: OpenFile?
  fileprivate let wanted: PollEvents
  public internal(set) var result: PollEvents

  /// Asks the file at once: the first look is all that most calls need.
  ///
  /// - Parameter unasked: what is reported although nobody asked. poll(2) always tells of errors and hang-ups, select(2)
  ///   does not.
  @export(interface)
  public init(_ descriptor: Int32, _ file: OpenFile, events: PollEvents, unasked: PollEvents = [.error, .hangUp]) {
    self.descriptor = descriptor
    self.file = file
    wanted = events.union(unasked)
    result = file.poll().intersection(wanted)
  }

  /// A request about nothing, with a result that is known.
  @export(interface)
  public init(_ descriptor: Int32, result: PollEvents) {
    self.descriptor = descriptor
    file = nil
    wanted = []
    self.result = result
  }
}

/// poll(2).
public enum Polling {
  /// Waits until one of the requests has an event or the deadline comes, and fills in the results.
  ///
  /// - Returns: how many have events.
  /// - Throws: ERESTARTSYS when a signal came first; ENOMEM.
  @export(interface)
  public static func wait(_ requests: inout [PollRequest], until deadline: Instant) throws(Errno) -> Int {
    var count = 0
    for index in requests.indices where !requests[index].result.isEmpty { count += 1 }
    // Nothing is queued when the answer is there already, which is the usual case.
    if count > 0 || deadline <= Instant.now() { return count }
    var entries: [(WaitQueue, WaitEntry)] = []
    let account = Thread.current.account
    let charge = requests.count * entryBytes
    account.charge(charge)
    defer {
      for (queue, entry) in entries { queue.remove(entry) }
      account.release(charge)
    }
    for request in requests {
      try KernelMemory.check()
      request.file?.pollQueues { queue in
        let entry = WaitEntry()
        entries.append((queue, entry))
        queue.add(entry)
      }
    }
    do throws(Errno) {
      try Thread.sleep(.interruptible, until: deadline) {
        count = scan(&requests)
        return count > 0
      }
    } catch {
      guard error == .ETIMEDOUT else { throw error }
    }
    return count
  }

  /// What a file costs the kernel while it is waited for: the entry, and its place in the array.
  private static var entryBytes: Int { 128 }

  /// Asks every file again.
  private static func scan(_ requests: inout [PollRequest]) -> Int {
    var count = 0
    for index in requests.indices {
      if let file = requests[index].file { requests[index].result = file.poll().intersection(requests[index].wanted) }
      if !requests[index].result.isEmpty { count += 1 }
    }
    return count
  }
}
