/* The descriptor of a stream: who owns it, the socket object, the addresses. */
#ifndef AC_SOCK_H
#define AC_SOCK_H

#include "stream/stream.h"

/* Takes up a socket object. `own`: nobody else knows it, so the number is taken out
 * of it; otherwise it stays the owner of its number. `extra` (may be NULL) is what
 * get_extra_info() starts from; it is borrowed and kept. Returns 0, or -1 with an
 * exception; the object is closed by the stream's end in both cases. */
int
ac_sock_adopt(StreamObject *self, ac_state *state, PyObject *sock, PyObject *extra,
              bool own);

/* Takes up a descriptor that nobody else knows, of a non-blocking stream socket that
 * was accepted from `peer`. Returns 0, or -1 with MemoryError and `fd` not taken. */
int
ac_sock_adopt_fd(StreamObject *self, int fd, long proto,
                 const struct sockaddr_storage *peer, socklen_t peer_len);

/* The descriptor is about to be given back: from now on its use fails with EBADF. */
void
ac_sock_abandon(StreamObject *self);

/* The socket object, made when first needed; from then on it owns the number. None
 * once CLOSED, a closed one once ABANDONED. New reference, NULL with an exception. */
PyObject *
ac_sock_object(StreamObject *self);

/* False if the user has closed or detached the socket object under the stream: then
 * the number may be somebody else's by now. */
bool
ac_sock_is_valid(StreamObject *self);

/* Closes the descriptor through its owner and ends the watcher. May run Python, with no
 * exception being raised. Returns 0, or -1 with one; all is done nevertheless. */
int
ac_sock_close(StreamObject *self);

/* The dictionary `_extra` with all its keys. New reference, NULL with an
 * exception. */
PyObject *
ac_sock_extra(StreamObject *self);

extern PyMethodDef ac_sock_methods[];

/* Looks at the standard's functions. Returns 0, or -1 with an exception. */
int
ac_sock_register(ac_state *state);

#endif
