// CPUID itself.

import Machine

extension ProcessorDescription {
  /// The processor that runs the caller; all CPUs of the machine are alike.
  static func current() -> ProcessorDescription {
    ProcessorDescription { leaf, subleaf in
      var registers: [UInt32] = [0, 0, 0, 0]
      // SAFETY: the operation writes the four registers into the array of four.
      unsafe registers.withUnsafeMutableBufferPointer { unsafe machine_cpuid(leaf, subleaf, $0.baseAddress!) }
      return registers
    }
  }
}
