/* read(), readexactly(), readuntil(), readline() and `async for`. */
#ifndef AC_READ_CALLS_H
#define AC_READ_CALLS_H

#include "core/coroutine_method.h"
#include "reader/reader.h"

/* tp_as_async->am_anext of StreamReader. */
PyObject *
ac_read_calls_next(PyObject *reader);

extern const ac_coroutine_method_def ac_read_calls_methods[];

#endif
