/* The coroutines of StreamReader.
 *
 * Each kind has an attempt, which takes its bytes, waits for more or fails, step by
 * step as the loop of the standard's method. It waits as _wait_for_data() does: a
 * future of the loop in the reader's `_waiter`, which feed.c settles. Where the reader
 * is not usual any more, the standard's method goes on (`delegated`). */
#include "core/python.h"

#include "core/args.h"
#include "core/coroutine.h"
#include "loop/freelist.h"
#include "loop/future.h"
#include "reader/feed.h"
#include "reader/reads.h"

#include <stddef.h>
#include <string.h>

typedef struct ReadingObject ReadingObject;

typedef struct {
    ac_stock_function function;
    const char *name;  /* of the method */
    const char *waits; /* the method that waits, in the words of an error */
    /* Returns 1 with *result, 0 to wait for more, -1 with an exception. */
    int (*attempt)(ReadingObject *self, PyObject **result);
} reading_kind;

struct ReadingObject {
    AC_COROUTINE_HEAD
    const reading_kind *kind;
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

/* ------------------------------------------------------------------ exceptions -- */

static int
raise_incomplete(ReaderState *state, PyObject *expected)
{
    PyObject *partial = ac_reader_take(state, state->len);
    PyObject *exc = NULL;
    if (partial != NULL) {
        exc = PyObject_CallFunctionObjArgs(state->state->IncompleteReadError, partial,
                                           expected, NULL);
        Py_DECREF(partial);
    }
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return -1;
}

static PyObject *
limit_overrun(ReaderState *state, const char *message, size_t consumed)
{
    return PyObject_CallFunction(state->state->LimitOverrunError, "sn", message,
                                 (Py_ssize_t)consumed);
}

/* -------------------------------------------------------------------- attempts -- */

/* The first n bytes, then resumes the transport if that is due. */
static int
take(ReaderState *state, size_t n, PyObject **result)
{
    *result = ac_reader_take(state, n);
    if (*result == NULL) {
        return -1;
    }
    if (state->paused == Py_True && ac_feed_resume(state) < 0) {
        Py_CLEAR(*result);
        return -1;
    }
    return 1;
}

static int
raise_exception_of(ReaderState *state)
{
    PyObject *exc = state->exception;
    if (PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    else if (PyExceptionClass_Check(exc)) {
        PyErr_SetNone(exc);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    return -1;
}

static int
attempt_some(ReadingObject *self, PyObject **result)
{
    ReaderState *state = self->state;
    if (self->n == 0) {
        *result = ac_reader_take(state, 0);
        return *result == NULL ? -1 : 1;
    }
    if (state->len == 0 && state->eof != Py_True && !self->resumed) {
        return 0;
    }
    size_t n = (size_t)self->n < state->len ? (size_t)self->n : state->len;
    return take(state, n, result);
}

/* b''.join(blocks) */
static int
join_blocks(PyObject *blocks, PyObject **result)
{
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    *result = empty == NULL ? NULL : PyObject_CallMethod(empty, "join", "O", blocks);
    Py_XDECREF(empty);
    return *result == NULL ? -1 : 1;
}

/* Until EOF, by blocks of at most the limit. */
static int
attempt_all(ReadingObject *self, PyObject **result)
{
    ReaderState *state = self->state;
    if (self->blocks == NULL && (self->blocks = PyList_New(0)) == NULL) {
        return -1;
    }
    for (bool resumed = self->resumed;; resumed = false) {
        if (!resumed && state->exception != Py_None) {
            return raise_exception_of(state);
        }
        if (state->len == 0 && state->eof != Py_True && !resumed) {
            return 0;
        }
        size_t limit = (size_t)state->limit_value;
        PyObject *block;
        if (take(state, state->len < limit ? state->len : limit, &block) < 0) {
            return -1;
        }
        if (PyBytes_GET_SIZE(block) == 0) {
            Py_DECREF(block);
            return join_blocks(self->blocks, result);
        }
        int rc = PyList_Append(self->blocks, block);
        Py_DECREF(block);
        if (rc < 0 || !ac_reader_is_usual(state)) {  // resume_reading() may run Python
            return rc;
        }
    }
}

static int
attempt_exactly(ReadingObject *self, PyObject **result)
{
    ReaderState *state = self->state;
    if (self->n == 0) {
        *result = ac_reader_take(state, 0);
        return *result == NULL ? -1 : 1;
    }
    if (state->len >= (size_t)self->n) {
        return take(state, (size_t)self->n, result);
    }
    return state->eof == Py_True ? raise_incomplete(state, self->argument) : 0;
}

/* Where `needle` begins in the bytes from `offset` on, or -1. */
static Py_ssize_t
find(const ReaderState *state, size_t offset, PyObject *needle)
{
    const char *bytes = ac_reader_bytes(state);
    const char *wanted = PyBytes_AS_STRING(needle);
    size_t n = (size_t)PyBytes_GET_SIZE(needle);
    while (offset + n <= state->len) {
        const char *found =
            memchr(bytes + offset, wanted[0], state->len - n + 1 - offset);
        if (found == NULL) {
            return -1;
        }
        if (memcmp(found, wanted, n) == 0) {
            return found - bytes;
        }
        offset = (size_t)(found - bytes) + 1;
    }
    return -1;
}

/* The one separator; readline() has no argument. */
static PyObject *
separator_borrowed(const ReadingObject *self)
{
    return self->argument == NULL ? self->state->state->newline : self->argument;
}

/* The match that ends first. Returns whether there is one. */
static bool
find_first(const ReadingObject *self, size_t *start, size_t *end)
{
    if (self->separators == NULL) {
        PyObject *separator = separator_borrowed(self);
        Py_ssize_t found = find(self->state, self->offset, separator);
        *start = (size_t)found;
        *end = (size_t)(found + PyBytes_GET_SIZE(separator));
        return found >= 0;
    }
    bool any = false;
    *start = *end = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->separators); i++) {
        PyObject *separator = PyTuple_GET_ITEM(self->separators, i);
        Py_ssize_t found = find(self->state, self->offset, separator);
        size_t behind = (size_t)(found + PyBytes_GET_SIZE(separator));
        if (found >= 0 && (!any || behind < *end)) {
            any = true;
            *start = (size_t)found;
            *end = behind;
        }
    }
    return any;
}

/* The length of the shortest and of the longest separator. */
static void
measure_separators(const ReadingObject *self, size_t *min, size_t *max)
{
    PyObject *first, *last;
    if (self->separators == NULL) {
        first = last = separator_borrowed(self);
    }
    else {
        Py_ssize_t n = PyTuple_GET_SIZE(self->separators);
        first = PyTuple_GET_ITEM(self->separators, 0);
        last = PyTuple_GET_ITEM(self->separators, n - 1);
    }
    *min = (size_t)PyBytes_GET_SIZE(first);
    *max = (size_t)PyBytes_GET_SIZE(last);
}

/* readuntil() up to its exceptions, which go to the caller: *overrun is a
 * LimitOverrunError, *consumed its number; *incomplete means EOF. */
static int
until(ReadingObject *self, PyObject **result, PyObject **overrun, size_t *consumed,
      bool *incomplete)
{
    ReaderState *state = self->state;
    size_t limit = (size_t)state->limit_value, shortest, longest, start, end;
    const char *message = NULL;
    measure_separators(self, &shortest, &longest);
    if (state->len >= self->offset + shortest) {
        if (find_first(self, &start, &end)) {
            if (start <= limit) {
                return take(state, end, result);
            }
            *consumed = start;
            message = "Separator is found, but chunk is longer than limit";
        }
        else {
            self->offset = state->len + 1 > longest ? state->len + 1 - longest : 0;
            *consumed = self->offset;
            if (self->offset > limit) {
                message = "Separator is not found, and chunk exceed the limit";
            }
        }
    }
    if (message != NULL) {
        *overrun = limit_overrun(state, message, *consumed);
        return -1;
    }
    *incomplete = state->eof == Py_True;
    return 0;
}

static int
attempt_until(ReadingObject *self, PyObject **result)
{
    PyObject *overrun = NULL;
    size_t consumed = 0;
    bool incomplete = false;
    int rc = until(self, result, &overrun, &consumed, &incomplete);
    if (overrun != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(overrun), overrun);
        Py_DECREF(overrun);
    }
    return incomplete ? raise_incomplete(self->state, Py_None) : rc;
}

