// What this kernel calls itself: uname(2), /proc/version, /proc/sys/kernel.

/// `uname -s`.
public let KERNEL_NAME: StaticString = "Linux"
/// `uname -r`: programs compare it with the Linux release whose interfaces they need.
public let KERNEL_RELEASE: StaticString = "6.1.0-apus"
/// `uname -v`.
public let KERNEL_VERSION: StaticString = "#1 SMP Apus"
/// `uname -m`.
public let KERNEL_MACHINE: StaticString = "x86_64"
