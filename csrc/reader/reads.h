/* read(), readexactly(), readuntil(), readline() and `async for`. */
#ifndef AC_READS_H
#define AC_READS_H

#include "reader/reader.h"

/* tp_as_async->am_anext of StreamReader. */
PyObject *
ac_reads_next(PyObject *reader);

/* Registers their coroutine. Returns 0, or -1 with an exception. */
int
ac_reads_register(PyObject *module, ac_state *state);

extern PyMethodDef ac_reads_methods[];

#endif
