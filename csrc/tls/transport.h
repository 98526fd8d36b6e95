/* TLSTransport: what the protocol above gets, the part of
 * asyncio.sslproto._SSLProtocolTransport that runs for each write. */
#ifndef AC_TRANSPORT_H
#define AC_TRANSPORT_H

#include "core/state.h"

/* Registers TLSTransport. Returns 0, or -1 with an exception. */
int
ac_transport_register(PyObject *module, ac_state *state);

#endif
