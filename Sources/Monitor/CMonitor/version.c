// Which commit the program was built from. Scripts/stamp.sh writes it behind the mark when the program is linked: a source file
// would have to be compiled again, and the program linked, after each commit.
#include "monitor.h"

#define MARK "apus-commit="
static const volatile char commit[64] = MARK;

const char *monitor_commit(void) { return (const char *)commit + sizeof MARK - 1; }
