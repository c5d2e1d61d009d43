// The device files of terminals: /dev/tty (whatever controls the caller), /dev/console (the host's terminal), /dev/ptmx
// (a new pseudo-terminal) and the terminal sides by number. Device numbers as in Linux's devices.txt.

import FileSystem
import KernelCore
import LinuxABI

enum TerminalDevices {
  /// Announces the device files and the devpts file system.
  static func register(console: Terminal?) {
    DeviceFiles.register(major: 5, minor: 0, name: "tty") { path, flags, caller throws(Errno) in
      guard let terminal = JobControlPolicy.installed?.caller()?.controllingTerminal as? Terminal else { throw .ENXIO }
      return try TerminalFile.open(terminal, path: path, flags: flags, mayControl: false)
    }
    DeviceFiles.register(major: 5, minor: 1, name: "console", permissions: 0o600) {
      path, flags, caller throws(Errno) in
      guard let console else { throw .ENODEV }
      return try TerminalFile.open(console, path: path, flags: flags, mayControl: false)
    }
    DeviceFiles.register(major: 5, minor: 2, name: "ptmx") { path, flags, caller throws(Errno) in
      let owner = caller.fileSystemOwner
      let terminal = try PseudoTerminals.make(owner: owner, on: path.inode.superblock.device)
      return PseudoTerminalMaster(terminal, path: path, flags: flags)
    }
    DeviceFiles.register(
      major: PseudoTerminals.major, minor: 0, minors: UInt32(PseudoTerminals.limit), name: nil, driver: "pts"
    ) { path, flags, caller throws(Errno) in
      let number = try path.inode.attributes().specialDevice
      guard let terminal = PseudoTerminals.find(Int(number.minor)) else { throw .EIO }
      if terminal.isLocked { throw .EIO }
      return try TerminalFile.open(terminal, path: path, flags: flags, mayControl: true)
    }
    FileSystemTypes.register("devpts") { _, _, _ throws(Errno) in DevptsSuperblock() }
  }
}
