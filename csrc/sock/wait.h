/* Waiting of an operation for its socket. */
#ifndef AC_WAIT_H
#define AC_WAIT_H

#include "sock/operation.h"

/* Begins to wait: a future of the loop, and a place in the number's registration. The
 * result is the iterator that awaits the future; NULL with an exception. */
PyObject *
ac_wait_begin(OperationObject *self);

/* Ends it, if it waits. */
void
ac_wait_end(OperationObject *self);

/* The event has come: tries again, and settles the future. Returns 0, or -1 with an
 * exception that asyncio never catches. */
int
ac_wait_ready(PyObject *op);

#endif
