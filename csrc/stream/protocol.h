/* Every call into a user's protocol.
 *
 * The ac_call_* functions run user code; afterwards the stream may be closed, paused
 * or without its protocol and loop. The caller holds the stream. An exception of the
 * protocol is dealt with as the standard transport does (in most cases it ends the
 * connection). They return 0, or -1 with an exception that is for the caller of
 * _read_ready, write() and so on. */
#ifndef AC_PROTOCOL_H
#define AC_PROTOCOL_H

#include "stream/stream.h"

/* Takes up a protocol (any object), as set_protocol(). Returns 0, or -1 with an
 * exception. */
int
ac_protocol_set(StreamObject *self, PyObject *protocol);

/* Assigns a protocol (NULL: none) and the sink that it is (NULL: none), and lets go of
 * all that is kept of the former one. */
void
ac_protocol_replace(StreamObject *self, PyObject *protocol, const ac_sink_ops *sink);

/* protocol.data_received(data); `data` is borrowed. */
int
ac_call_data_received(StreamObject *self, PyObject *data);

/* protocol.get_buffer(-1), checked not to be empty. *result is a new reference, or
 * NULL when the protocol failed and the connection ends. */
int
ac_call_get_buffer(StreamObject *self, PyObject **result);

/* protocol.buffer_updated(n) */
int
ac_call_buffer_updated(StreamObject *self, Py_ssize_t n);

/* Hands bytes to the sink that the protocol is (self->sink), or to data_received() if
 * it does not want them now. They stay where they are during the call. */
int
ac_call_sink(StreamObject *self, const char *data, size_t len);

/* protocol.eof_received(); *keep_open is what it answered, and true as well when it
 * failed, because the connection has then been ended already. */
int
ac_call_eof_received(StreamObject *self, bool *keep_open);

/* protocol.pause_writing() in `context`, if more than the high-water mark waits and
 * it was not called yet. NULL: in the current context. */
int
ac_call_pause_writing(StreamObject *self, PyObject *context);

/* protocol.resume_writing(), if it was paused and at most the low-water mark waits. */
int
ac_call_resume_writing(StreamObject *self);

/* protocol.connection_lost(exc); `exc` may be None. Its exception is left raised. */
int
ac_call_connection_lost(StreamObject *self, PyObject *exc);

#endif
