import Block
import KernelCore
import LinuxABI
import Scheduling
import Testing

@testable import Procfs
@testable import VirtualMemory

extension TextBuffer {
  fileprivate var string: String { String(decoding: bytes, as: UTF8.self) }
}

@Suite struct SystemFormatTests {
  @Test func `the version line begins as programs expect it`() {
    let line = SystemFormat.version().string
    #expect(line.hasPrefix("Linux version 6.1.0-apus "))
    #expect(line.hasSuffix("\n") && !line.dropLast().contains("\n"))
  }

  @Test func `uptime has two numbers with two decimals`() {
    #expect(SystemFormat.uptime(12_345_678_901, idle: 1_059_999_999).string == "12.34 1.05\n")
  }

  @Test func `load averages are rounded to hundredths`() {
    let averages: [UInt64] = [2048, 1024, 2047]
    #expect(
      SystemFormat.loadAverage(averages, running: 1, threads: 3, lastPid: 17).string == "1.00 0.50 1.00 1/3 17\n")
  }

  @Test func `the load average approaches a constant load and forgets it`() {
    var averages: [UInt64] = [0, 0, 0]
    LoadAverage.advance(&averages, periods: 12, active: 1)
    // After one minute the first average has covered 1 - 1/e of the way.
    #expect(averages[0] > 1200 && averages[0] < 1350)
    #expect(averages[0] > averages[1] && averages[1] > averages[2])
    LoadAverage.advance(&averages, periods: .max, active: 0)
    #expect(averages.allSatisfy { $0 < 110 })
  }

  @Test func `meminfo lines are as wide as Linux's`() {
    let text = SystemFormat.memory([("MemTotal", 16_303_248), ("MemFree", 5), ("Active(anon)", -1)]).string
    #expect(text == "MemTotal:       16303248 kB\nMemFree:               5 kB\nActive(anon):          0 kB\n")
  }

  @Test func `stat sums the CPUs in ticks`() {
    var statistics = SystemFormat.Statistics()
    statistics.cpus = [
      .init(user: 1_000_000_000, system: 500_000_000, idle: 0),
      .init(user: 20_000_000, system: 0, idle: 9_990_000_000),
    ]
    statistics.contextSwitches = 7
    statistics.bootTime = 1_700_000_000
    let lines = SystemFormat.statistics(statistics).string.split(separator: "\n")
    #expect(lines[0] == "cpu  102 0 50 999 0 0 0 0 0 0")
    #expect(lines[1] == "cpu0 100 0 50 0 0 0 0 0 0 0")
    #expect(lines[2] == "cpu1 2 0 0 999 0 0 0 0 0 0")
    #expect(lines.contains("btime 1700000000"))
    #expect(lines.contains("ctxt 7"))
  }

  @Test func `disks and swap areas are listed as Linux lists them`() {
    var disk = SystemFormat.Disk(major: 254, minor: 16, name: "vdb", sectorCount: 4096)
    disk.statistics.reads.count = 3
    disk.statistics.reads.nanoseconds = 5_999_999
    disk.statistics.flushes.count = 7
    #expect(
      SystemFormat.partitions([disk]).byteString.string
        == "major minor  #blocks  name\n\n 254       16       2048 vdb\n")
    #expect(
      SystemFormat.diskStatistics([disk]).byteString.string
        == " 254      16 vdb 3 0 0 5 0 0 0 0 0 0 0 0 0 0 0 7 0\n")
    let area = SwapAreaStatistics(name: "/dev/vdb", isFile: false, size: 262_143, used: 5, priority: -2)
    #expect(
      SystemFormat.swaps([area]).byteString.string.split(separator: "\n").last.map(String.init)
        == "/dev/vdb                                partition\t1048572\t\t20\t\t-2")
  }

  @Test func `a UUID says version 4 and variant 1`() {
    #expect(SystemFormat.uuid(.max, .max).string == "ffffffff-ffff-4fff-bfff-ffffffffffff\n")
    #expect(SystemFormat.uuid(0, 0).string == "00000000-0000-4000-8000-000000000000\n")
  }

  @Test func `CPU lists use ranges`() {
    func list(_ mask: UInt64) -> ByteString {
      var text = TextBuffer()
      text.append(rangesOf: mask)
      return text.byteString
    }
    #expect(list(0b1).string == "0")
    #expect(list(0b10_1111).string == "0-3,5")
    #expect(list(.max).string == "0-63")
    #expect(list(0).string == "")
  }

  @Test func `cpuinfo describes a processor from its CPUID leaves`() {
    let description = ProcessorDescription { leaf, _ in
      switch leaf {
      case 0: [7, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]
      case 1: [0x0005_0657, 8 << 8, 1 << 28, 1 << 26 | 1 << 25]
      case 7: [0, 1 << 5, 0, 0]
      case 0x8000_0000: [0x8000_0008, 0, 0, 0]
      case 0x8000_0002: [0x2055_5043, 0, 0, 0]
      case 0x8000_0008: [48 << 8 | 46, 0, 0, 0]
      default: [0, 0, 0, 0]
      }
    }
    #expect(description.vendor.string == "GenuineIntel")
    #expect(description.family == 6 && description.model == 0x55 && description.stepping == 7)
    let text = description.text(count: 2).string
    #expect(text.contains("flags\t\t: sse sse2 avx avx2\n"))
    #expect(text.contains("model name\t: CPU\n"))
    #expect(text.components(of: "processor\t: ") == 2)
    #expect(text.contains("46 bits physical, 48 bits virtual"))
  }
}

extension String {
  fileprivate func components(of separator: String) -> Int {
    var count = 0
    var rest = self[...]
    while let range = rest.firstRange(of: separator) {
      count += 1
      rest = rest[range.upperBound...]
    }
    return count
  }
}

