// Prints Documentation/coverage.md from the kernel's own system-call table, constructed on the host.
import SystemCalls

print(CoverageReport.markdown(), terminator: "")
