/* Writing: the cork. */
#ifndef AC_WRITE_H
#define AC_WRITE_H

#include "stream/stream.h"

/* Sends what is corked, as if write() had done so. May run Python: a failure ends
 * the connection, a refusal may call pause_writing(). Returns 0 (also after such a
 * failure), or -1 with an exception. */
int
ac_write_flush(StreamObject *self);

/* The same as the loop's flush callback. */
int
ac_write_on_flush(ac_flush *node);

/* One write of bytes, bytearray or memoryview, after all checks. Returns 0, or -1 with
 * an exception. */
int
ac_write_data(StreamObject *self, PyObject *data);

/* A write after the end: counts, and warns when there were many. Returns 0, or -1 with
 * an exception. */
int
ac_write_lost(StreamObject *self);

/* write(data). Runs Python. Returns 0, or -1 with an exception. */
int
ac_write(StreamObject *self, PyObject *data);

/* The same for more bytes of a write of which a part has left. Sent at once, they would
 * have left with it: that the peer has closed since is told by the end of the stream,
 * as it would be then, not by this send. */
int
ac_write_rest(StreamObject *self, PyObject *data);

/* The method write(data), in any thread: None, or NULL with an exception. */
PyObject *
ac_write_method(StreamObject *self, PyObject *data);

/* write(data) by another thread than the loop's, as ac_stream_hand_over. */
int
ac_write_hand_over(StreamObject *self, PyObject *data);

extern PyMethodDef ac_write_methods[];

#endif
