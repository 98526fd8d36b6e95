/* A connection that a client makes. */
#ifndef AC_CONNECTION_H
#define AC_CONNECTION_H

#include "core/state.h"

/* Registers the type and its function. Returns 0, or -1 with an exception. */
int
ac_connection_register(PyObject *module, ac_state *state);

#endif
