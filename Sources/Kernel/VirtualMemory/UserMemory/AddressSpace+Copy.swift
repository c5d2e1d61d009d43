// The copy loops below UserMemory and TransferBuffer.

import KernelCore

extension AddressSpace {
  /// Copies from user memory; returns how many bytes could be.
  @export(interface)
  public func copyIn(from address: UInt64, count: Int, to target: UnsafeMutableRawPointer) -> Int {
    unsafe transfer(address, count, .read, .byProgram) { pointer, offset, count in
      // SAFETY: `transfer` gives a range within a page that is mapped; the caller gives room for `count` bytes.
      unsafe (target + offset).copyMemory(from: pointer, byteCount: count)
    }
  }

  /// Copies to user memory; returns how many bytes could be.
  @export(interface)
  public func copyOut(to address: UInt64, from source: UnsafeRawPointer, count: Int) -> Int {
    unsafe transfer(address, count, .write, .byProgram) { pointer, offset, count in
      // SAFETY: as above.
      unsafe pointer.copyMemory(from: source + offset, byteCount: count)
    }
  }

  /// Writes zeros to user memory; returns how many bytes could be.
  @export(interface)
  public func clear(at address: UInt64, count: Int) -> Int {
    unsafe transfer(address, count, .write, .byProgram) { pointer, _, count in
      // SAFETY: as above.
      _ = unsafe pointer.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }
  }

  /// `copyIn` for a debugger: reads what the program itself could make readable; the bytes up to the first that cannot be.
  @export(interface)
  public func inspect(_ address: UInt64, count: Int) -> [UInt8] {
    unsafe [UInt8](unsafeUninitializedCapacity: max(0, count)) { buffer, initialized in
      guard let target = buffer.baseAddress else { return }
      initialized = unsafe transfer(address, count, .read, .byDebugger) { pointer, offset, count in
        // SAFETY: as above; the array has room for `count` bytes.
        unsafe UnsafeMutableRawPointer(target + offset).copyMemory(from: pointer, byteCount: count)
      }
    }
  }

  /// `copyOut` for a debugger: private memory is written although the program may not (breakpoints). Returns how many bytes
  /// could be.
  @export(interface)
  public func patch(_ address: UInt64, _ bytes: [UInt8]) -> Int {
    unsafe bytes.withUnsafeBytes { source in
      guard let base = source.baseAddress else { return 0 }
      return unsafe transfer(address, source.count, .write, .byDebugger) { pointer, offset, count in
        // SAFETY: as above.
        unsafe pointer.copyMemory(from: base + offset, byteCount: count)
      }
    }
  }

  /// Calls `body` for each page's part of the range: where it is in the direct map, its offset in the range, its length.
  @inline(__always)
  private func transfer(
    _ address: UInt64, _ count: Int, _ access: Access, _ authority: FaultAuthority,
    _ body: (UnsafeMutableRawPointer, Int, Int) -> Void
  ) -> Int {
    guard count > 0 else { return 0 }
    var done = 0
    while done < count {
      let (position, overflow) = address.addingReportingOverflow(UInt64(done))
      guard !overflow, position < Self.userLimit else { return done }
      let part = min(count - done, Int(truncatingIfNeeded: pageSize &- position & pageMask))
      guard unsafe withPage(position, access, authority, { unsafe body($0, done, part) }) else { return done }
      done += part
    }
    return done
  }

  /// Calls `body` with the place of the byte at `address`, under the table lock; false when it cannot be reached.
  @inline(__always)
  func withPage(
    _ address: UInt64, _ access: Access, _ authority: FaultAuthority, _ body: (UnsafeMutableRawPointer) -> Void
  ) -> Bool {
    guard address < Self.userLimit else { return false }
    while true {
      let isDone = tables.withLock { tables in
        guard let pointer = unsafe tables.translate(address, access, authority) else { return false }
        unsafe body(pointer)
        return true
      }
      if isDone { return true }
      do throws(FaultFailure) { try makeAccessible(address, access, authority) } catch { return false }
    }
  }
}
