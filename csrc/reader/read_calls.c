/* The methods of StreamReader that are coroutines: their arguments. What is not usual
 * goes to the standard's method. */
#include "core/python.h"

#include "reader/attempt.h"
#include "reader/read_calls.h"

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

/* The coroutine. Where the reader is not usual, *usual is false and NULL is returned
 * without an exception. */
static ReadingObject *
begin(PyObject *op, const ac_reading_kind *kind, PyObject *argument, bool *usual)
{
    ReadingObject *reading = NULL;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = ac_reader_usual_borrowed(op);
    *usual = self != NULL;
    if (*usual) {
        reading = ac_reads_new(self, op, kind, argument);
    }
    AC_END_OBJECT();
    return reading;
}

static PyObject *
reader_read(PyObject *op, const ac_coroutine_method *Py_UNUSED(method),
            PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t n = -1;
    PyObject *argument = only_argument(args, nargs, kwnames, "n");
    bool usual = (nargs == 0 && kwnames == NULL) || is_number(argument, &n);
    ReadingObject *reading = NULL;
    if (usual) {
        reading =
            begin(op, n < 0 ? &ac_attempt_all : &ac_attempt_some, argument, &usual);
    }
    if (!usual) {
        return ac_reader_call_standard(op, "read", args, nargs, kwnames);
    }
    if (reading != NULL) {
        reading->n = n;
    }
    return (PyObject *)reading;
}

static PyObject *
reader_readexactly(PyObject *op, const ac_coroutine_method *Py_UNUSED(method),
                   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t n;
    PyObject *argument = only_argument(args, nargs, kwnames, "n");
    bool usual = is_number(argument, &n) && n >= 0;
    ReadingObject *reading =
        usual ? begin(op, &ac_attempt_exactly, argument, &usual) : NULL;
    if (!usual) {
        return ac_reader_call_standard(op, "readexactly", args, nargs, kwnames);
    }
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

/* Whether the standard's readuntil() takes several separators. */
static bool
takes_tuples(PyObject *op)
{
    bool takes;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = ac_reader_usual_borrowed(op);
    takes = self != NULL && self->state->stock_tuples;
    AC_END_OBJECT();
    return takes;
}

static PyObject *
reader_readuntil(PyObject *op, const ac_coroutine_method *Py_UNUSED(method),
                 PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *separator = only_argument(args, nargs, kwnames, "separator");
    PyObject *sorted = NULL;
    bool usual;
    if (separator == NULL) {
        usual = nargs == 0 && kwnames == NULL;
    }
    else if (PyTuple_CheckExact(separator)) {
        if (takes_tuples(op) && sort_separators(separator, &sorted) < 0) {
            return NULL;
        }
        usual = sorted != NULL;
    }
    else {
        usual = PyBytes_CheckExact(separator) && PyBytes_GET_SIZE(separator) > 0;
    }
    ReadingObject *reading =
        usual ? begin(op, &ac_attempt_until, separator, &usual) : NULL;
    if (reading == NULL) {
        Py_XDECREF(sorted);
        return usual ? NULL
                     : ac_reader_call_standard(op, "readuntil", args, nargs, kwnames);
    }
    reading->separators = sorted;
    return (PyObject *)reading;
}

static PyObject *
reader_readline(PyObject *op, const ac_coroutine_method *Py_UNUSED(method),
                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    bool usual = nargs == 0 && kwnames == NULL;
    ReadingObject *reading = usual ? begin(op, &ac_attempt_line, NULL, &usual) : NULL;
    return usual ? (PyObject *)reading
                 : ac_reader_call_standard(op, "readline", args, nargs, kwnames);
}

PyObject *
ac_read_calls_next(PyObject *op)
{
    bool usual;
    ReadingObject *reading = begin(op, &ac_attempt_next, NULL, &usual);
    return usual ? (PyObject *)reading
                 : ac_reader_call_standard(op, "__anext__", NULL, 0, NULL);
}

const ac_coroutine_method_def ac_read_calls_methods[] = {
    {"read", reader_read, NULL},
    {"readexactly", reader_readexactly, NULL},
    {"readuntil", reader_readuntil, NULL},
    {"readline", reader_readline, NULL},
    {NULL, NULL, NULL},
};
