// The arguments and the environment of a program: copied out of the old program once, bounded, and laid out on the new
// stack (System V ABI x86-64, 3.4.1 "Initial Stack and Register State").

import CLinuxABI
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// argv and envp.
public struct ProgramArguments: Sendable {
  public var arguments: [ByteString]
  public var environment: [ByteString]

  public init(arguments: [ByteString], environment: [ByteString]) {
    self.arguments = arguments
    self.environment = environment
  }

  /// The longest single string with its zero (MAX_ARG_STRLEN).
  static let stringLimit = 131_072

  /// Copies both vectors out of user memory. Null pointers stand for empty vectors, as Linux has it.
  ///
  /// - Throws: EFAULT, E2BIG.
  @export(interface)
  public init(argumentVector: UInt64, environmentVector: UInt64, limit: Int) throws(Errno) {
    var room = limit
    arguments = try ProgramArguments.copyIn(argumentVector, &room)
    environment = try ProgramArguments.copyIn(environmentVector, &room)
  }

  private static func copyIn(_ vector: UInt64, _ room: inout Int) throws(Errno) -> [ByteString] {
    var strings: [ByteString] = []
    guard vector != 0 else { return strings }
    var next = vector
    while true {
      let address = try UserMemory.read(next, as: UInt64.self)
      if address == 0 { return strings }
      let string: ByteString
      do throws(Errno) {
        string = try UserMemory.copyInString(from: address, limit: min(stringLimit, max(room, 1)))
      } catch {
        throw error == .ENAMETOOLONG ? .E2BIG : error
      }
      room -= string.count + 1 + 8
      guard room >= 0 else { throw .E2BIG }
      // Megabytes of them are made in one call.
      try KernelMemory.admit()
      try KernelMemory.admitGrowth(count: strings.count, capacity: strings.capacity, stride: 8)
      Thread.checkReschedule()
      strings.append(string)
      next = next &+ 8
    }
  }

  /// How many bytes strings and pointers may take: a quarter of the stack's limit, between 128 KiB and 6 MiB.
  @export(interface)
  public static func limit(stackLimit: UInt64) -> Int { Int(min(max(stackLimit / 4, 131_072), 6 << 20)) }
}

/// The first page or pages of a stack, ready to be copied to user memory.
struct InitialStack {
  /// What the stack pointer starts with; the bytes begin there.
  var pointer: UInt64
  var bytes: [UInt8]
  var argumentStart: UInt64
  var argumentEnd: UInt64
  var environmentEnd: UInt64
  var auxiliaryVector: [UInt64]

  /// Lays out the stack below `top`.
  ///
  /// - Parameter auxiliary: makes the auxiliary vector when the addresses of its three strings are known.
  init(
    top: UInt64, arguments: ProgramArguments, fileName: ByteString, random: (UInt64, UInt64),
    auxiliary: (_ fileName: UInt64, _ platform: UInt64, _ random: UInt64) -> [UInt64]
  ) {
    func size(_ strings: [ByteString]) -> UInt64 { strings.reduce(0) { $0 + UInt64($1.count) + 1 } }
    let nameAddress = top - 8 - UInt64(fileName.count) - 1
    let environmentStart = nameAddress - size(arguments.environment)
    argumentStart = environmentStart - size(arguments.arguments)
    argumentEnd = environmentStart
    environmentEnd = nameAddress
    let platform: ByteString = "x86_64"
    let platformAddress = argumentStart - UInt64(platform.count) - 1
    let randomAddress = (platformAddress - 16) & ~15
    auxiliaryVector = auxiliary(nameAddress, platformAddress, randomAddress)
    let words =
      1 + arguments.arguments.count + 1 + arguments.environment.count + 1 + auxiliaryVector.count
    pointer = (randomAddress - UInt64(words) * 8) & ~15

    bytes = []
    bytes.reserveCapacity(Int(top - pointer))
    append(UInt64(arguments.arguments.count))
    appendPointers(arguments.arguments, from: argumentStart)
    appendPointers(arguments.environment, from: environmentStart)
    for word in auxiliaryVector { append(word) }
    pad(to: randomAddress)
    append(random.0)
    append(random.1)
    pad(to: platformAddress)
    append(platform)
    for string in arguments.arguments { append(string) }
    for string in arguments.environment { append(string) }
    append(fileName)
    append(0)
  }

  private mutating func append(_ word: UInt64) {
    for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
  }

  private mutating func append(_ string: ByteString) {
    bytes.append(contentsOf: string.bytes)
    bytes.append(0)
  }

  private mutating func appendPointers(_ strings: [ByteString], from start: UInt64) {
    var address = start
    for string in strings {
      append(address)
      address += UInt64(string.count) + 1
    }
    append(0)
  }

  private mutating func pad(to address: UInt64) {
    let missing = Int(address - pointer) - bytes.count
    if missing > 0 { bytes.append(contentsOf: repeatElement(0, count: missing)) }
  }
}
