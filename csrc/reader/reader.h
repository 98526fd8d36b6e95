/* ReaderState: what a StreamReader of ours holds, `_core.ReaderState`.
 *
 * asyncio's streams make a plain StreamReader. When a transport takes it up
 * (adopt.c), it gets our class, `_core.StreamReader`, which derives from its own and
 * has no fields, and this object as its `__dict__`: a dict with members of its own,
 * which takes 160 bytes less than one in a dict. The class's descriptors show the
 * attributes that the standard's code works on; so the standard's methods, and
 * subclasses of nothing, run on such a reader as on any other. They do run, by
 * ac_stock_call(), whenever the reader is not *usual*: a class or the reader itself was
 * patched, an attribute has an odd value, somebody holds the `_buffer`.
 *
 *   stock.c       the standard's classes, as they were at import
 *   reader.c      this object, the class
 *   feed.c        bytes, EOF and errors on their way in
 *   read_calls.c  read(), readline() ...
 *   reads.c       their coroutine
 *   attempt.c     what each of them tries
 *   writer.c      the writer of an accepted connection
 *   drain.c       its coroutines
 *   adopt.c       how a connection comes by them; the sink
 *
 * The bytes are in one of two places: `chunk`, a bytes object, the one that has come or
 * one of our own with room for more, which is returned as it is when all of it is asked
 * for; `shown`, the bytearray that somebody has asked for, which is taken back when
 * nobody else holds it. */
#ifndef AC_READER_H
#define AC_READER_H

#include "core/python.h"
#include "loop/loop.h"
#include "reader/stock.h"

typedef struct {
    PyDictObject dict; /* what the reader has beside the attributes below */
    ac_state *state;   /* borrowed from the module, which the type keeps alive */
    /* attributes of StreamReader, any objects; never NULL until tp_clear */
    PyObject *limit;
    PyObject *loop;
    PyObject *eof;
    PyObject *waiter;
    PyObject *exception;
    PyObject *transport;
    PyObject *paused;
    /* `_buffer` */
    PyObject *shown;   /* a bytearray, or NULL: then the bytes are in */
    PyObject *chunk;   /* exact bytes; NULL: there are none */
    size_t start, len; /* the bytes: chunk[start : start + len] */
    size_t wanted;     /* so many at once, by who waits; 0: unknown */
    bool roomy;        /* nobody else knows `chunk`: there is room behind the bytes */
    Py_ssize_t limit_value;
    bool odd; /* an attribute has an odd value, or a method is overridden */
} ReaderState;

/* The state of a reader of our class. Borrowed, kept by the reader; NULL, without an
 * exception, where a program has given it another dict. */
static inline ReaderState *
ac_reader_state_borrowed(const ac_state *state, PyObject *reader)
{
    PyObject *dict = ac_instance_dict_borrowed(reader);
    return dict != NULL && Py_IS_TYPE(dict, state->ReaderState) ? (ReaderState *)dict
                                                                : NULL;
}

/* Takes `shown` back, if nobody else holds it. Runs no Python. */
bool
ac_reader_take_back(ReaderState *self);

/* Whether our code may run on it; see above. Runs no Python. */
static inline bool
ac_reader_is_usual(ReaderState *self)
{
    return !self->odd && ac_stock_is_unchanged(self->state)
           && (self->shown == NULL || ac_reader_take_back(self));
}

/* An attribute of a stock object, and where ours has it: offsets in ac_state and in the
 * object. */
typedef struct {
    size_t name, member;
} ac_reader_attribute;

/* Copies `n` attributes out of a dict into the members of an object, which are NULL.
 * Returns whether all are there. Runs no Python. */
bool
ac_reader_copy(const ac_state *state, PyObject *dict, void *object,
               const ac_reader_attribute *wanted, size_t n);

/* How many attributes a plain reader has. */
#define AC_READER_ATTRIBUTES 8

/* A state with the attributes of a plain reader, by its dict, and with none in its own.
 * *made is NULL if one of them is missing or odd. Returns 0, or -1 with an exception.
 */
int
ac_reader_make(ac_state *state, PyObject *attributes, ReaderState **made);

/* Bytes at the end; `whole` as ac_sink_ops.data has it. Returns 0, or -1 with
 * MemoryError. */
int
ac_reader_append(ReaderState *self, const char *data, size_t len, PyObject *whole);

/* Drops the first n bytes. */
void
ac_reader_consume(ReaderState *self, size_t n);

/* The first n bytes, taken out. New reference, NULL with MemoryError. */
PyObject *
ac_reader_take(ReaderState *self, size_t n);

static inline const char *
ac_reader_bytes(const ReaderState *self)
{
    return PyBytes_AS_STRING(self->chunk) + self->start;
}

/* `_waiter = None` */
static inline void
ac_reader_clear_waiter(ReaderState *self)
{
    if (self->waiter != Py_None) {
        Py_XSETREF(self->waiter, Py_NewRef(Py_None));
    }
}

/* The state of a reader whose methods may be ours: borrowed, kept by the reader. NULL,
 * without an exception, if the standard's method is to run. Runs no Python. To be
 * called between AC_BEGIN_OBJECT(reader) and AC_END_OBJECT(), as all that looks at the
 * state. */
ReaderState *
ac_reader_usual_borrowed(PyObject *reader);

/* The standard's method of a reader. New reference, NULL with an exception. */
PyObject *
ac_reader_call_standard(PyObject *reader, const char *name, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames);

/* Registers ReaderState and StreamReader. Returns 0, or -1 with an exception. */
int
ac_reader_register(PyObject *module, ac_state *state);

#endif
