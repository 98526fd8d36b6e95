/* What is told of a connect(), and what comes of one that did not wait. */
#ifndef AC_CONNECTING_H
#define AC_CONNECTING_H

#include "core/python.h"

/* What the user named, which takes no look-up. Borrowed. */
typedef struct {
    int family;
    PyObject *address;
} ac_connecting_target;

/* The address as `_ensure_resolved` gives it to sock.connect(), and as exceptions and
 * audit hooks tell it: those of IPv6 have four members. `target`: ac_connecting_target,
 * as PySys_Audit's O& passes it. New reference, NULL with an exception. */
PyObject *
ac_connecting_address(void *target);

/* sys.audit('socket.connect', sock(of), address): nothing is made where nobody audits.
 * Returns 0, or -1 with an exception. */
int
ac_connecting_audit(PyObject *(*sock)(void *), void *of, ac_connecting_target *target);

/* The socket is writable, or has an error. Returns 1: connected, 0: not yet, -1 with an
 * exception. */
int
ac_connecting_result(int fd, ac_connecting_target *target);

#endif
