/* What a stream has still to send: corked, or refused by the kernel. Nothing here runs
 * Python. */
#ifndef AC_QUEUE_H
#define AC_QUEUE_H

#include "stream/stream.h"

/* How many bytes. */
static inline size_t
ac_queue_pending(const StreamObject *self)
{
    if (self->first != NULL) {
        return (size_t)PyBytes_GET_SIZE(self->first);
    }
    return self->queue == NULL ? 0 : self->queue->size;
}

/* Forgets them. */
void
ac_queue_clear(StreamObject *self);

/* Makes sure of `queue`, with what `first` holds from `offset` on in front. Returns 0,
 * or -1 with MemoryError and nothing changed. */
int
ac_queue_make(StreamObject *self, size_t offset);

/* Sends until the kernel takes no more. Returns 0, or a negative errno that means more
 * than "not now". */
int
ac_queue_send(StreamObject *self);

#endif
