import KernelCore
import LinuxABI
import Testing

@testable import Sysfs

@Suite struct SysTreeTests {
  @Test func `sets are lists with ranges, and masks of 32 bits each`() {
    #expect(SysText.list(0) == "" && SysText.list(1) == "0" && SysText.list(0b1111) == "0-3")
    #expect(SysText.list(0b1100_1011) == "0-1,3,6-7" && SysText.list(.max) == "0-63")
    #expect(SysText.mask(0xf) == "00000000,0000000f" && SysText.mask(1 << 35) == "00000008,00000000")
  }
}
