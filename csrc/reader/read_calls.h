/* read(), readexactly(), readuntil(), readline() and `async for`. */
#ifndef AC_READ_CALLS_H
#define AC_READ_CALLS_H

#include "reader/reader.h"

/* tp_as_async->am_anext of StreamReader. */
PyObject *
ac_read_calls_next(PyObject *reader);

extern PyMethodDef ac_read_calls_methods[];

#endif
