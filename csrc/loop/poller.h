/* The poller: what a loop waits for.
 *
 * A watcher reports readiness of one descriptor. There are two kinds:
 *  - AC_WATCHER_OWN: a descriptor that no one but the watcher's owner knows
 *    (accepted and connected sockets). It is watched by a uv_poll_t.
 *  - AC_WATCHER_FOREIGN: a number that the user may close, reuse or dup at any
 *    moment (add_reader, sock_*, sock=, listening sockets). libuv's tables are
 *    not made for that (it aborts), so it sits in an epoll or kqueue set of ours
 *    behind one uv_poll_t.
 *
 * libuv's callbacks run no Python and change nothing but the event array of the
 * loop: the turn dispatches it afterwards, so user code never runs inside
 * uv_run. Changes to own watchers are collected and told to libuv right before
 * the next poll, by the thread that polls; a change from another thread during a
 * poll interrupts it. */
#ifndef AC_POLLER_H
#define AC_POLLER_H

#include "loop/loop.h"

enum {
    AC_READ = 1u << 0,
    AC_WRITE = 1u << 1,
};

typedef enum {
    AC_WATCHER_OWN,
    AC_WATCHER_FOREIGN,
} ac_watcher_kind;

/* Called in the turn with the thread state attached and the events (AC_READ,
 * AC_WRITE) that are both ready and wanted; an error or a hang-up counts as every
 * wanted event, as with selectors. May run Python, may close the watcher.
 * Returns 0, or -1 with an exception that asyncio never catches. */
typedef int
ac_watcher_fn(ac_watcher *watcher, unsigned int events);

struct ac_watcher {
    LoopObject *loop; /* borrowed: owners close their watchers before the loop goes */
    void *owner;      /* for the callback; borrowed */
    ac_watcher_fn *on_ready;
    int fd;
    uint8_t kind;    /* ac_watcher_kind */
    uint8_t wanted;  /* AC_READ | AC_WRITE: what the owner asked for */
    uint8_t armed;   /* what libuv or the kernel was told */
    uint8_t revents; /* ready, not yet dispatched; 0 while not in loop->events */
    bool closing;
    bool exposed;        /* own: the user has come to know the number after all */
    uint32_t generation; /* foreign: tells a number's users apart */
    ac_watcher *next_dirty, **prev_dirty; /* the poller's list of changes */
};

/* Opens the loop's libuv side. Returns 0, or -1 with an exception (OSError under
 * EMFILE). */
int
ac_poller_open(LoopObject *loop);

/* Closes everything libuv holds for the loop, whose watchers are closed already.
 * Calls no user code. In a forked child only descriptors are closed. */
void
ac_poller_close(LoopObject *loop);

/* The first turn in a forked child: takes a kernel set of its own, and watches the
 * same descriptors in it. Returns 0, or -1 with an exception. */
int
ac_poller_after_fork(LoopObject *loop);

/* True while another thread polls this loop without the GIL. */
bool
ac_poller_busy(const LoopObject *loop);

/* One poll. `timeout` in seconds: 0 does not block and keeps the GIL, negative
 * waits without end. Fills loop->events. Returns 0, or -1 with an exception. */
int
ac_poller_poll(LoopObject *loop, double timeout);

/* Interrupts a poll of another thread; does nothing when none is under way. */
void
ac_poller_wake(LoopObject *loop);

/* A watcher that wants nothing yet. Returns NULL with an exception. An
 * AC_WATCHER_FOREIGN it takes the place of another of the same number, whose owner
 * then gets no more events until it asks anew. */
ac_watcher *
ac_watcher_new(LoopObject *loop, ac_watcher_kind kind, int fd, ac_watcher_fn *on_ready,
               void *owner);

/* Says which events are wanted from now on (0: none). Returns 0, or -1 with the
 * exception of the system call (foreign only: PermissionError for a regular
 * file, OSError EBADF). */
int
ac_watcher_set(ac_watcher *watcher, unsigned int events);

/* Drops events that are ready but not yet dispatched. */
void
ac_watcher_forget(ac_watcher *watcher, unsigned int events);

/* Ends the watcher: no event comes after it, libuv has forgotten the number, the
 * memory is freed when libuv lets go of it. If `fd_to_close` >= 0 it is closed
 * as soon as that is safe (at once, unless another thread polls). NULL is fine. */
void
ac_watcher_close(ac_watcher *watcher, int fd_to_close);

/* The foreign watcher of a number, or NULL. Borrowed. */
ac_watcher *
ac_poller_foreign(LoopObject *loop, int fd);

/* The own watcher of a number, or NULL. Borrowed. */
ac_watcher *
ac_poller_own(LoopObject *loop, int fd);

#endif
