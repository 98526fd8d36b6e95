/* The bytes objects that large writes are encrypted into, used again and again.
 *
 * A piece is freed when the kernel has taken it. malloc would give its pages back to
 * the kernel then, and the next piece would fault them in anew, which costs as much as
 * encrypting does. So the module state keeps some of them. One that nobody else refers
 * to is free; none may be seen by Python code, which could keep or hash it. */
#ifndef AC_PIECES_H
#define AC_PIECES_H

#include "core/python.h"
#include "core/state.h"

#define AC_PIECE (64 * 1024 + 256) /* four records, and what makes them longer */

/* A piece of AC_PIECE bytes: new reference, or NULL, without an exception, if all are
 * in use. It may be cut with Py_SET_SIZE(). */
PyObject *
ac_pieces_get(ac_state *state);

/* Lets go of those that are kept. */
void
ac_pieces_clear(ac_state *state);

#endif
