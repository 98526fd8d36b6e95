/* The coroutine of read(), readexactly(), readuntil(), readline() and `async for`. */
#ifndef AC_READS_H
#define AC_READS_H

#include "core/coroutine.h"
#include "reader/reader.h"

typedef struct ReadingObject ReadingObject;

/* What tells the methods apart. */
typedef struct {
    ac_stock_function function;
    const char *name;  /* of the method */
    const char *waits; /* the method that waits, in the words of an error */
    /* Returns 1 with *result, 0 to wait for more, -1 with an exception. */
    int (*attempt)(ReadingObject *self, PyObject **result);
} ac_reading_kind;

struct ReadingObject {
    AC_COROUTINE_HEAD
    const ac_reading_kind *kind;
    LoopObject *loop; /* owned: it keeps the memory */
    PyObject *reader;
    ReaderState *state;
    PyObject *argument;   /* n, or the separator as it was given; NULL: none */
    PyObject *separators; /* tuple of bytes, the shortest first; or NULL: one */
    PyObject *blocks;     /* list: what read(-1) has got */
    Py_ssize_t n;         /* as a number */
    size_t offset;        /* so many bytes have no separator */
    bool waiting;         /* in `_waiter` is our future */
    bool resumed;         /* it has waited right before */
    bool delegated;
};

/* A coroutine that has not begun, of a reader that is usual; `argument` may be NULL.
 * NULL with an exception. */
ReadingObject *
ac_reads_new(ReaderState *state, PyObject *reader, const ac_reading_kind *kind,
             PyObject *argument);

/* Registers the type. Returns 0, or -1 with an exception. */
int
ac_reads_register(PyObject *module, ac_state *state);

#endif
