/* Plain sockets: socket objects whose methods are those of the C base class, so that
 * C code may do their system calls itself. */
#ifndef AC_PLAIN_H
#define AC_PLAIN_H

#include "core/state.h"

/* Remembers the methods of socket.socket, at import. Returns 0, or -1 with an
 * exception.
 */
int
ac_plain_note(ac_state *state);

/* Whether `sock` is exactly a socket.socket, whose methods nobody has replaced. Returns
 * -1 with an exception. */
int
ac_plain_is(ac_state *state, PyObject *sock);

/* The same of any that socket.socket() makes. */
int
ac_plain_class_is(ac_state *state);

/* sock.fileno() of a plain socket: -1 when it is closed. Returns -2 with an exception.
 * Runs no Python. */
int
ac_plain_number(ac_state *state, PyObject *sock);

/* What socket() was called with for a plain socket, the type without flags. False if it
 * cannot be told without the socket's methods. Runs no Python. */
bool
ac_plain_kind(ac_state *state, PyObject *sock, int *family, int *type, int *proto);

/* Whether sock.gettimeout() of a plain socket is 0: its calls do not wait. Returns -1
 * with an exception. Runs no Python. */
int
ac_plain_is_nonblocking(ac_state *state, PyObject *sock);

#endif
