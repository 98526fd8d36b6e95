/* What the interpreter's create_connection() is made of. While nobody has replaced a
 * part of it, connection.c does the same without its frames. */
#ifndef AC_CONNECTION_PARTS_H
#define AC_CONNECTION_PARTS_H

#include "loop/loop.h"

/* Whether create_connection() of this loop, or create_unix_connection(), would do what
 * is known, with plain sockets. Returns -1 with an exception. */
int
ac_connection_is_known(LoopObject *loop);

/* create_connection of the interpreter, or create_unix_connection. */
PyObject *
ac_connection_function_borrowed(LoopObject *loop, bool is_unix);

int
ac_connection_parts_register(PyObject *module, ac_state *state);

#endif
