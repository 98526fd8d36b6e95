/* Every call into a user's protocol, as the standard datagram transport makes it.
 *
 * They run user code; afterwards the transport may be closed, paused or without
 * protocol and socket. The caller holds the transport. They return 0, or -1 with an
 * exception that is for the caller of _read_ready() or sendto(). */
#ifndef AC_CALL_H
#define AC_CALL_H

#include "datagram/datagram.h"

/* protocol.datagram_received(data, address) */
int
ac_call_datagram_received(DatagramObject *self, PyObject *data, PyObject *address);

/* protocol.error_received(exc) with the OSError of `number`, which is being handled
 * meanwhile. */
int
ac_call_error_received(DatagramObject *self, int number);

/* What the except clauses of the standard transport do with the exception that is being
 * raised: error_received() for an OSError, transport._fatal_error(exc, message) for
 * others; SystemExit and KeyboardInterrupt stay raised and change nothing. */
int
ac_call_failed_raised(DatagramObject *self, const char *message);

#endif
