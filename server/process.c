/* What the process asks of the system for itself. Nothing here can fail in a way that matters: what
 * the system refuses is done without. */
#include "server/process.h"

#include <errno.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FDS_RESERVED = 256, /* model files, handles of the loop, the device */
    CONNS_MIN = 16,
};

int32_t process_make_room(int32_t wanted)
{
    struct rlimit files = {0};
    if (getrlimit(RLIMIT_NOFILE, &files))
        return wanted;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur == RLIM_INFINITY)
        return wanted;
    rlim_t room =
        files.rlim_cur > FDS_RESERVED + CONNS_MIN ? files.rlim_cur - FDS_RESERVED : CONNS_MIN;
    return room < (rlim_t)wanted ? (int32_t)room : wanted;
}

/* The kernel's struct sched_attr; libc has it only in newer versions. */
struct time_slice {
    uint32_t size;
    uint32_t policy; /* 0: the ordinary one */
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
};

enum { LOOP_SLICE_NS = 100000, RESET_ON_FORK = 1 };

/* The loop works for microseconds at a time while the compute threads fill every core; from Linux
 * 6.12 on a short slice lets it in as soon as it wakes, where else tokens wait for the next tick
 * and leave in lumps. Threads started from here get the usual slice. Elsewhere nothing changes,
 * which is fine. */
void process_wakes_early(void)
{
    errno = 0;
    struct time_slice t = {.size = sizeof(t),
                           .flags = RESET_ON_FORK,
                           .nice = getpriority(PRIO_PROCESS, 0),
                           .runtime_ns = LOOP_SLICE_NS};
    if (errno == 0)
        (void)syscall(SYS_sched_setattr, 0, &t, 0);
}
