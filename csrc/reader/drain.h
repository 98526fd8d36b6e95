/* drain() and wait_closed() of StreamWriter. */
#ifndef AC_DRAIN_H
#define AC_DRAIN_H

#include "reader/writer.h"

/* Registers their coroutine and adds them to the class. Returns 0, or -1 with an
 * exception. */
int
ac_drain_register(PyObject *module, ac_state *state);

#endif
