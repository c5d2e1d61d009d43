// The map of the reserved region at the top of every user process, and of the page at the bottom, shared by C and
// assembly.
//
//   UM_GATE        below all guest memory: the table of entries for code whose `syscall` was replaced, read-only
//   UM_CODE        the stub's code, read-execute
//   UM_CONSTANTS   read-only: table of acknowledgement values, filter programs
//   UM_ZYGOTE_RING commands for the zygote (mapped in the zygote only)
//   UM_RING        commands for the mapper: read-only here, written by the kernel process
//   UM_PARAMETERS  64 bytes for each thread: read-only here, written by the kernel process
//   UM_REPORTS     16 KiB for each thread, read-write on both sides while the thread exists: the event and the alternate
//                  signal stack. Out of reach, and without memory, otherwise: what a process can write here is charged
//                  by its threads
//   UM_HOST_CLOCK  the host's vDSO with its data before it, read-execute and read-only; absent where it is odd
//
// The stub memfd holds code and constants, and is sealed: nothing can change it, the kernel process included. The control
// memfd holds the zygote's ring, then a slot for each user process with its ring, parameters and reports.

#ifndef UM_LAYOUT_H
#define UM_LAYOUT_H

#define UM_LIMIT 0x7ffff0000000
#define UM_TASK_END 0x7ffffffff000

// Guest memory begins here. What lies below is reached by a jump through an absolute address of 32 bits.
#define UM_USER_START 0x20000
#define UM_GATE 0x10000
#define UM_GATE_SIZE 0x1000
#define UM_GATE_ENTRIES 512      // one for each number; the last: the number is in rax

#define UM_CODE UM_LIMIT
#define UM_CONSTANTS (UM_LIMIT + 0x10000)
#define UM_ZYGOTE_RING (UM_LIMIT + 0x20000)
#define UM_RING (UM_LIMIT + 0x30000)
#define UM_PARAMETERS (UM_LIMIT + 0x40000)
#define UM_REPORTS (UM_LIMIT + 0x1000000)
#define UM_HOST_CLOCK (UM_LIMIT + 0x3000000)
#define UM_HOST_CLOCK_SIZE 0x20000

// Sizes, and offsets in the stub memfd and in the control memfd.
#define UM_PART 0x10000            // code, constants, ring, parameters: each
#define UM_REPORT_SHIFT 14
#define UM_REPORT_SIZE 0x4000
#define UM_REPORTS_SIZE 0x1000000  // 1,024 threads
#define UM_STUB_CODE 0
#define UM_STUB_CONSTANTS 0x10000
#define UM_STUB_SIZE 0x20000
#define UM_CONTROL_ZYGOTE_RING 0x20000
#define UM_CONTROL_SLOTS 0x30000
#define UM_SLOT_SIZE (2 * UM_PART + UM_REPORTS_SIZE)
#define UM_SLOT_RING 0
#define UM_SLOT_PARAMETERS UM_PART
#define UM_SLOT_REPORTS (2 * UM_PART)

// In the constants: 4,096 acknowledgement values (value = place + 1), then the filters as struct sock_fprog.
#define UM_ACKNOWLEDGEMENTS UM_CONSTANTS
#define UM_ACKNOWLEDGEMENT_COUNT 4096
#define UM_MAPPER_FILTER (UM_CONSTANTS + 0x8000)
#define UM_USER_FILTER (UM_CONSTANTS + 0x9000)
#define UM_STUB_FLAGS (UM_CONSTANTS + 0xa000)
#define UM_STUB_FLAG_UNFILTERED 1
#define UM_XSTATE_FEATURES (UM_CONSTANTS + 0xa008)
#define UM_ZYGOTE_FILTER (UM_CONSTANTS + 0xc000)
#define UM_GATE_TABLE (UM_CONSTANTS + 0xb000)  // what is shown at UM_GATE

// A ring: the count of published commands (a futex), then entries of 64 bytes: number, six arguments, one operand.
#define UM_RING_ENTRIES 0x1000
#define UM_RING_CAPACITY 256
#define UM_ENTRY_SHIFT 6
#define UM_ENTRY_NUMBER 0
#define UM_ENTRY_ARGUMENTS 8
#define UM_ENTRY_OPERAND 56

// Numbers that are not system calls.
#define UM_COMMAND_SPECIAL 0x1000
#define UM_COMMAND_ACKNOWLEDGE 0x1000   // write the first error since the last acknowledgement to descriptor rdi
#define UM_COMMAND_REPORT_LOW 0x1001    // write bits 0–11 of the last clone's result to descriptor rdi
#define UM_COMMAND_REPORT_HIGH 0x1002   // write bits 12–23
#define UM_COMMAND_PROCESS 0x1003       // clone; the child obeys the ring at `operand`
#define UM_COMMAND_RESUME 0x1005        // resume the user thread with the report at rdi, as its number esi
#define UM_COMMAND_PARENT 0x1006        // end the process unless its parent is process edi
#define UM_COMMAND_THREAD 0x1004        // clone; the child is the user thread of the parameters at `operand`

// Parameters of a thread.
#define UM_PARAMETER_SHIFT 6
#define UM_PARAMETER_ASLEEP 0    // u32: 1 while the kernel process sleeps and wants a wake-up for the event
#define UM_PARAMETER_SPIN 8      // TSC ticks
#define UM_PARAMETER_FS 16
#define UM_PARAMETER_GS 24
#define UM_PARAMETER_FRAME 32    // the ucontext to continue with; 0: return through the gate; UM_FRAME_END: end the thread
#define UM_PARAMETER_RESULT 40   // rax for that
#define UM_FRAME_END 1           // odd, as no ucontext's address is

// Report of a thread. The alternate signal stack begins at UM_REPORT_STACK, and nothing but the host writes above it: where
// the kernel process builds a frame of its own, and where the gate saves the extended state, lie below, because in the gate
// a signal may come when the stack pointer is at that frame already. The host then begins at the top of the stack.
#define UM_REPORT_EVENT 0        // u32, futex: the resumption that the thread has finished
#define UM_REPORT_SIGNAL 4       // u32
#define UM_REPORT_FRAME 8        // the ucontext
#define UM_REPORT_FS 16
#define UM_REPORT_GS 24
#define UM_REPORT_RESUME 36      // u32: counts resumptions; written by the kernel process, or by the mapper for it
#define UM_REPORT_AWAKE 32       // u32, futex: 0 while the thread sleeps and wants a wake-up for its resumption
#define UM_REPORT_DEFERRED 40    // u32: 1 when a preemption signal met the thread in the gate
#define UM_REPORT_SAVED 64       // registers of a call through the gate: struct um_saved
#define UM_BUILT_FRAME 256
#define UM_BUILT_EXTENDED 1024
#define UM_REPORT_STACK 4096
// Values of UM_REPORT_SIGNAL that are no signals of the host.
#define UM_REPORT_CALL 101       // a system call through the gate
#define UM_REPORT_AGAIN 102      // preempted before anything of the program ran

// The offsets of registers in the host's ucontext.
#define UM_CONTEXT_R12 72
#define UM_CONTEXT_RBX 128
#define UM_CONTEXT_RIP 168

// Descriptors of a user process.
#define UM_FD_MEMORY 0
#define UM_FD_CONTROL 1          // closed in user processes, open in the zygote
#define UM_FD_EVENTS 2           // one eventfd for each CPU, one for the maker of processes; behind them the stub memfd,
                                 // closed once the zygote has mapped it

#define UM_PREEMPT_SIGNAL 10     // SIGUSR1

#endif
