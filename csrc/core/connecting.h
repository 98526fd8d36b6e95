/* What comes of a connect() that did not wait. */
#ifndef AC_CONNECTING_H
#define AC_CONNECTING_H

#include "core/python.h"

/* The socket is writable, or has an error. `address`: what the user named, of which the
 * exception tells. Returns 1: connected, 0: not yet, -1 with an exception. */
int
ac_connecting_result(int fd, int family, PyObject *address);

#endif
