/* Writing: the cork, the queue, flow control. */
#ifndef AC_WRITE_H
#define AC_WRITE_H

#include "stream/stream.h"

/* Bytes that were written and that the kernel has not taken yet. */
static inline size_t
ac_write_pending(const StreamObject *self)
{
    if (self->first != NULL) {
        return (size_t)PyBytes_GET_SIZE(self->first);
    }
    return self->queue == NULL ? 0 : self->queue->size;
}

/* Sends what is corked, as if write() had done so. May run Python: a failure ends
 * the connection, a refusal may call pause_writing(). Returns 0 (also after such a
 * failure), or -1 with an exception. */
int
ac_write_flush(StreamObject *self);

/* The same as the loop's flush callback. */
int
ac_write_on_flush(ac_flush *node);

/* Forgets what is pending and no longer waits for AC_WRITE. May run Python. */
void
ac_write_drop(StreamObject *self);

/* _write_ready(): sends more of what was refused. Returns as ac_write_flush. */
int
ac_write_ready(StreamObject *self);

extern PyMethodDef ac_write_methods[];

#endif
