// The Swift face of the VMI. The operations themselves are C functions (CMachine), inlined into their callers as
// patchable sites; this module re-exports them, so that a room says `import Machine` for all of it.

@_exported import CMachine
