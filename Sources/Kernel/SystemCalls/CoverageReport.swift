// The table as a Markdown page: Documentation/coverage.md is this text. It is made on the host, where the table can be
// constructed as well as in the kernel.

import KernelCore
import LinuxABI

/// Writes Documentation/coverage.md.
public enum CoverageReport {
  /// The page. Calls of Linux that are missing from the table are listed as absent.
  @export(interface)
  public static func markdown() -> String {
    let names = SystemCallNames.all
    var full = 0
    var partial = 0
    var absent = 0
    var rows = ""
    for (number, name) in names {
      var coverage = "absent"
      var remark = ""
      if let call = SystemCallTable.call(UInt64(number)) {
        switch call.coverage {
        case .full:
          coverage = "full"
          full += 1
        case .partial(let why):
          coverage = "partial"
          remark = ByteString(why).string
          partial += 1
        }
      } else {
        absent += 1
      }
      rows += "| \(number) | `\(ByteString(name).string)` | \(coverage) | \(remark) |\n"
    }
    return """
      # System calls

      Made from the kernel's table (`SystemCallTable`); do not edit. A call that is absent returns ENOSYS.

      \(full) full, \(partial) partial, \(absent) absent.

      | number | call | coverage | what is missing |
      |---:|---|---|---|
      \(rows)
      """
  }
}