@Suite struct ProcessFormatTests {
  private func sample() -> TaskSnapshot {
    var task = TaskSnapshot()
    task.tid = 42
    task.pid = 42
    task.parent = 2
    task.group = 42
    task.session = 2
    task.name = "a (b) c"
    task.state = 0x52
    task.userTime = 1_230_000_000
    task.systemTime = 40_000_000
    task.startTime = 5_000_000_000
    task.hasMemory = true
    task.totalPages = 1000
    task.residentPages = 300
    task.anonymousPages = 100
    task.objectPages = 200
    task.users = [0, 1, 2, 3]
    task.supplementaryGroups = [5, 10]
    task.blocked = 1 << 33 | 1
    task.affinity = 0b11
    return task
  }

  @Test func `stat has 52 fields, and the name may hold anything`() {
    let line = ProcessFormat.stat(sample()).string
    // Parsers look for the last parenthesis.
    let end = line.lastIndex(of: ")")!
    #expect(line[...end] == "42 (a (b) c)")
    let fields = line[line.index(after: end)...].split(separator: " ").map { $0.trimmingNewline }
    #expect(fields.count == 50)
    #expect(fields[0] == "R" && fields[1] == "2" && fields[2] == "42" && fields[3] == "2")
    #expect(fields[11] == "123" && fields[12] == "4")  // utime, stime
    #expect(fields[15] == "20" && fields[16] == "0")  // priority, nice
    #expect(fields[19] == "500")  // starttime
    #expect(fields[20] == "4096000" && fields[21] == "300")  // vsize, rss
    #expect(fields[29] == "1")  // blocked: the first 31 signals
  }

  @Test func `status has the lines that ps and top read`() {
    let lines = ProcessFormat.status(sample()).string.split(separator: "\n").map(String.init)
    #expect(lines[0] == "Name:\ta (b) c")
    #expect(lines.contains("State:\tR (running)"))
    #expect(lines.contains("Uid:\t0\t1\t2\t3"))
    #expect(lines.contains("Groups:\t5 10 "))
    #expect(lines.contains("VmRSS:\t    1200 kB"))
    #expect(lines.contains("SigBlk:\t0000000200000001"))
    #expect(lines.contains("Cpus_allowed_list:\t0-1"))
    var zombie = sample()
    zombie.hasMemory = false
    zombie.state = 0x5a
    let text = ProcessFormat.status(zombie).string
    #expect(text.contains("State:\tZ (zombie)\n") && !text.contains("VmSize"))
  }

  @Test func `a name cannot break its line`() {
    #expect(ProcessFormat.escaped("a\nb\\").string == "a\\nb\\\\")
  }

  @Test func `statm has seven numbers`() {
    #expect(ProcessFormat.statm(sample()).string == "1000 300 200 0 0 0 0\n")
  }

  @Test func `limits are in columns`() {
    let text = ProcessFormat.limits([
      .init(name: "Max cpu time", soft: nil, hard: nil, unit: "seconds"),
      .init(name: "Max open files", soft: 1024, hard: 4096, unit: "files"),
    ]).string
    let expected =
      "Limit                     Soft Limit           Hard Limit           Units     \n"
      + "Max cpu time              unlimited            unlimited            seconds   \n"
      + "Max open files            1024                 4096                 files     \n"
    #expect(text == expected)
  }

  @Test func `maps lines have their names in column 73`() {
    var line = MapLine(
      start: 0x5555_5555_4000, end: 0x5555_5555_6000, isReadable: true, isWritable: false, isExecutable: true,
      isShared: false, offset: 0x2000)
    line.minor = 0x2a
    line.inode = 1234
    line.name = "/bin/a b"
    var text = TextBuffer()
    MemoryMapFormat.append(line, to: &text)
    #expect(
      text.string == "555555554000-555555556000 r-xp 00002000 00:2a 1234                       /bin/a b\n")
    var anonymous = TextBuffer()
    line.name = ByteString()
    line.isShared = true
    MemoryMapFormat.append(line, to: &anonymous)
    #expect(anonymous.string == "555555554000-555555556000 r-xs 00002000 00:2a 1234 \n")
  }

  @Test func `the name of a mapping is its two addresses in one spelling`() {
    #expect(MappedFileName.of(0x1000..<0x7fff_0000_2000) == "1000-7fff00002000")
    #expect(MappedFileName.range("1000-7fff00002000") == 0x1000..<0x7fff_0000_2000)
    for name in [
      "", "-", "1000", "1000-", "-1000", "01000-2000", "1000-02000", "2000-1000", "1000-1000", "1000-2000-3000",
      "A000-b000", "1000-2000 ", "10000000000000000-20000000000000000", "1000-fffffffffffffffff",
    ] as [ByteString] {
      #expect(MappedFileName.range(name) == nil)
    }
  }

  @Test func `mount lines escape what would split them`() {
    let line = MountLine(
      identifier: 3, parent: 1, major: 0, minor: 5, root: "/", mountPoint: "/mnt/a b", options: "rw,nosuid",
      type: "tmpfs", source: "none", superOptions: "rw,size=1k")
    #expect(MountFormat.mounts([line]).string == "none /mnt/a\\040b tmpfs rw,nosuid,size=1k 0 0\n")
    #expect(
      MountFormat.mountInformation([line]).string == "3 1 0:5 / /mnt/a\\040b rw,nosuid - tmpfs none rw,size=1k\n")
  }
}

extension Substring {
  fileprivate var trimmingNewline: Substring { hasSuffix("\n") ? dropLast() : self }
}
