/* The poller: what a loop waits for, on libuv. One uv_loop_t with a uv_poll_t for each
 * own watcher, one for the set of foreign descriptors, and a uv_async_t to interrupt a
 * poll. Without own watchers the set is polled alone; it has the wake-up for the next
 * timer, too, and a bell.
 *
 * libuv's callbacks run no Python and change nothing but the event array of the
 * loop: the turn dispatches it afterwards, so user code never runs inside
 * uv_run. */
#ifndef AC_POLLER_H
#define AC_POLLER_H

#include "loop/loop.h"
#include "loop/watcher.h"

/* Makes the poller. Returns 0, or -1 with MemoryError. */
int
ac_poller_open(LoopObject *loop);

/* Opens its libuv side, unless it is open: before `fd` is watched, the first of all.
 * The first poll that waits does the same, or goes without; a loop that does neither
 * takes no descriptor. Returns 0, or -1 with an exception (OSError under EMFILE, and
 * for a number that is closed). */
int
ac_poller_need(LoopObject *loop, int fd);

/* Closes everything libuv holds for the loop, whose watchers are closed already.
 * Calls no user code. In a forked child only descriptors are closed. */
void
ac_poller_close(LoopObject *loop);

/* The first turn in a forked child: takes a kernel set of its own, and watches the
 * same descriptors in it. Returns 0, or -1 with an exception. */
int
ac_poller_after_fork(LoopObject *loop);

/* One poll. `timeout` in seconds: 0 does not block and keeps the GIL, negative
 * waits without end. Fills loop->events. Returns 0, or -1 with an exception. */
int
ac_poller_poll(LoopObject *loop, double timeout);

/* Interrupts a poll of another thread; does nothing when none is under way. */
void
ac_poller_wake(LoopObject *loop);

#endif
