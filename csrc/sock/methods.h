/* The sock_* methods of the loop. */
#ifndef AC_METHODS_H
#define AC_METHODS_H

#include "core/state.h"

/* Registers the coroutine type and the methods. Returns 0, or -1 with an exception. */
int
ac_methods_register(PyObject *module, ac_state *state);

#endif
