/* Outgoing bytes: pieces that are kept or copied, and a window for sendmsg. */
#ifndef AC_BUF_H
#define AC_BUF_H

#include "core/python.h"

#include <string.h>
#include <sys/uio.h>

/* Pieces of this size and above are gathered; smaller ones are joined by copying,
 * which costs less than their share of a system call. */
#define AC_BUF_JOIN 1024

#define AC_BUF_INLINE 4

typedef struct {
    PyObject *bytes;  /* owned: exact bytes that `data` points into */
    const char *data; /* what is not sent yet */
    size_t len;
} ac_piece;

typedef struct {
    size_t size;             /* of all pieces */
    ac_piece *pieces;        /* `inline_pieces`, or a block of its own */
    uint32_t head, end, cap; /* pieces[head..end) are in use */
    PyObject *block; /* owned: the bytes object that small pieces are copied into */
    size_t block_used;
    size_t room; /* what the last piece may grow by; 0 unless it ends the block */
    ac_piece inline_pieces[AC_BUF_INLINE];
} ac_buf;

/* An empty buffer. Returns NULL with MemoryError. */
ac_buf *
ac_buf_new(void);

/* Frees the buffer and what it holds; NULL is fine. Runs no Python. */
void
ac_buf_free(ac_buf *buf);

/* True if an empty buffer is worth being kept for the next use: it has not grown. */
bool
ac_buf_is_small(const ac_buf *buf);

/* Appends a bytes object from `offset` on: keeps a reference to a large one, copies
 * a small one. Returns 0, or -1 with MemoryError and nothing changed. */
int
ac_buf_append_bytes(ac_buf *buf, PyObject *bytes, size_t offset);

/* Appends a copy. Returns 0, or -1 with MemoryError and nothing changed. */
int
ac_buf_append_copy(ac_buf *buf, const char *data, size_t len);

/* Fills at most `max` entries with the first pieces; returns how many. */
int
ac_buf_window(const ac_buf *buf, struct iovec *window, int max);

/* Drops the first `n` bytes, at most `size`. Runs no Python. */
void
ac_buf_consume(ac_buf *buf, size_t n);

/* Joins a small piece to the last one if that has room. */
static inline bool
ac_buf_join(ac_buf *buf, const char *data, size_t len)
{
    if (len > buf->room || len >= AC_BUF_JOIN) {
        return false;
    }
    memcpy(PyBytes_AS_STRING(buf->block) + buf->block_used, data, len);
    buf->block_used += len;
    buf->room -= len;
    buf->pieces[buf->end - 1].len += len;
    buf->size += len;
    return true;
}

#endif
