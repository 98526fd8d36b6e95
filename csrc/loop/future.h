/* asyncio's futures, as C code makes and settles them. */
#ifndef AC_FUTURE_H
#define AC_FUTURE_H

#include "loop/loop.h"

/* loop.create_future(); honours a replaced one. New reference, NULL with an
 * exception. */
PyObject *
ac_future_new(LoopObject *loop);

/* type(*args, loop=loop), for a class of futures. New reference, NULL with an
 * exception. */
PyObject *
ac_future_call(LoopObject *loop, PyObject *type, PyObject *args);

/* future.done(). Returns -1 with an exception. */
int
ac_future_is_done(ac_state *state, PyObject *future);

/* future.set_result(value). Schedules what waits for it. Returns 0, or -1 with an
 * exception. */
int
ac_future_set_result(ac_state *state, PyObject *future, PyObject *value);

/* future.set_result(None), if the future is not cancelled. Returns 0, or -1 with an
 * exception. */
int
ac_future_wake(ac_state *state, PyObject *future);

/* future.set_exception() with the exception being raised, unless that is one that
 * asyncio never catches. Returns 0, or -1 with an exception. */
int
ac_future_set_raised(ac_state *state, PyObject *future);

extern PyMethodDef ac_future_methods[];

#endif
