// Barriers for branch predictors, between programs of different users that one process serves in turn.
//
// What a program has taught the predictors of a CPU steers speculation in the next program at the same addresses, whose secrets may
// then be read from the caches. Between processes the host decides whether a barrier is worth its price; between two programs
// in one process it sees nothing to decide. So when a process changes its user, a barrier is due on each host CPU before the new
// program first runs there.
//
// A process without privileges gets the barrier by a side effect: forbidding indirect branch speculation for a thread
// (prctl(2), PR_SPEC_INDIRECT_BRANCH) clears what the CPU has learnt, since Linux 6.2; and is taken back at once. Where the host's
// administrator has fixed the setting, or the host is older, there is none, and no process serves two users.

#include "internal.h"

#include <linux/prctl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/utsname.h>

#ifndef PR_SPEC_INDIRECT_BRANCH
#define PR_SPEC_INDIRECT_BRANCH 1
#endif

static int64_t speculation(uint64_t setting) {
  return um_call3(SYS_prctl, PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, setting);
}

static bool clears_at_once(void) {
  struct utsname name;
  if (uname(&name) != 0) return false;
  char *end;
  long major = strtol(name.release, &end, 10);
  return major > 6 || (major == 6 && *end == '.' && strtol(end + 1, NULL, 10) >= 2);
}

void um_barrier_probe(void) {
  int64_t state = um_call2(SYS_prctl, PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH);
  um.needs_barrier = state != PR_SPEC_NOT_AFFECTED;
  um.has_barrier = !um.needs_barrier;
  if (um.config.test_switches & UM_TEST_NO_BARRIER) um.has_barrier = false;
  else if (state == (PR_SPEC_PRCTL | PR_SPEC_ENABLE) && clears_at_once())
    um.has_barrier = speculation(PR_SPEC_DISABLE) == 0 && speculation(PR_SPEC_ENABLE) == 0;
}

void um_barrier(struct um_cpu *cpu, int32_t host_cpu) {
  um.barriers++;
  if (!um.needs_barrier) return;
  int32_t here = cpu->host_cpu, thread = (int32_t)um_call1(SYS_gettid, 0);
  if (host_cpu != here) um_place(&here, thread, host_cpu);
  speculation(PR_SPEC_DISABLE);
  speculation(PR_SPEC_ENABLE);
  if (host_cpu != cpu->host_cpu) um_place(&here, thread, cpu->host_cpu);
}
