/* Outgoing bytes.
 *
 * Every piece points into a bytes object of which the buffer owns a reference: the
 * user's own (immutable, so it needs no copy), or one made here that nobody else
 * sees and that small pieces are appended to as long as it has room. */
#include "core/python.h"

#include "core/buf.h"

#include <assert.h>

/* Blocks for small pieces grow with what is waiting, between these limits. */
#define BLOCK_MIN 2048
#define BLOCK_MAX (64 * 1024)
#define BLOCK_KEPT (4 * 1024) /* in a buffer that waits for its next use */

ac_buf *
ac_buf_new(void)
{
    ac_buf *buf = PyMem_Malloc(sizeof(*buf));
    if (buf == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    buf->size = 0;
    buf->pieces = buf->inline_pieces;
    buf->head = buf->end = 0;
    buf->cap = AC_BUF_INLINE;
    buf->block = NULL;
    buf->block_used = 0;
    buf->room = 0;
    return buf;
}

void
ac_buf_free(ac_buf *buf)
{
    if (buf == NULL) {
        return;
    }
    for (uint32_t i = buf->head; i < buf->end; i++) {
        Py_DECREF(buf->pieces[i].bytes);
    }
    Py_XDECREF(buf->block);
    if (buf->pieces != buf->inline_pieces) {
        PyMem_Free(buf->pieces);
    }
    PyMem_Free(buf);
}

bool
ac_buf_is_small(const ac_buf *buf)
{
    return buf->pieces == buf->inline_pieces
           && (buf->block == NULL || PyBytes_GET_SIZE(buf->block) <= BLOCK_KEPT);
}

/* Makes room for one more piece. Returns 0, or -1 with MemoryError. */
static int
pieces_reserve(ac_buf *buf)
{
    if (buf->end < buf->cap) {
        return 0;
    }
    uint32_t used = buf->end - buf->head;
    if (buf->head >= buf->cap / 2) {
        memmove(buf->pieces, buf->pieces + buf->head, used * sizeof(ac_piece));
        buf->head = 0;
        buf->end = used;
        return 0;
    }
    uint32_t cap = buf->cap * 2;
    ac_piece *pieces = PyMem_Malloc(cap * sizeof(ac_piece));
    if (pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(pieces, buf->pieces + buf->head, used * sizeof(ac_piece));
    if (buf->pieces != buf->inline_pieces) {
        PyMem_Free(buf->pieces);
    }
    buf->pieces = pieces;
    buf->head = 0;
    buf->end = used;
    buf->cap = cap;
    return 0;
}

/* `room` is what the piece may grow by. */
static void
piece_push_steal(ac_buf *buf, PyObject *bytes, const char *data, size_t len,
                 size_t room)
{
    assert(buf->end < buf->cap);
    buf->pieces[buf->end++] = (ac_piece){bytes, data, len};
    buf->size += len;
    buf->room = room;
}

/* Makes sure that the block has room for `len` bytes more. */
static int
block_reserve(ac_buf *buf, size_t len)
{
    if (buf->block != NULL
        && (size_t)PyBytes_GET_SIZE(buf->block) - buf->block_used >= len) {
        return 0;
    }
    size_t capacity = buf->size < BLOCK_MIN ? BLOCK_MIN : buf->size;
    capacity = capacity > BLOCK_MAX ? BLOCK_MAX : capacity;
    capacity = capacity < len ? len : capacity;
    PyObject *block = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity);
    if (block == NULL) {
        return -1;
    }
    Py_XSETREF(buf->block, block);
    buf->block_used = 0;
    return 0;
}

int
ac_buf_append_copy(ac_buf *buf, const char *data, size_t len)
{
    if (ac_buf_join(buf, data, len)) {
        return 0;
    }
    if (pieces_reserve(buf) < 0) {
        return -1;
    }
    if (len >= AC_BUF_JOIN) {
        PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
        if (bytes == NULL) {
            return -1;
        }
        piece_push_steal(buf, bytes, PyBytes_AS_STRING(bytes), len, 0);
        return 0;
    }
    if (block_reserve(buf, len) < 0) {
        return -1;
    }
    char *target = PyBytes_AS_STRING(buf->block) + buf->block_used;
    memcpy(target, data, len);
    buf->block_used += len;
    piece_push_steal(buf, Py_NewRef(buf->block), target, len,
                     (size_t)PyBytes_GET_SIZE(buf->block) - buf->block_used);
    return 0;
}

int
ac_buf_append_bytes(ac_buf *buf, PyObject *bytes, size_t offset)
{
    assert(PyBytes_CheckExact(bytes));
    const char *data = PyBytes_AS_STRING(bytes) + offset;
    size_t len = (size_t)PyBytes_GET_SIZE(bytes) - offset;
    if (len < AC_BUF_JOIN) {
        return ac_buf_append_copy(buf, data, len);
    }
    if (pieces_reserve(buf) < 0) {
        return -1;
    }
    piece_push_steal(buf, Py_NewRef(bytes), data, len, 0);
    return 0;
}

int
ac_buf_window(const ac_buf *buf, struct iovec *window, int max)
{
    int n = 0;
    for (uint32_t i = buf->head; i < buf->end && n < max; i++, n++) {
        window[n].iov_base = (void *)buf->pieces[i].data;
        window[n].iov_len = buf->pieces[i].len;
    }
    return n;
}

void
ac_buf_consume(ac_buf *buf, size_t n)
{
    assert(n <= buf->size);
    buf->size -= n;
    while (n > 0) {
        ac_piece *piece = &buf->pieces[buf->head];
        if (n < piece->len) {
            piece->data += n;
            piece->len -= n;
            return;
        }
        n -= piece->len;
        buf->head++;
        Py_DECREF(piece->bytes);  // exact bytes: runs no Python
    }
    if (buf->head == buf->end) {  // nothing refers to the block any more
        buf->head = buf->end = 0;
        buf->block_used = 0;
        buf->room = 0;
    }
}