/* What readline() makes of a LimitOverrunError (consumed): a ValueError, with the bytes
 * dropped. */
static int
drop_line_steal(ReaderState *state, PyObject *overrun, size_t consumed)
{
    bool at_newline = consumed < state->len && ac_reader_bytes(state)[consumed] == '\n';
    ac_reader_consume(state, at_newline ? consumed + 1 : state->len);
    PyObject *args = PyObject_GetAttrString(overrun, "args");
    PyObject *text = args == NULL ? NULL : PySequence_GetItem(args, 0);
    if (text != NULL && (state->paused != Py_True || ac_feed_resume(state) == 0)) {
        PyErr_SetObject(PyExc_ValueError, text);
    }
    Py_XDECREF(args);
    Py_XDECREF(text);
    PyObject *exc = ac_err_take();
    PyException_SetContext(exc, overrun);
    ac_err_restore_steal(exc);
    return -1;
}

static int
attempt_line(ReadingObject *self, PyObject **result)
{
    PyObject *overrun = NULL;
    size_t consumed = 0;
    bool incomplete = false;
    int rc = until(self, result, &overrun, &consumed, &incomplete);
    if (overrun != NULL) {
        return drop_line_steal(self->state, overrun, consumed);
    }
    if (incomplete) {
        *result = ac_reader_take(self->state, self->state->len);
        return *result == NULL ? -1 : 1;
    }
    return rc;
}

