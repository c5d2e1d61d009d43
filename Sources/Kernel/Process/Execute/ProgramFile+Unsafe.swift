// Finding the program for execve(2): checks on the file, and the chain of `#!` interpreters up to the ELF file that runs
// in the end.

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Synchronization
import VirtualMemory

/// An open program file whose right to be executed has been checked. While it exists nobody may write to the file
/// (execve(2), open(2): ETXTBSY); the tasks that run the program hold it.
final class ProgramFile {
  let file: OpenFile
  let attributes: Attributes
  /// The first bytes.
  let start: [UInt8]

  private init(_ file: OpenFile, _ attributes: Attributes) throws(Errno) {
    self.file = file
    self.attributes = attributes
    try file.inode.denyWriting()
    file.acquire()
    file.didOpen()
    do throws(Errno) {
      start = try ProgramFile.read(file, at: 0, count: ScriptHeader.length)
      file.didRead()
    } catch {
      file.inode.allowWriting()
      file.release()
      throw error
    }
  }

  deinit {
    file.inode.allowWriting()
    file.release()
  }

  /// Opens `path` for execution.
  ///
  /// - Throws: EACCES for what is no regular file, or may not be executed; ETXTBSY while it is open for writing; what the walk and the file throw.
  static func open(_ path: Path, by caller: Caller) throws(Errno) -> ProgramFile {
    let inode = path.inode
    let attributes = try inode.attributes()
    guard attributes.kind == .regular, !path.mount.flags.contains(.noExecute) else { throw .EACCES }
    try caller.check(.execute, attributes.accessControl, kind: .regular)
    guard inode.writers.load(ordering: .relaxed) <= 0 else { throw .ETXTBSY }
    return try ProgramFile(try inode.open(.readOnly, path: path, by: caller), attributes)
  }

  /// Up to `count` bytes of the file.
  static func read(_ file: OpenFile, at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var length = 0
    var failure: Errno?
    unsafe bytes.withUnsafeMutableBytes { memory in
      do throws(Errno) {
        while length < count {
          // SAFETY: the part of the array behind what was read, while the array is borrowed.
          var buffer = unsafe TransferBuffer(kernel: UnsafeMutableRawBufferPointer(rebasing: memory[length...]))
          let read = try file.read(&buffer, at: offset &+ UInt64(length))
          if read == 0 { return }
          length += read
        }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    bytes.removeLast(count - length)
    return bytes
  }

  /// The headers of an ELF file.
  func image() throws(Errno) -> ELFImage {
    let header = try ELFImage.header(start)
    guard !header.tableOffset.addingReportingOverflow(UInt64(header.tableSize)).overflow else { throw .ENOEXEC }
    let table: [UInt8]
    if header.tableOffset + UInt64(header.tableSize) <= UInt64(start.count) {
      table = Array(start[Int(header.tableOffset)..<(Int(header.tableOffset) + header.tableSize)])
    } else {
      guard header.tableOffset <= UInt64(Int64.max) else { throw .ENOEXEC }
      table = try ProgramFile.read(file, at: header.tableOffset, count: header.tableSize)
    }
    return try ELFImage.parse(header, table: table, userLimit: AddressSpace.userLimit)
  }

  /// The path of the ELF interpreter.
  func interpreterPath(_ range: Range<UInt64>) throws(Errno) -> ByteString {
    guard range.upperBound <= UInt64(Int64.max) else { throw .ENOEXEC }
    let bytes = try ProgramFile.read(file, at: range.lowerBound, count: Int(range.upperBound - range.lowerBound))
    guard bytes.count == Int(range.upperBound - range.lowerBound), bytes.last == 0 else { throw .ENOEXEC }
    return ByteString(bytes.prefix { $0 != 0 })
  }

  /// Whether the caller may read the file too.
  func isReadable(by caller: Caller) -> Bool {
    (try? caller.check(.read, attributes.accessControl, kind: .regular)) != nil
  }

  /// The capabilities that the file grants (capabilities(7)), unless the mount forbids them.
  var capabilities: FileCapabilities? {
    guard !file.path.mount.flags.contains(.noSetID) else { return nil }
    return FileTree.capabilities(of: file.inode)
  }

  /// Set-user-id and set-group-id, unless the mount forbids them.
  var setIdentities: (user: UInt32?, group: UInt32?) {
    guard !file.path.mount.flags.contains(.noSetID) else { return (nil, nil) }
    let mode = attributes.permissions
    return (
      mode & 0o4000 != 0 ? attributes.owner.user : nil,
      // Without group execution the bit means mandatory locking, historically.
      mode & 0o2010 == 0o2010 ? attributes.owner.group : nil
    )
  }
}

/// The ELF file that runs, and the arguments after all `#!` lines were applied.
struct ResolvedProgram {
  var program: ProgramFile
  var arguments: ProgramArguments
  /// What AT_EXECFN says: the name given to execve.
  var fileName: ByteString
  /// Whether the caller may read every file of the chain: what it could copy and run hides nothing from it.
  var isReadable: Bool

  /// Follows interpreters from `program` on.
  ///
  /// - Throws: ELOOP after five scripts; ENOENT when an interpreter is missing.
  init(_ program: ProgramFile, fileName: ByteString, arguments: ProgramArguments, by caller: Caller) throws(Errno) {
    self.program = program
    self.fileName = fileName
    self.arguments = arguments
    isReadable = program.isReadable(by: caller)
    // Since 5.18 Linux never starts a program without argv[0].
    if arguments.arguments.isEmpty { self.arguments.arguments = [ByteString()] }
    var name = fileName
    var depth = 0
    while let script = try ScriptHeader(self.program.start) {
      depth += 1
      guard depth <= 5 else { throw .ELOOP }
      var prefix = [script.interpreter]
      if let argument = script.argument { prefix.append(argument) }
      prefix.append(name)
      self.arguments.arguments.replaceSubrange(0..<1, with: prefix)
      name = script.interpreter
      let path = try PathWalk.resolve(script.interpreter, by: caller)
      self.program = try ProgramFile.open(path, by: caller)
      if !self.program.isReadable(by: caller) { isReadable = false }
    }
  }
}
