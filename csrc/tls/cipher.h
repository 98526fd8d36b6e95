/* Cipher text on its way between the transport below and OpenSSL. Nothing here runs
 * Python code, and what OpenSSL calls does without the GIL. */
#ifndef AC_CIPHER_H
#define AC_CIPHER_H

#include "core/python.h"

/* What has come in and OpenSSL has not taken. It lies where the transport below has
 * read it, for as long as the call lasts; what is left then is copied. */
typedef struct {
    const char *data; /* in the caller's memory, or in `kept` */
    size_t len;
    char *kept;  /* a block of our own, or NULL */
    size_t room; /* what fits into it behind `data + len` */
} ac_inflow;

/* What OpenSSL has put out and the transport below has not got. The methods of the ssl
 * module call OpenSSL without the GIL: then only what ac_outflow_reserve() has made is
 * written to, and `spill`. */
typedef struct {
    PyObject *full; /* list of bytes objects that come before the rest, or NULL */
    size_t full_size;
    PyObject *bytes; /* an exact bytes object of ours alone, or NULL */
    size_t used;     /* of it */
    bool is_piece;   /* it was lent: somebody else refers to it, but does not look */
    char *spill;     /* what came after that: raw memory, or NULL */
    size_t spill_len, spill_size;
    bool failed; /* a record was lost for want of memory */
} ac_outflow;

/* Adds bytes that stay where they are until ac_inflow_keep(). Returns 0, or -1 with
 * MemoryError and nothing added. */
int
ac_inflow_add(ac_inflow *in, const char *data, size_t len);

/* Copies what is left, so that the caller's memory is free. Returns 0, or -1 with
 * MemoryError and everything lost. */
int
ac_inflow_keep(ac_inflow *in);

/* Drops everything. */
void
ac_inflow_clear(ac_inflow *in);

/* Drops the first `n` bytes, at most `len`. */
static inline void
ac_inflow_consume(ac_inflow *in, size_t n)
{
    in->data += n;
    in->len -= n;
}

/* Makes room for `len` more bytes, for a caller who knows what will come. Returns 0,
 * or -1 with MemoryError. */
int
ac_outflow_reserve(ac_outflow *out, size_t len);

/* Makes a piece the place of what comes next; there must be nothing. Takes the
 * reference. */
void
ac_outflow_lend_steal(ac_outflow *out, PyObject *piece);

/* Appends a copy; needs no GIL. Returns 0, or -1 with `failed` set. */
int
ac_outflow_append(ac_outflow *out, const char *data, size_t len);

static inline size_t
ac_outflow_size(const ac_outflow *out)
{
    return out->full_size + out->used + out->spill_len;
}

/* What comes from now on is another bytes object. Returns 0, or -1 with MemoryError. */
int
ac_outflow_finish(ac_outflow *out);

/* The first bytes object, mostly everything: new reference, or NULL if there is
 * nothing, or with MemoryError. */
PyObject *
ac_outflow_take(ac_outflow *out);

/* Drops everything. */
void
ac_outflow_clear(ac_outflow *out);

#endif