static int
attempt_next(ReadingObject *self, PyObject **result)
{
    int rc = attempt_line(self, result);
    if (rc > 0 && PyBytes_GET_SIZE(*result) == 0) {
        Py_CLEAR(*result);
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return -1;
    }
    return rc;
}

static const reading_kind reading_some = {AC_STOCK_READ, "read", "read", attempt_some};
static const reading_kind reading_all = {AC_STOCK_READ, "read", "read", attempt_all};
static const reading_kind reading_exactly = {AC_STOCK_READEXACTLY, "readexactly",
                                             "readexactly", attempt_exactly};
static const reading_kind reading_until = {AC_STOCK_READUNTIL, "readuntil", "readuntil",
                                           attempt_until};
static const reading_kind reading_line = {AC_STOCK_READLINE, "readline", "readuntil",
                                          attempt_line};
static const reading_kind reading_next = {AC_STOCK_ANEXT, "__anext__", "readuntil",
                                          attempt_next};

/* -------------------------------------------------------------------- stepping -- */

/* Awaits the standard's method. */
static PySendResult
delegate(ReadingObject *self, PyObject **result)
{
    ac_state *state = self->state->state;
    PyObject *name = PyUnicode_InternFromString(self->kind->name);
    PyObject *coroutine = NULL;
    if (name != NULL) {
        coroutine = ac_stock_call(state->Reader, self->reader, name, &self->argument,
                                  self->argument == NULL ? 0 : 1, NULL);
        Py_DECREF(name);
    }
    self->delegated = true;
    *result = coroutine == NULL ? NULL : ac_coroutine_awaitable(coroutine);
    Py_XDECREF(coroutine);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

/* What the standard's method has returned. */
static PySendResult
delegate_done(ReadingObject *self, PyObject *value, PyObject **result)
{
    if (self->blocks != NULL && PyList_GET_SIZE(self->blocks) > 0) {
        return PyList_Append(self->blocks, value) < 0
                       || join_blocks(self->blocks, result) < 0
                   ? PYGEN_ERROR
                   : PYGEN_RETURN;
    }
    *result = Py_NewRef(value);
    return PYGEN_RETURN;
}

/* _wait_for_data() */
static PySendResult
wait_for_data(ReadingObject *self, PyObject **result)
{
    ReaderState *state = self->state;
    if (state->waiter != Py_None) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s() called while another coroutine is already waiting for "
                     "incoming data",
                     self->kind->waits);
        return PYGEN_ERROR;
    }
    if (state->paused == Py_True && ac_feed_resume_now(state) < 0) {
        return PYGEN_ERROR;
    }
    if (!PyObject_TypeCheck(state->loop, state->state->Loop)) {
        PyErr_SetString(PyExc_RuntimeError, "the reader's loop was replaced");
        return PYGEN_ERROR;
    }
    PyObject *future = ac_future_new((LoopObject *)state->loop);
    if (future == NULL) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(state->waiter, Py_NewRef(future));
    self->waiting = true;
    *result = ac_coroutine_awaitable(future);
    Py_DECREF(future);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

