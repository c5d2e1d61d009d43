// Waiting for several files at once: the core of poll(2) and select(2).

import KernelCore
import LinuxABI
import Scheduling

/// A file and the events that are waited for.
public struct PollRequest {
  /// nil: a negative descriptor, which is skipped, or a bad one (`result` says so).
  public var file: OpenFile?
  public var events: PollEvents
  /// What is reported although nobody asked: poll(2) always tells of errors and hang-ups, select(2) does not.
  public var unasked: PollEvents
  public var result: PollEvents = []

  @export(interface)
  public init(file: OpenFile?, events: PollEvents, unasked: PollEvents = [.error, .hangUp]) {
    self.file = file
    self.events = events
    self.unasked = unasked
  }
}

/// poll(2).
public enum Polling {
  /// Waits until one of the requests has an event or the deadline comes, and fills in the results.
  ///
  /// - Returns: how many have events.
  /// - Throws: ERESTARTSYS when a signal came first.
  @export(interface)
  public static func wait(_ requests: inout [PollRequest], until deadline: Instant) throws(Errno) -> Int {
    var count = scan(&requests)
    // Nothing is queued when the answer is there already, which is the usual case.
    if count > 0 || deadline <= Instant.now() { return count }
    var entries: [(WaitQueue, WaitEntry)] = []
    for request in requests {
      request.file?.pollQueues { queue in
        let entry = WaitEntry()
        entries.append((queue, entry))
        queue.add(entry)
      }
    }
    defer { for (queue, entry) in entries { queue.remove(entry) } }
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

  /// Asks every file once.
  private static func scan(_ requests: inout [PollRequest]) -> Int {
    var count = 0
    for index in requests.indices {
      if let file = requests[index].file {
        let wanted = requests[index].events.union(requests[index].unasked)
        requests[index].result = file.poll().intersection(wanted)
      }
      if !requests[index].result.isEmpty { count += 1 }
    }
    return count
  }
}
