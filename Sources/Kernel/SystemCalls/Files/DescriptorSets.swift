// The three sets of descriptors of select(2).

import FileSystem
import LinuxABI
import VirtualMemory

/// Descriptors that are to be watched for reading, for writing and for exceptions, a bit for each.
struct DescriptorSets {
  private var read, write, except: [UInt64]

  // What each set stands for (Linux: POLLIN_SET and so on).
  private static var readEvents: PollEvents {
    PollEvents(rawValue: POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
  }
  private static var writeEvents: PollEvents { PollEvents(rawValue: POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR) }
  private static var exceptEvents: PollEvents { PollEvents(rawValue: POLLPRI) }

  /// Empty sets with room for `count` descriptors.
  init(count: Int) {
    read = [UInt64](repeating: 0, count: (count + 63) / 64)
    write = read
    except = read
  }

  /// The arguments of the call; NULL is an empty set.
  /// - Throws: EFAULT.
  init(_ frame: SystemCallFrame, count: Int) throws(Errno) {
    self.init(count: count)
    if frame.a1 != 0 { read = try UserMemory.readArray(frame.a1, count: wordCount, as: UInt64.self) }
    if frame.a2 != 0 { write = try UserMemory.readArray(frame.a2, count: wordCount, as: UInt64.self) }
    if frame.a3 != 0 { except = try UserMemory.readArray(frame.a3, count: wordCount, as: UInt64.self) }
  }

  /// Puts the sets where the arguments were.
  /// - Throws: EFAULT.
  func write(to frame: SystemCallFrame) throws(Errno) {
    if frame.a1 != 0 { try UserMemory.writeArray(read, to: frame.a1) }
    if frame.a2 != 0 { try UserMemory.writeArray(write, to: frame.a2) }
    if frame.a3 != 0 { try UserMemory.writeArray(except, to: frame.a3) }
  }

  var wordCount: Int { read.count }

  /// How many descriptors are in any of the sets.
  var memberCount: Int { (0..<wordCount).reduce(0) { $0 + union($1).nonzeroBitCount } }

  /// The descriptors `64 * index...` that are in any of the sets.
  func union(_ index: Int) -> UInt64 { read[index] | write[index] | except[index] }

  /// The events that a descriptor's sets stand for.
  func events(_ descriptor: Int32) -> PollEvents {
    let (index, bit) = Self.place(descriptor)
    var events: PollEvents = []
    if read[index] & bit != 0 { events.formUnion(Self.readEvents) }
    if write[index] & bit != 0 { events.formUnion(Self.writeEvents) }
    if except[index] & bit != 0 { events.formUnion(Self.exceptEvents) }
    return events
  }

  /// Puts a descriptor that has `events` into those sets in which it was asked for; returns into how many.
  mutating func add(_ descriptor: Int32, _ events: PollEvents, asked: DescriptorSets) -> Int64 {
    let (index, bit) = Self.place(descriptor)
    var count: Int64 = 0
    func add(_ set: inout [UInt64], _ asked: UInt64, _ meaning: PollEvents) {
      guard asked & bit != 0, !events.isDisjoint(with: meaning) else { return }
      set[index] |= bit
      count += 1
    }
    add(&read, asked.read[index], Self.readEvents)
    add(&write, asked.write[index], Self.writeEvents)
    add(&except, asked.except[index], Self.exceptEvents)
    return count
  }

  private static func place(_ descriptor: Int32) -> (index: Int, bit: UInt64) {
    (Int(descriptor) / 64, 1 << UInt64(descriptor % 64))
  }
}
