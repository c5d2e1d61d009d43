// What the host is: read once, for `apus info` and for defaults. What the user machine needs of it is that room's
// `HostCapabilities`.
import Glibc

struct HostProbe: Equatable {
  /// System, release and processor architecture, as uname(2) gives them.
  var kernel = ""
  var processor = ""
  var onlineCPUs = 0
  var usableCPUs = 0
  var memoryBytes: UInt64 = 0
  /// Whether /dev/kvm may be opened. No judgement of its speed.
  var hasKVM = false

  static func measure() -> HostProbe {
    var probe = HostProbe()
    probe.kernel = kernelVersion()
    probe.processor = field("model name", of: "/proc/cpuinfo") ?? "unknown"
    probe.onlineCPUs = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    probe.usableCPUs = usableCPUs()
    probe.memoryBytes = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
    // SAFETY: the path is a C string for the length of the call.
    probe.hasKVM = unsafe access("/dev/kvm", R_OK | W_OK) == 0
    return probe
  }

  /// The CPUs that this process may run on: the bits of `Cpus_allowed` (proc_pid_status(5)), a hexadecimal mask.
  static func usableCPUs() -> Int {
    let mask = field("Cpus_allowed", of: "/proc/self/status") ?? ""
    return max(1, mask.reduce(0) { $0 + ($1.hexDigitValue ?? 0).nonzeroBitCount })
  }

  private static func kernelVersion() -> String {
    var name = utsname()
    // SAFETY: uname fills every field with a NUL-terminated string that fits.
    guard unsafe uname(&name) == 0 else { return "unknown" }
    return [text(&name.sysname), text(&name.release), text(&name.machine)].joined(separator: " ")
  }

  /// The string in a fixed array of characters.
  private static func text<Characters>(_ characters: inout Characters) -> String {
    // SAFETY: the callers pass arrays that uname(2) has terminated.
    unsafe withUnsafeBytes(of: &characters) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  /// The value of the first line `name: value` within the first few thousand bytes of a file of /proc.
  private static func field(_ name: String, of path: String) -> String? {
    // SAFETY: the path is a C string for the length of the call.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    // SAFETY: the capacity bounds the read, and only what was read counts as initialised.
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
      count = unsafe max(0, read(descriptor, buffer.baseAddress, buffer.count))
    }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      // The name is padded with tabs in /proc/cpuinfo.
      if line[..<colon].split(separator: "\t").first == name[...] {
        return String(line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" })
      }
    }
    return nil
  }
}
