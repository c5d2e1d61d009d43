#!/usr/bin/env python3
# Attacks the zygote, the process from which user processes are cloned, as a kernel process that fell to its guest would: it
# writes a command into the zygote's ring and wakes it. The zygote must not execute a host program, open a file or make a
# socket, but end. The control is a command that the zygote may execute: it ends itself.
#
# host: @
# expect: ok control: exit_group: the zygote obeyed, nothing escaped
# expect: ok execve: the zygote ended, nothing escaped
# expect: ok openat: the zygote ended, nothing escaped
# expect: ok socket: the zygote ended, nothing escaped
# expect: ok kill: the zygote ended, nothing escaped
# expect: ok clone into a new namespace: the zygote ended, nothing escaped
# expect: ok mmap of its own ring, writable: the zygote ended, nothing escaped
# expect: ok prctl that lets it dump: the zygote ended, nothing escaped
# expect: ok seccomp with a filter of the attacker's: the zygote ended, nothing escaped
# reject: NOT OK.*
import ctypes, mmap, os, signal, struct, subprocess, sys

RING, ENTRIES, CAPACITY, TEXT = 0x20000, 0x1000, 128, 0x9000  # layout.h; TEXT is unused room behind the entries
ADDRESS = 0x7FFFF0020000  # of the ring in the zygote
PROGRAM = [ADDRESS + TEXT, ADDRESS + TEXT + 0x400, ADDRESS + TEXT + 0x418]  # path, arguments and environment of execve
libc = ctypes.CDLL(None, use_errno=True)


def children(process):
    found = []
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/stat') as file:
                fields = file.read().rsplit(')', 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != 'Z':
            found.append(int(name))
    return sorted(found)


def has_ring(process):
    try:
        with open(f'/proc/{process}/maps') as maps:
            areas = [[int(end, 16) for end in line.split()[0].split('-')] for line in maps]
            return any(start <= ADDRESS < end for start, end in areas)
    except OSError:
        return False


def attack(title, number, arguments, verb='ended'):
    marker = os.path.join(os.environ['SCRATCH'], 'escaped')
    sandbox = subprocess.Popen([os.environ['APUS'], 'run', '--', 'busybox', 'sh', '-c', 'echo ready; read x'],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert sandbox.stdout.readline() == b'ready\n'
    # The zygote alone has its ring mapped; a process that has just been cloned has it for a moment.
    zygote = min(child for child in children(sandbox.pid) if has_ring(child))
    files = f'/proc/{sandbox.pid}/fd'
    control = next(f for f in os.listdir(files) if 'apus-control' in os.readlink(f'{files}/{f}'))
    memory = mmap.mmap(os.open(f'{files}/{control}', os.O_RDWR), 0x30000)
    program = f'/bin/sh\0-c\0touch {marker}\0'.encode()
    memory[RING + TEXT:RING + TEXT + len(program)] = program
    memory[RING + TEXT + 0x400:RING + TEXT + 0x420] = struct.pack('<4Q', ADDRESS + TEXT, ADDRESS + TEXT + 8, ADDRESS + TEXT + 11, 0)
    published = struct.unpack_from('<I', memory, RING)[0]
    # Behind the attack a program: where the attack does not end the zygote, the program's mark shows it.
    for number, arguments in (number, arguments), (59, PROGRAM):
        place = RING + ENTRIES + published % CAPACITY * 64
        memory[place:place + 64] = struct.pack('<8Q', number, *(arguments + [0] * (6 - len(arguments))), 0)
        published += 1
    struct.pack_into('<I', memory, RING, published)
    word = (ctypes.c_char * 0x30000).from_buffer(memory)
    libc.syscall(202, ctypes.c_void_p(ctypes.addressof(word) + RING), 1, 1, None, None, 0)
    while zygote in children(sandbox.pid) and not os.path.exists(marker):
        os.sched_yield()
    escaped = os.path.exists(marker)
    sandbox.kill()
    sandbox.wait()
    print('NOT OK' if escaped else 'ok', f'{title}: the zygote {verb},', 'a program ran on the host' if escaped else 'nothing escaped', flush=True)


attack('control: exit_group', 231, [7], 'obeyed')
attack('execve', 59, PROGRAM)
attack('openat', 257, [2**64 - 100, PROGRAM[0], 0])
attack('socket', 41, [2, 1, 0])
attack('kill', 62, [os.getpid(), 0])
attack('clone into a new namespace', 56, [0x10000000])
attack('mmap of its own ring, writable', 9, [ADDRESS, 0x10000, 3, 0x11, 1, RING])
attack('prctl that lets it dump', 157, [4, 1])
attack("seccomp with a filter of the attacker's", 317, [1, 0, PROGRAM[0]])
