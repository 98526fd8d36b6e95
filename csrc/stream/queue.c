/* What a stream has still to send.
 *
 * One write of exact bytes is a reference in `first`; what is more, or was partly
 * sent, is in `queue`. Nothing here runs Python, and the flags are the caller's. */
#include "core/python.h"

#include "core/errors.h"
#include "stream/queue.h"

/* Pieces in one system call. Beyond, another call is cheaper than a larger array on
 * the stack; IOV_MAX is at least as large everywhere (1,024 on Linux and macOS). */
#define WINDOW 256

/* The queue goes; the loop keeps a small empty one for the next stream. */
static void
queue_drop(StreamObject *self)
{
    ac_buf *queue = self->queue;
    LoopObject *loop = self->loop;
    self->queue = NULL;
    if (queue != NULL && queue->size == 0 && loop != NULL && loop->spare_buf == NULL
        && !loop->closed && ac_buf_is_small(queue))
    {
        loop->spare_buf = queue;
        return;
    }
    ac_buf_free(queue);
}

void
ac_queue_clear(StreamObject *self)
{
    Py_CLEAR(self->first);  // exact bytes
    queue_drop(self);
}

int
ac_queue_make(StreamObject *self, size_t offset)
{
    if (self->queue != NULL) {
        return 0;
    }
    ac_buf *queue = self->loop->spare_buf;
    self->loop->spare_buf = NULL;
    if (queue == NULL && (queue = ac_buf_new()) == NULL) {
        return -1;
    }
    if (self->first != NULL) {
        if (ac_buf_append_bytes(queue, self->first, offset) < 0) {
            ac_buf_free(queue);
            return -1;
        }
        Py_CLEAR(self->first);
    }
    self->queue = queue;
    return 0;
}

static ssize_t
send_first(StreamObject *self)
{
    size_t len = (size_t)PyBytes_GET_SIZE(self->first);
    struct iovec piece = {PyBytes_AS_STRING(self->first), len};
    ssize_t n = self->ops->send(self, &piece, 1);
    if (n == (ssize_t)len) {
        Py_CLEAR(self->first);
    }
    else if (n >= 0 || ac_errors_is_transient(n)) {
        if (ac_queue_make(self, n < 0 ? 0 : (size_t)n) < 0) {
            PyErr_Clear();
            return -ENOMEM;
        }
    }
    return n;
}

static ssize_t
send_queue(StreamObject *self)
{
    struct iovec window[WINDOW];
    ssize_t n;
    size_t offered;
    do {
        int count = ac_buf_window(self->queue, window, WINDOW);
        offered = 0;
        for (int i = 0; i < count; i++) {
            offered += window[i].iov_len;
        }
        n = self->ops->send(self, window, count);
        if (n < 0) {
            return n;
        }
        ac_buf_consume(self->queue, (size_t)n);
    } while ((size_t)n == offered && self->queue->size > 0);
    if (self->queue->size == 0) {
        queue_drop(self);
    }
    return n;
}

int
ac_queue_send(StreamObject *self)
{
    ssize_t n = self->first != NULL ? send_first(self) : send_queue(self);
    return n < 0 && !ac_errors_is_transient(n) ? (int)n : 0;
}
