/* Outgoing bytes: pieces that are kept or copied, and a window for sendmsg. */
#ifndef AC_BUF_H
#define AC_BUF_H

#include "core/python.h"

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
    ac_piece *pieces;        /* `room`, or a block of its own */
    uint32_t head, end, cap; /* pieces[head..end) are in use */
    PyObject *block; /* owned: the bytes object that small pieces are copied into */
    size_t block_used;
    ac_piece room[AC_BUF_INLINE];
} ac_buf;

/* An empty buffer. Returns NULL with MemoryError. */
ac_buf *
ac_buf_new(void);

/* Frees the buffer and what it holds; NULL is fine. Runs no Python. */
void
ac_buf_free(ac_buf *buf);

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

#endif
