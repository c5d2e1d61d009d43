// The layers between a monitor that fell to its guest and the host, besides the seccomp filters (confinement.c): what of the
// host the process can still name. Each layer works without the others, and a host may lack any of them.

#ifndef ISOLATION_H
#define ISOLATION_H

#include <stddef.h>
#include <stdint.h>

enum monitor_layer {
  MONITOR_LAYER_MOUNTS,     // a mount namespace whose root is empty but for /proc
  MONITOR_LAYER_NETWORK,    // a network namespace without interfaces
  MONITOR_LAYER_IPC,        // namespaces of System V IPC and of host names
  MONITOR_LAYER_FILES,      // Landlock: files are opened beneath the exports only
  MONITOR_LAYER_SIGNALS,    // Landlock: signals and abstract sockets reach processes of this sandbox only
  MONITOR_LAYER_IDENTITY,   // root's identity is given up for one that no account has
  MONITOR_LAYER_PRIVILEGES, // capabilities are given up, but those that serve the exports
  MONITOR_LAYER_COUNT
};

// What may be done beneath a directory or with a file, as sets of Landlock's rights.
enum monitor_rights {
  MONITOR_LIST = 1,        // read directories
  MONITOR_READ = 2,        // read files
  MONITOR_WRITE = 4,       // write, make, remove and rename all but devices
  MONITOR_MAKE_DEVICES = 8,
};

// A new set of rules; a descriptor or a negative error number. `writes`: rules with MONITOR_WRITE will follow.
int64_t monitor_rules_make(int writes);
// Allows `rights`, a set of monitor_rights, beneath `path`, the symbolic link itself excepted. 0 or a negative error number.
int64_t monitor_rules_allow(int rules, const char *path, uint32_t rights);
// The same for each entry of a directory that every user of the host may read, without those in `except`: names that each end
// with a NUL, the last with two.
int64_t monitor_rules_allow_public(int rules, const char *path, const char *except, uint32_t rights);

// The host's namespaces that a process can leave: flags of unshare(2).
enum monitor_namespace {
  MONITOR_NAMESPACE_USER = 0x10000000, MONITOR_NAMESPACE_MOUNTS = 0x00020000, MONITOR_NAMESPACE_NETWORK = 0x40000000,
  MONITOR_NAMESPACE_IPC = 0x08000000, MONITOR_NAMESPACE_NAMES = 0x04000000,
};

struct monitor_isolation {
  int rules;              // of monitor_rules_make; closed. A negative number is the reason why there are none
  int writes;             // an export is writable
  int makes_devices;      // and devices, set-ID bits and security attributes reach it
  int keeps_identity;
  int64_t results[MONITOR_LAYER_COUNT];  // 0, or why the layer is missing: a negative error number
};
// Sets up all layers that the host permits; they cannot be taken down again. The process must have one thread. Threads and processes made
// later inherit them.
void monitor_isolate(struct monitor_isolation *isolation);

// Sets up all layers in a process of its own, to see which of them the host permits.
void monitor_probe_isolation(struct monitor_isolation *isolation);

#endif
