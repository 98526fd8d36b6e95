/* Bytes, EOF and errors on their way into a reader. */
#ifndef AC_FEED_H
#define AC_FEED_H

#include "reader/reader.h"

/* feed_data() for bytes that stay where they are; the reader is usual and not at its
 * end. `whole` as ac_sink_ops.data has it. Runs Python, the caller holds the state.
 * Returns 0, or -1 with an exception. */
int
ac_feed_data(ReaderState *self, const char *data, size_t len, PyObject *whole);

/* _maybe_resume_transport(). Returns 0, or -1 with an exception. */
int
ac_feed_resume(ReaderState *self);

/* Clears `_paused` and calls resume_reading() of the transport. Returns as above. */
int
ac_feed_resume_now(ReaderState *self);

extern PyMethodDef ac_feed_methods[];

#endif