/* The wait is over, in whatever way. */
static void
end_wait(ReadingObject *self)
{
    if (!self->waiting) {
        return;
    }
    self->waiting = false;
    ac_state *state = self->state->state;
    if (Py_TYPE(self->reader) == state->Reader) {
        ac_reader_clear_waiter(self->state);
    }
    else if (PyObject_SetAttr(self->reader, state->str__waiter, Py_None) < 0) {
        PyErr_WriteUnraisable(self->reader);
    }
}

static PySendResult
reading_step(PyObject *op, PyObject *value, PyObject **result)
{
    ReadingObject *self = (ReadingObject *)op;
    ReaderState *state = self->state;
    if (self->delegated) {
        return delegate_done(self, value, result);
    }
    self->resumed = self->waiting;
    end_wait(self);
    if (!ac_reader_is_usual(state)) {
        return delegate(self, result);
    }
    if (value == NULL && state->exception != Py_None) {
        (void)raise_exception_of(state);
        return PYGEN_ERROR;
    }
    int rc = self->kind->attempt(self, result);
    if (rc != 0) {
        return rc < 0 ? PYGEN_ERROR : PYGEN_RETURN;
    }
    if (!ac_reader_is_usual(state)) {
        return delegate(self, result);
    }
    return wait_for_data(self, result);
}

static void
reading_drop(ReadingObject *self)
{
    Py_CLEAR(self->reader);
    Py_CLEAR(self->argument);
    Py_CLEAR(self->separators);
    Py_CLEAR(self->blocks);
    Py_CLEAR(self->state);
}

static void
reading_end(PyObject *op)
{
    PyObject *exc = PyErr_Occurred() == NULL ? NULL : ac_err_take();
    end_wait((ReadingObject *)op);
    reading_drop((ReadingObject *)op);
    if (exc != NULL) {
        ac_err_restore_steal(exc);
    }
}

static void
reading_free(PyObject *op)
{
    LoopObject *loop = ((ReadingObject *)op)->loop;
    ac_freelist_free_finalized(op, loop, &loop->reads);
}

static const ac_coroutine_ops reading_ops = {
    .step = reading_step,
    .end = reading_end,
    .free = reading_free,
};

/* --------------------------------------------------------------- life and death -- */

static int
reading_traverse(PyObject *op, visitproc visit, void *arg)
{
    ReadingObject *self = (ReadingObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->reader);
    Py_VISIT((PyObject *)self->state);
    Py_VISIT(self->argument);
    Py_VISIT(self->separators);
    Py_VISIT(self->blocks);
    return ac_coroutine_traverse((ac_coroutine *)self, visit, arg);
}

static int
reading_clear(PyObject *op)
{
    reading_drop((ReadingObject *)op);
    ac_coroutine_clear((ac_coroutine *)op);
    return 0;
}

