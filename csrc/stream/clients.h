/* What a server knows of its connections: Server._attach() and _detach() of the running
 * version. */
#ifndef AC_CLIENTS_H
#define AC_CLIENTS_H

#include "core/state.h"

/* server._attach(transport). Returns 0, or -1 with an exception. */
int
ac_clients_attach(ac_state *state, PyObject *server, PyObject *transport);

/* server._detach(transport), once for each attach. */
int
ac_clients_detach(ac_state *state, PyObject *server, PyObject *transport);

/* Remembers the classes. Returns 0, or -1 with an exception. */
int
ac_clients_register(ac_state *state);

#endif
