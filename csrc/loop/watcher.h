/* A watcher reports readiness of one descriptor. There are two kinds:
 *  - AC_WATCHER_OWN: a descriptor that no one but the watcher's owner knows
 *    (accepted and connected sockets), see own.h.
 *  - AC_WATCHER_FOREIGN: a number that the user may close, reuse or dup at any
 *    moment (add_reader, sock_*, sock=, listening sockets), see foreign.h. */
#ifndef AC_WATCHER_H
#define AC_WATCHER_H

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

/* Somebody else is about to watch the number. The owner closes the watcher, and may go
 * on by the loop's _add_reader and _add_writer, whose callbacks share a number. May run
 * Python. Returns 0, or -1 with an exception. */
typedef int
ac_watcher_give_way_fn(ac_watcher *watcher);

struct ac_watcher {
    LoopObject *loop; /* borrowed: owners close their watchers before the loop goes */
    void *owner;      /* for the callbacks; borrowed */
    ac_watcher_fn *on_ready;
    ac_watcher_give_way_fn *give_way; /* foreign: NULL for those that are shared */
    int fd;
    uint8_t kind;    /* ac_watcher_kind */
    uint8_t wanted;  /* AC_READ | AC_WRITE: what the owner asked for */
    uint8_t armed;   /* what libuv or the kernel was told */
    uint8_t revents; /* ready, not yet dispatched; 0 while not in loop->events */
    bool closing;
    bool reserved; /* foreign: the loop's own number, which nobody takes from it */
    bool exposed;  /* own: the user has come to know the number after all */
    uint32_t generation; /* foreign: tells a number's users apart */
    int error;           /* own: why the kernel does not watch it, a negative errno */
    const void *user;    /* foreign: whose number it is, only compared; or NULL */
    unsigned int polls;  /* foreign: since it was assumed that the kernel knows */
    ac_watcher *next_dirty, **prev_dirty; /* on the list of changes */
};

/* Whether there are as many own watchers as libuv sees in one poll. A descriptor that
 * would be one more is watched as a foreign one. */
bool
ac_watcher_own_is_full(const LoopObject *loop);

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

/* The number has just been given to a new file: nothing is left of what was known. */
void
ac_watcher_number_is_new(LoopObject *loop, int fd);

/* The foreign watcher of a number, or NULL. Borrowed. */
ac_watcher *
ac_watcher_of_foreign(LoopObject *loop, int fd);

/* The own watcher of a number, or NULL. Borrowed. */
ac_watcher *
ac_watcher_of_own(LoopObject *loop, int fd);

#endif
