/* Connections of a listening socket. */
#ifndef AC_ACCEPT_H
#define AC_ACCEPT_H

#include "core/state.h"

/* Registers the type Accepted and the function accept_ready. Returns 0, or -1 with
 * an exception. */
int
ac_accept_register(PyObject *module, ac_state *state);

#endif