static ReadingObject *
reading_make(ReaderState *state, PyObject *reader, const reading_kind *kind,
             PyObject *argument)
{
    ac_state *module = state->state;
    LoopObject *loop = (LoopObject *)state->loop;  // it is, where the reader is usual
    ReadingObject *self = (ReadingObject *)ac_freelist_new(
        &loop->reads, module->ReaderCoroutine, sizeof(ReadingObject));
    if (self == NULL) {
        return NULL;
    }
    memset(&self->weakrefs, 0, sizeof(*self) - offsetof(ReadingObject, weakrefs));
    self->kind = kind;
    self->loop = (LoopObject *)Py_NewRef(loop);
    self->reader = Py_NewRef(reader);
    self->state = (ReaderState *)Py_NewRef(state);
    self->argument = Py_XNewRef(argument);
    PyObject_GC_Track(self);
    if (ac_coroutine_init((ac_coroutine *)self, &reading_ops,
                          ac_stock_function_borrowed(module, kind->function))
        < 0)
    {
        Py_CLEAR(self);
    }
    return self;
}

/* --------------------------------------------------------------------- methods -- */

/* The one argument, by position or as `name`. Borrowed, NULL if that is not all. */
static PyObject *
only_argument(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              const char *name)
{
    if (kwnames == NULL) {
        return nargs == 1 ? args[0] : NULL;
    }
    return nargs == 0 && PyTuple_GET_SIZE(kwnames) == 1
                   && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0),
                                                       name)
                          == 0
               ? args[0]
               : NULL;
}

/* Whether an argument (may be NULL) is a plain number of bytes. */
static bool
is_number(PyObject *argument, Py_ssize_t *n)
{
    if (argument == NULL || !PyLong_CheckExact(argument)) {
        return false;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(argument, &overflow);
    *n = (Py_ssize_t)value;
    return overflow == 0;
}

PyDoc_STRVAR(reader_read_doc,
             "read($self, /, n=-1)\n--\n\n"
             "Up to n bytes as soon as there are any, or all until EOF.");

static PyObject *
reader_read(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t n = -1;
    ReaderState *self = ac_reader_usual_borrowed(op);
    PyObject *argument = only_argument(args, nargs, kwnames, "n");
    bool all = nargs == 0 && kwnames == NULL;
    if (self == NULL || (!all && !is_number(argument, &n))) {
        return ac_reader_call_standard(op, "read", args, nargs, kwnames);
    }
    ReadingObject *reading =
        reading_make(self, op, n < 0 ? &reading_all : &reading_some, argument);
    if (reading != NULL) {
        reading->n = n;
    }
    return (PyObject *)reading;
}

PyDoc_STRVAR(reader_readexactly_doc, "readexactly($self, /, n)\n--\n\n"
                                     "n bytes; IncompleteReadError at EOF.");

static PyObject *
reader_readexactly(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    Py_ssize_t n;
    ReaderState *self = ac_reader_usual_borrowed(op);
    PyObject *argument = only_argument(args, nargs, kwnames, "n");
    if (self == NULL || !is_number(argument, &n) || n < 0) {
        return ac_reader_call_standard(op, "readexactly", args, nargs, kwnames);
    }
    ReadingObject *reading = reading_make(self, op, &reading_exactly, argument);
    if (reading != NULL) {
        reading->n = n;
    }
    return (PyObject *)reading;
}

/* sorted(separators, key=len) as a tuple. *sorted is NULL if one is not plain bytes.
 * Returns 0, or -1 with an exception. */
static int
sort_separators(PyObject *separators, PyObject **sorted)
{
    Py_ssize_t n = PyTuple_GET_SIZE(separators);
    *sorted = NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(separators, i);
        if (!PyBytes_CheckExact(item) || PyBytes_GET_SIZE(item) == 0) {
            return 0;
        }
    }
    if (n == 0) {
        return 0;
    }
    PyObject *made = PyTuple_New(n);
    for (Py_ssize_t i = 0; made != NULL && i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(separators, i);
        Py_ssize_t at = i;
        for (; at > 0; at--) {
            PyObject *before = PyTuple_GET_ITEM(made, at - 1);
            if (PyBytes_GET_SIZE(before) <= PyBytes_GET_SIZE(item)) {
                break;
            }
            PyTuple_SET_ITEM(made, at, before);
        }
        PyTuple_SET_ITEM(made, at, Py_NewRef(item));
    }
    *sorted = made;
    return made == NULL ? -1 : 0;
}

