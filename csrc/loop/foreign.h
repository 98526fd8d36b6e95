/* Foreign watchers: numbers that others may close at any moment. libuv's tables are not
 * made for that (it aborts), so they sit in an epoll or kqueue set of ours behind one
 * uv_poll_t. The set is made for the first of them. */
#ifndef AC_FOREIGN_H
#define AC_FOREIGN_H

#include "loop/fdset.h"
#include "loop/fdtable.h"
#include "loop/own.h"

#include <uv.h>

/* A number that nobody watches any more, yet was left in the set until it reports
 * something. */
typedef struct {
    const void *user; /* the last watcher's */
    uint32_t generation;
    uint8_t events; /* 0: it was not left there */
} ac_lingering;

typedef struct {
    ac_fdset set;
    ac_fdtable table;
    ac_lingering *lingering; /* by number, as many as the table has */
    ac_watcher *assumed;     /* of which the kernel was not told: it should know */
    uint32_t generation;     /* of the last watcher; 0: of the poller's own numbers */
    int bell[2];             /* ends a wait for the set alone */
    int timer_fd;            /* in the set; -1: none */
    bool waited;             /* somebody waits for the set alone */
    bool rung;               /* and is woken already */
    uv_poll_t poll;          /* of the set */
    bool started;            /* libuv watches the set */
    bool ready;              /* the last poll found the set readable */
} ac_foreign;

void
ac_foreign_init(ac_foreign *foreign);

/* NULL with an exception (OSError for want of a descriptor) on failure. */
ac_watcher *
ac_foreign_new(LoopObject *loop, int fd);

/* A number that is not wanted any more stays in the set until it reports something;
 * mostly it is wanted again, or closed, before.
 *
 * Only the kernel knows whether a number that is wanted is still the one it was. So
 * this is a system call, but where the same user wants the same events again: then it
 * is assumed for a few polls, none of which blocks (ac_foreign_confirm). Returns 0 or
 * a negative errno. */
int
ac_foreign_set(ac_watcher *watcher, unsigned int events);

void
ac_foreign_number_is_new(ac_foreign *foreign, int fd);

/* The number is an own watcher's from now on: the set would report it for nothing. */
void
ac_foreign_number_is_own(LoopObject *loop, int fd);

/* Before a poll: asks the kernel about what was assumed, if the poll `may_block` and
 * nothing is ready, or if it was assumed for long. Returns true if something is ready:
 * the poll must not block. */
bool
ac_foreign_confirm(ac_foreign *foreign, bool may_block);

/* As ac_watcher_close. */
void
ac_foreign_close(ac_watcher *watcher, int fd_to_close);

/* Makes the set known to libuv, if there is one. Only the thread that polls. Returns
 * a libuv status. */
int
ac_foreign_start(ac_foreign *foreign, ac_own *own, uv_loop_t *uv);

/* Watches the timerfd in the set as well, which it opens if need be. Only the thread
 * that polls. Returns 0 or a negative errno. */
int
ac_foreign_add_timer(LoopObject *loop, int fd);

/* Moves the set's events into the loop's array: `n` (or a negative errno) that `ready`
 * has, which is reused for the rest. Returns 0, or -1 with an exception. */
int
ac_foreign_collect(LoopObject *loop, ac_fdset_event *ready, int n);

/* Ends a wait for the set alone. */
void
ac_foreign_wake(ac_foreign *foreign);

/* In a forked child: a set of its own that watches the same. Returns 0, or -1 with an
 * exception. */
int
ac_foreign_after_fork(ac_foreign *foreign);

void
ac_foreign_free(ac_foreign *foreign);

#endif
