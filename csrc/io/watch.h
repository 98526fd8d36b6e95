/* Who waits for a descriptor of the user: a reader and a writer, each the handle of a
 * callback or another object that waits. */
#ifndef AC_WATCH_H
#define AC_WATCH_H

#include "loop/loop.h"

typedef struct ac_registration ac_registration; /* of one number */

enum {
    AC_WATCH_READER,
    AC_WATCH_WRITER
};

/* The event of a watched number. The `on_ready` of the watchers of registrations, which
 * tells them from others. */
int
ac_watch_on_ready(ac_watcher *watcher, unsigned int events);

/* The registration of a number; NULL where there is none, without an exception. */
ac_registration *
ac_watch_at_borrowed(LoopObject *loop, int fd);

/* The registration of a file object that has lost its number (a closed socket). */
ac_registration *
ac_watch_as_borrowed(LoopObject *loop, PyObject *fileobj);

/* Puts a handle in its place, AC_WATCH_READER or AC_WATCH_WRITER, and watches the
 * number, which the user has named as `fileobj`. Who was there is cancelled. May run
 * Python. Returns 0, or -1 with an exception. */
int
ac_watch_put(LoopObject *loop, int which, int fd, PyObject *fileobj, PyObject *handle);

/* Cancels who is in the place. Returns whether there was somebody. May run Python. */
bool
ac_watch_remove(ac_registration *registration, int which);

/* Who is in the place; NULL if nobody is, without an exception. */
PyObject *
ac_watch_handle_borrowed(const ac_registration *registration, int which);

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

/* Registers the type. Returns 0, or -1 with an exception. */
int
ac_watch_register(PyObject *module, ac_state *state);

#endif
