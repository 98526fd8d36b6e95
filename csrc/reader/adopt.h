/* How a connection comes by our reader and writer. */
#ifndef AC_ADOPT_H
#define AC_ADOPT_H

#include "core/python.h"
#include "core/state.h"

/* Registers this folder's types and its sink. Returns 0, or -1 with an exception. */
int
ac_adopt_register(PyObject *module, ac_state *state);

#endif
