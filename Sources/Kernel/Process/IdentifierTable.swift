// The allocation of process identifiers: rising numbers, wrapping around to 300 as Linux does (so that the low ones stay
// with the first processes). A number is free again only when nothing is named by it: no thread, process, group or
// session. Pure data, guarded by the lock of `ProcessTable`.

import LinuxABI

/// What a process identifier names.
struct IdentifierTable<Entry> {
  private var entries: [Int32: Entry] = [:]
  private var last: Int32 = 0
  /// Identifiers are below this (/proc/sys/kernel/pid_max).
  let limit: Int32
  /// Where the search starts again after the first round.
  let restart: Int32

  init(limit: Int32 = 32768, restart: Int32 = 300) {
    self.limit = limit
    self.restart = restart
  }

  var count: Int { entries.count }
  /// The identifier given out last (/proc/loadavg).
  var lastAllocated: Int32 { last }
  var identifiers: [Int32] { entries.keys.sorted() }

  subscript(identifier: Int32) -> Entry? {
    get { entries[identifier] }
    set { entries[identifier] = newValue }
  }

  /// Reserves the next free identifier for `entry`.
  ///
  /// - Throws: EAGAIN when all are in use.
  mutating func allocate(_ entry: Entry) throws(Errno) -> Int32 {
    guard entries.count < Int(limit) - 1 else { throw .EAGAIN }
    var candidate = last
    for _ in 0..<Int(limit) {
      candidate += 1
      if candidate >= limit { candidate = min(restart, limit - 1) }
      if entries[candidate] == nil {
        entries[candidate] = entry
        last = candidate
        return candidate
      }
    }
    // The range below `restart` is not searched again: that is all the room there is.
    throw .EAGAIN
  }
}