PyDoc_STRVAR(reader_readuntil_doc,
             "readuntil($self, /, separator=b'\\n')\n--\n\n"
             "The bytes up to and with the separator; LimitOverrunError if it is\n"
             "too far, IncompleteReadError at EOF.");

static PyObject *
reader_readuntil(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    ReaderState *self = ac_reader_usual_borrowed(op);
    PyObject *separator = only_argument(args, nargs, kwnames, "separator");
    PyObject *sorted = NULL;
    bool plain = self != NULL;
    if (separator == NULL) {
        plain = plain && nargs == 0 && kwnames == NULL;
    }
    else if (plain && PyTuple_CheckExact(separator) && self->state->stock_tuples) {
        if (sort_separators(separator, &sorted) < 0) {
            return NULL;
        }
        plain = sorted != NULL;
    }
    else {
        plain =
            plain && PyBytes_CheckExact(separator) && PyBytes_GET_SIZE(separator) > 0;
    }
    if (!plain) {
        return ac_reader_call_standard(op, "readuntil", args, nargs, kwnames);
    }
    ReadingObject *reading = reading_make(self, op, &reading_until, separator);
    if (reading == NULL) {
        Py_XDECREF(sorted);
        return NULL;
    }
    reading->separators = sorted;
    return (PyObject *)reading;
}

PyDoc_STRVAR(reader_readline_doc, "readline($self, /)\n--\n\n"
                                  "The bytes up to and with a newline, or until EOF.");

static PyObject *
reader_readline(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ReaderState *self = ac_reader_usual_borrowed(op);
    return self == NULL ? ac_reader_call_standard(op, "readline", NULL, 0, NULL)
                        : (PyObject *)reading_make(self, op, &reading_line, NULL);
}

PyObject *
ac_reads_next(PyObject *op)
{
    ReaderState *self = ac_reader_usual_borrowed(op);
    return self == NULL ? ac_reader_call_standard(op, "__anext__", NULL, 0, NULL)
                        : (PyObject *)reading_make(self, op, &reading_next, NULL);
}

#define WITH_KEYWORDS(function) (PyCFunction)(void (*)(void)) function

PyMethodDef ac_reads_methods[] = {
    {"read", WITH_KEYWORDS(reader_read), METH_FASTCALL | METH_KEYWORDS,
     reader_read_doc},
    {"readexactly", WITH_KEYWORDS(reader_readexactly), METH_FASTCALL | METH_KEYWORDS,
     reader_readexactly_doc},
    {"readuntil", WITH_KEYWORDS(reader_readuntil), METH_FASTCALL | METH_KEYWORDS,
     reader_readuntil_doc},
    {"readline", reader_readline, METH_NOARGS, reader_readline_doc},
    {NULL, NULL, 0, NULL},
};

/* -------------------------------------------------------------------- the type -- */

static PyMethodDef reading_methods[] = {
    AC_COROUTINE_METHODS,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reading_slots[] = {
    {Py_tp_doc, "The coroutine of a method of StreamReader."},
    AC_COROUTINE_SLOTS,
    {Py_tp_traverse, reading_traverse},
    {Py_tp_clear, reading_clear},
    {Py_tp_methods, reading_methods},
    {0, NULL},
};

static PyType_Spec reading_spec = {
    .name = "asynccore._core.ReaderCoroutine",
    .basicsize = sizeof(ReadingObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reading_slots,
};

int
ac_reads_register(PyObject *module, ac_state *state)
{
    state->newline = PyBytes_FromStringAndSize("\n", 1);
    state->ReaderCoroutine = ac_state_add_type(module, &reading_spec, NULL);
    return state->newline == NULL || state->ReaderCoroutine == NULL ? -1 : 0;
}
