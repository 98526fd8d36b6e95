/* Half close, close, abort and errors. Everything here may run Python; the caller
 * holds the stream. */
#ifndef AC_CLOSE_H
#define AC_CLOSE_H

#include "stream/stream.h"

/* close(): stops reading, sends what is pending, then ends. Returns 0, or -1 with an
 * exception. */
int
ac_close_begin(StreamObject *self);

/* _force_close(exc): drops what is pending and schedules connection_lost(exc), where
 * `exc` may be None. Does nothing the second time. Returns 0, or -1 with an
 * exception. */
int
ac_close_force(StreamObject *self, PyObject *exc);

/* _fatal_error(exc, message): tells the exception handler, unless it is an OSError,
 * and ends the connection. Returns 0, or -1 with an exception. */
int
ac_close_fatal(StreamObject *self, PyObject *exc, const char *message);

/* The same for the exception that is being raised; SystemExit and KeyboardInterrupt
 * stay raised and change nothing. */
int
ac_close_fatal_raised(StreamObject *self, const char *message);

/* _call_connection_lost(exc): tells the protocol and gives everything back. Does
 * nothing the second time. Returns 0, or -1 with the protocol's exception. */
int
ac_close_finish(StreamObject *self, PyObject *exc);

/* Sends EOF to the peer once nothing is pending. Returns 0, or -1 with OSError. */
int
ac_close_shutdown(StreamObject *self);

extern PyMethodDef ac_close_methods[];

#endif
