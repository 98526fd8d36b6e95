/* add_reader and add_writer: callbacks on descriptors of the user; and the place of
 * what else waits for such a descriptor. */
#ifndef AC_WATCH_H
#define AC_WATCH_H

#include "loop/loop.h"

typedef struct ac_registration ac_registration; /* of one number */

/* An object that waits in the place of a reader or writer. It has a method `_ready()`,
 * called instead of `ready` while every callback is to be seen (debug mode). */
typedef struct {
    /* The event has come. Returns 0, or -1 with an exception that asyncio never
     * catches. May run Python. */
    int (*ready)(PyObject *waiter);
    /* Somebody else has taken its place, or has taken it out: no event comes, and the
     * registration is not its own any more. Runs no Python. */
    void (*dropped)(PyObject *waiter);
} ac_waiter_ops;

/* What _add_reader (AC_READ) and _add_writer (AC_WRITE) do, with a waiter in the place
 * of the handle: it is held until it is dropped or taken out, and takes the place of
 * who waits. `user` is the object that has the number: if the same waited for it
 * before, the kernel is not told again. Sets *registration (borrowed, valid until
 * then). May run Python. Returns 0, or -1 with an exception. */
int
ac_watch_wait(LoopObject *loop, int fd, const void *user, unsigned int event,
              PyObject *waiter, const ac_waiter_ops *ops,
              ac_registration **registration);

/* Takes a waiter out that is in its place. */
void
ac_watch_end(ac_registration *registration, unsigned int event);

/* loop._ensure_fd_no_transport(fd). Returns 0, or -1 with an exception. */
int
ac_watch_ensure_no_transport(LoopObject *loop, int fd);

/* Registers the type of the table's entries and the methods of _core.Loop. */
int
ac_watch_register(PyObject *module, ac_state *state);

#endif
