/* StreamWriter: the writer of an accepted connection, `_core.StreamWriter`. */
#ifndef AC_WRITER_H
#define AC_WRITER_H

#include "reader/reader.h"

/* The attributes of StreamWriter, as members: a subclass with fields, which the
 * interpreter's own code for classes visits and clears. */
typedef struct {
    PyObject_HEAD
    AC_BASE_WEAKREFS
    PyObject *transport;
    PyObject *protocol;
    PyObject *reader;
    PyObject *loop;
    PyObject *complete; /* `_complete_fut`, NULL until it is asked for */
} WriterObject;

/* A writer in the place of a plain one, with its attributes; NULL, with or without an
 * exception, if that is not plain. */
PyObject *
ac_writer_make(ac_state *state, PyObject *plain);

/* Registers StreamWriter. Returns 0, or -1 with an exception. */
int
ac_writer_register(PyObject *module, ac_state *state);

#endif
