/* errno and libuv status codes as the exceptions that the standard loop raises. */
#ifndef AC_ERRORS_H
#define AC_ERRORS_H

#include "core/python.h"

/* Raises the OSError subclass of an errno number. Always returns NULL. */
PyObject *
ac_errors_errno(int number);

/* Raises the OSError subclass of a libuv status (negative). Returns NULL. */
PyObject *
ac_errors_uv(int err);

/* A new exception object for an errno number, not raised; NULL with an
 * exception on failure. */
PyObject *
ac_errors_new(int number);

#endif
