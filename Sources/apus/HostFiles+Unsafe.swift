// What the command asks of the host's files and environment, through libc's C interfaces.
import Glibc
import Monitor

enum HostFiles {
  /// The absolute path of an existing directory; symbolic links are resolved, since the sandbox's root is a place and
  /// not a name.
  static func directory(_ path: String, option: String) throws -> String {
    guard let resolved = resolve(path), let kind = kind(of: resolved) else { throw failure(option, path) }
    guard kind == S_IFDIR else { throw MonitorFailure("\(option): '\(path)' is not a directory") }
    return resolved
  }

  /// The absolute path of an existing regular file that may be read.
  static func readableFile(_ path: String, option: String) throws -> String {
    guard let resolved = resolve(path), let kind = kind(of: resolved) else { throw failure(option, path) }
    guard kind == S_IFREG else { throw MonitorFailure("\(option): '\(path)' is not a regular file") }
    // SAFETY: `resolved` is passed as a C string for the length of the call.
    guard unsafe access(resolved, R_OK) == 0 else { throw failure(option, path) }
    return resolved
  }

  static func isReadable(_ path: String) -> Bool {
    // SAFETY: `path` is passed as a C string for the length of the call.
    unsafe access(path, R_OK) == 0
  }

  /// Where the kernel image may be when none is named: beside the executable, or in ../lib/apus from there.
  static func defaultKernels() -> [String] {
    guard let executable = resolve("/proc/self/exe"), let slash = executable.lastIndex(of: "/") else { return [] }
    let directory = executable[..<slash]
    let parent = directory.lastIndex(of: "/").map { directory[..<$0] } ?? ""
    return ["\(directory)/kernel.elf", "\(parent)/lib/apus/kernel.elf"]
  }

  static func currentDirectory() -> String { resolve(".") ?? "/" }

  /// The absolute path of a directory, symbolic links resolved; nil when there is none.
  static func existingDirectory(_ path: String) -> String? {
    guard let resolved = resolve(path), kind(of: resolved) == S_IFDIR else { return nil }
    return resolved
  }

  /// The home directories that are known without the user database, which a static program cannot read.
  static func homeDirectories() -> [String] { ["/root"] + (variable("HOME").flatMap(resolve).map { [$0] } ?? []) }

  static func variable(_ name: String) -> String? {
    // SAFETY: getenv returns NULL or a C string, and no thread of this process changes the environment.
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }

  static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

  /// Where the command's own file is, when the sandbox does not see it anyway: the path by which it is found, and the one that
  /// symbolic links lead to. A name is looked up in PATH; of several such files one that the sandbox sees is taken.
  static func places(
    ofCommand command: String, environment: [String], in directory: String, isShown: (String) -> Bool
  ) -> [String] {
    var candidates = [command]
    if !command.contains("/") {
      let path = environment.first { $0.hasPrefix("PATH=") }?.dropFirst(5) ?? "/usr/local/bin:/usr/bin:/bin"
      candidates = path.split(separator: ":").map { "\($0)/\(command)" }
    }
    var found: [String] = []
    for candidate in candidates {
      let absolute = candidate.hasPrefix("/") ? candidate : "\(directory)/\(candidate)"
      guard let resolved = resolve(absolute), kind(of: resolved) == S_IFREG else { continue }
      // SAFETY: `resolved` is passed as a C string for the length of the call.
      guard unsafe access(resolved, X_OK) == 0 else { continue }
      if isShown(absolute), isShown(resolved) { return [] }
      let isPlain = !absolute.split(separator: "/").contains { $0 == "." || $0 == ".." }
      if found.isEmpty { found = isPlain ? [absolute, resolved] : [resolved] }
    }
    return found
  }

  /// The environment of this process as `KEY=value` strings.
  static func environment() -> [String] {
    var result: [String] = []
    // SAFETY: environ is a NULL-terminated array of C strings, and no thread of this process changes it.
    unsafe withEnvironment { entry in result.append(unsafe String(cString: entry)) }
    return result
  }

  /// Which of the standard descriptors were closed when this process started. To look for the first time opens /dev/null in their
  /// place, so that no file that is opened later gets one of these numbers.
  static let closedAtStart: [Bool] = (0..<3 as Range<Int32>).map { descriptor in
    guard fcntl(descriptor, F_GETFD) < 0 else { return false }
    // The lowest free number is this one: those below are open.
    _ = open("/dev/null", O_RDWR)
    return true
  }

  /// What a standard descriptor of this process is.
  static func kindOfStandardStream(_ descriptor: Int) -> MachineConfiguration.StandardStream {
    if closedAtStart[descriptor] { return .closed }
    return isatty(Int32(descriptor)) == 1 ? .terminal : .stream
  }

  /// The file type bits of stat(2), or nil with errno set.
  private static func kind(of path: String) -> mode_t? {
    var status = stat()
    // SAFETY: the structure is large enough for what the call stores.
    return unsafe stat(path, &status) == 0 ? status.st_mode & S_IFMT : nil
  }

  private static func resolve(_ path: String) -> String? {
    // SAFETY: realpath with a NULL buffer returns NULL or a C string that the caller frees.
    guard let resolved = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(resolved) }
    return unsafe String(cString: resolved)
  }

  private static func withEnvironment(_ body: (UnsafePointer<CChar>) -> Void) {
    // SAFETY: as in `environment`.
    var entry = unsafe environ
    while let text = unsafe entry.pointee {
      unsafe body(text)
      unsafe entry += 1
    }
  }

  private static func failure(_ option: String, _ path: String) -> MonitorFailure {
    // SAFETY: strerror returns a C string that is valid until the next call; this process has one thread here.
    MonitorFailure("\(option): '\(path)': \(unsafe String(cString: strerror(errno)))")
  }
}

/// Writes `text` to a descriptor, whole or until an error, which cannot be reported.
func write(_ text: String, to descriptor: Int32) {
  var text = text
  text.withUTF8 { bytes in
    var start = 0
    while start < bytes.count {
      // SAFETY: `start` < `bytes.count`, and withUTF8 keeps the bytes for the length of the closure.
      let count = unsafe Glibc.write(descriptor, bytes.baseAddress! + start, bytes.count - start)
      if count < 0 && errno == EINTR { continue }
      if count <= 0 { return }
      start += count
    }
  }
}
