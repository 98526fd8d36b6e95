/* What `__await__()` of a coroutine returns, and iteration by `yield from`. */
#ifndef AC_AWAITER_H
#define AC_AWAITER_H

#include "core/state.h"

/* `coroutine.__await__()`, as a method: an iterator that drives the coroutine.
 * NULL with an exception. */
PyObject *
ac_awaiter_new(PyObject *coroutine, PyObject *ignored);

/* tp_iter of a coroutine type, which gets no `__iter__` with it: the coroutine itself
 * in a function of types.coroutine, TypeError elsewhere. */
PyObject *
ac_awaiter_iter(PyObject *coroutine);

/* Registers the type. Returns 0, or -1 with an exception. */
int
ac_awaiter_register(PyObject *module, ac_state *state);

#endif
