/* Foreign watchers: numbers that others may close at any moment. libuv's tables are not
 * made for that (it aborts), so they sit in an epoll or kqueue set of ours behind one
 * uv_poll_t. The set is made for the first of them. */
#ifndef AC_FOREIGN_H
#define AC_FOREIGN_H

#include "loop/fdset.h"
#include "loop/fdtable.h"

#include <uv.h>

typedef struct {
    ac_fdset set;
    ac_fdtable table;
    bool *lingering; /* by number, as many as the table has: nobody watches it any
                        more, yet it was left in the set until it reports something */
    uint32_t generation;
    uv_poll_t poll; /* of the set */
    bool started;   /* libuv watches the set */
    bool ready;     /* the last poll found the set readable */
} ac_foreign;

void
ac_foreign_init(ac_foreign *foreign);

/* NULL with an exception (OSError for want of a descriptor) on failure. */
ac_watcher *
ac_foreign_new(ac_foreign *foreign, int fd);

/* Always a system call for a number that is wanted: only the kernel knows whether it
 * is still the one it was. One that is not wanted any more stays in the set until it
 * reports something; mostly it is wanted again, or closed, before. Returns 0 or a
 * negative errno. */
int
ac_foreign_set(ac_watcher *watcher, unsigned int events);

/* As ac_watcher_close. */
void
ac_foreign_close(ac_watcher *watcher, int fd_to_close);

/* Makes the set known to libuv, if there is one. Only the thread that polls. Returns
 * a libuv status. */
int
ac_foreign_start(ac_foreign *foreign, uv_loop_t *uv);

/* After a poll: moves the set's events into the loop's array. Returns 0, or -1 with
 * an exception. */
int
ac_foreign_collect(LoopObject *loop);

/* In a forked child: a set of its own that watches the same. Returns 0, or -1 with an
 * exception. */
int
ac_foreign_after_fork(ac_foreign *foreign);

void
ac_foreign_free(ac_foreign *foreign);

#endif
