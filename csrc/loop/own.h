/* Own watchers: a uv_poll_t each. libuv's tables are safe for them, since nobody else
 * closes the number; one that the user has come to know after all is `exposed`.
 *
 * Changes are collected and told to libuv right before the next poll, by the thread
 * that polls; a change from another thread during a poll interrupts it. */
#ifndef AC_OWN_H
#define AC_OWN_H

#include "loop/fdtable.h"

#include <uv.h>

typedef struct own_watcher own_watcher;

#define AC_OWN_SPARES 256

/* libuv polls again, up to 48 times, while the kernel fills its 1,024 events, and hears
 * of the same level-triggered ones: nothing is read before it returns. It has a few
 * handles of its own and of the poller's. */
#define AC_OWN_MAX 1008

typedef struct {
    ac_fdtable table;
    size_t count;         /* those that are not closing: each can have one event */
    size_t polls;         /* that libuv has made */
    ac_watcher *dirty;    /* whose wishes libuv does not know yet */
    own_watcher *stopped; /* by an error, in the poll that is under way */
    /* Closed ones, by number: the next connection probably gets the same one, and libuv
     * asks the kernel four times to end a uv_poll_t and to make another. */
    own_watcher *spares[AC_OWN_SPARES];
} ac_own;

/* NULL with MemoryError on failure. */
ac_watcher *
ac_own_new(ac_own *own, int fd);

void
ac_own_set(ac_watcher *watcher, unsigned int events);

/* As ac_watcher_close. */
void
ac_own_close(ac_watcher *watcher, int fd_to_close);

/* Tells libuv all changes. Only the thread that polls, before it does. */
void
ac_own_apply_changes(ac_own *own, uv_loop_t *uv);

/* After a poll: those that an error stopped are started again by the next changes. */
void
ac_own_polled(ac_own *own);

/* Puts a number into the kernel's set, where libuv, which aborts the process if the
 * kernel refuses it, finds it and takes it over. Returns 0 or a negative errno. */
int
ac_own_add_number(uv_loop_t *uv, int fd, int events);

/* A number of the poller's own is about to become that of a uv_poll_t: what was left of
 * its former users goes. Only the thread that polls. */
void
ac_own_number_is_libuvs(ac_own *own, int fd);

/* In a forked child, before libuv makes a kernel set of the child's own and with it
 * descriptors: lets libuv forget the numbers that those may get. */
void
ac_own_before_fork(ac_own *own);

/* In a forked child with a kernel set of its own: ends the watchers that were closed
 * before it had one; their numbers may be in use again. And libuv learns which ones it
 * does not poll. */
void
ac_own_after_fork(ac_own *own);

/* In a forked child that still shares the kernel's set: frees the watchers that were
 * closed, without a word to libuv. */
void
ac_own_drop_closed(ac_own *own);

/* Before libuv's loop is closed. */
void
ac_own_close_spares(ac_own *own);

void
ac_own_free(ac_own *own);

#endif
