/* DatagramObject: what is done per datagram, `asynccore._core.DatagramTransport`.
 *
 * The transport that programs get is a Python class with two bases: this type, and
 * behind it the interpreter's _SelectorDatagramTransport, whose constructor, close,
 * abort, flow control, queue and repr it keeps. So everything but the usual way of a
 * datagram is the standard's own code of that very patch release. Both halves work on
 * the same attributes, which lie in the struct here. The files of this folder:
 *   datagram.c  the type and its attributes
 *   reading.c   _read_ready
 *   sending.c   sendto, _sendto_ready
 *   call.c      every call into the user's protocol
 *   address.c   addresses, kept in both forms
 *   elsewhere.c calls of other threads than the loop's, where there is no GIL
 *
 * References: the loop owns the transport through the handles of its callbacks, as
 * the standard loop does; the socket object owns the descriptor, and is asked for it
 * before each use, since the program may close it at any moment. */
#ifndef AC_DATAGRAM_H
#define AC_DATAGRAM_H

#include "core/mixin.h"
#include "core/python.h"
#include "datagram/address.h"
#include "loop/loop.h"

typedef struct {
    AC_MIXIN_SLOTS(loop) /* `loop`: any object, None after connection_lost() */

    PyObject *dict, *weakrefs;
    ac_state *state; /* borrowed from the module, which the type keeps alive */
    /* Attributes that the standard's methods assign; NULL reads as None. */
    PyObject *protocol;
    PyObject *sock;
    PyObject *queue;   /* _buffer: (data, address) of what the kernel refused */
    PyObject *address; /* of the one peer, or None */
    PyObject *closing, *paused;
    int conn_lost;

    int family;              /* of the socket; AF_UNSPEC: not asked yet */
    ac_addresses *addresses; /* NULL until the first is kept */
} DatagramObject;

/* Registers DatagramTransport. Returns 0, or -1 with an exception. */
int
ac_datagram_register(PyObject *module, ac_state *state);

/* The number of the socket object, or -1 if it has none any more or is no socket.
 * Runs no Python. */
int
ac_datagram_fd(DatagramObject *self);

/* True if the queue is empty. Runs no Python. */
bool
ac_datagram_queue_is_empty(DatagramObject *self);

#endif
