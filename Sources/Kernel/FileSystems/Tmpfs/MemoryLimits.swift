// How large a tmpfs may become when its options do not say so.

import PhysicalMemory

enum MemoryLimits {
  /// Pages of memory in this machine.
  static var memory: Int { MemoryStatistics.snapshot().total }

  /// Half of them: tmpfs's default size. No limit while the machine's memory is not known.
  static var halfOfMemory: Int {
    let memory = memory
    return memory > 1 ? memory / 2 : .max
  }
}
