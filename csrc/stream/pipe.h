/* ReadPipeTransport and WritePipeTransport. */
#ifndef AC_PIPE_H
#define AC_PIPE_H

#include "stream/stream.h"

/* Registers both types. Returns 0, or -1 with an exception. */
int
ac_pipe_register(PyObject *module, ac_state *state);

/* Tells the loop to call _read_ready() or _write_ready(), or no longer to do so. Both
 * may run Python, and do nothing once CLOSED. Watching returns 0, or -1 with an
 * exception; unwatching keeps the exception being raised, and does nothing for what is
 * not watched. */
int
ac_pipe_watch(StreamObject *self, unsigned int events);
void
ac_pipe_unwatch(StreamObject *self, unsigned int events);

/* As much as one read can give: most pipes hold 64 KiB, and memory for four times that
 * would be mapped and unmapped for each read. */
Py_ssize_t
ac_pipe_capacity(const StreamObject *self);

/* The end of what can be read: schedules eof_received() and connection_lost(None).
 * Returns 0, or -1 with an exception. */
int
ac_pipe_eof(StreamObject *self);

#endif
