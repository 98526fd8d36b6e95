/* What the coroutines of StreamReader try, again after each wait: to take their bytes,
 * step by step as the loop of the standard's method. */
#include "core/python.h"

#include "core/errors.h"
#include "reader/attempt.h"
#include "reader/feed.h"

#include <string.h>

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
        (void)ac_errors_raise(exc);
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

/* ----------------------------------------------------------------------- bytes -- */

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

int
ac_attempt_join(PyObject *blocks, PyObject **result)
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
            return ac_errors_raise(state->exception);
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
            return ac_attempt_join(self->blocks, result);
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
    state->wanted = (size_t)self->n;
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
        (void)ac_errors_raise(overrun);
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

const ac_reading_kind ac_attempt_some = {AC_STOCK_READ, "read", "read", attempt_some};
const ac_reading_kind ac_attempt_all = {AC_STOCK_READ, "read", "read", attempt_all};
const ac_reading_kind ac_attempt_exactly = {AC_STOCK_READEXACTLY, "readexactly",
                                            "readexactly", attempt_exactly};
const ac_reading_kind ac_attempt_until = {AC_STOCK_READUNTIL, "readuntil", "readuntil",
                                          attempt_until};
const ac_reading_kind ac_attempt_line = {AC_STOCK_READLINE, "readline", "readuntil",
                                         attempt_line};
const ac_reading_kind ac_attempt_next = {AC_STOCK_ANEXT, "__anext__", "readuntil",
                                         attempt_next};
