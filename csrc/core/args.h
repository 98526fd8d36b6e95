/* Arguments of vectorcall methods: of the shape (leading..., *args, context=None), as
 * call_soon and call_later have them, and the single one of a transport's. */
#ifndef AC_ARGS_H
#define AC_ARGS_H

#include "core/python.h"

typedef struct {
    PyObject *leading[2];  /* borrowed */
    PyObject *const *rest; /* the *args, borrowed */
    Py_ssize_t nrest;
    PyObject *context; /* borrowed, NULL if not given */
} ac_args;

/* Whether a keyword is `expected`, an interned ASCII string of ours. The keywords of
 * _asyncio's own calls are not interned, so that the pointers may differ. */
static inline bool
ac_args_is(PyObject *keyword, PyObject *expected)
{
    return keyword == expected
           || (PyUnicode_IS_ASCII(keyword)
               && PyUnicode_GET_LENGTH(keyword) == PyUnicode_GET_LENGTH(expected)
               && memcmp(PyUnicode_1BYTE_DATA(keyword), PyUnicode_1BYTE_DATA(expected),
                         (size_t)PyUnicode_GET_LENGTH(expected))
                      == 0);
}

/* The usual call, told in a few instructions: the `nleading` required arguments by
 * position, and no keywords or the tuple `known`, which is ("context",). Returns false
 * for everything else. */
static inline bool
ac_args_parse_usual(ac_args *out, Py_ssize_t nleading, PyObject *known,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs < nleading || (kwnames != NULL && kwnames != known)) {
        return false;
    }
    out->leading[0] = args[0];
    out->leading[1] = args[nleading - 1];
    out->rest = args + nleading;
    out->nrest = nargs - nleading;
    out->context = kwnames == NULL ? NULL : args[nargs];
    return true;
}

/* Whether each of the `nleading` required parameters called `names` has its argument.
 * Returns 0, or -1 with the TypeError that tells which have none. */
static inline int
ac_args_check_leading(const ac_args *out, const char *function, PyObject *const *names,
                      Py_ssize_t nleading)
{
    Py_ssize_t missing = 0;
    PyObject *first = NULL, *last = NULL;  // borrowed from names
    for (Py_ssize_t k = 0; k < nleading; k++) {
        if (out->leading[k] == NULL) {
            missing++;
            first = first == NULL ? names[k] : first;
            last = names[k];
        }
    }
    if (missing == 0) {
        return 0;
    }
    if (missing == 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() missing 1 required positional argument: '%U'", function,
                     first);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "%s() missing 2 required positional arguments: '%U' and '%U'",
                     function, first, last);
    }
    return -1;
}

/* Splits the arguments of a METH_FASTCALL | METH_KEYWORDS method with `nleading`
 * (1 or 2) required parameters called `names`; `context_name` NULL: no context=.
 * Returns 0, or -1 with the TypeError that the interpreter raises for a function
 * `function`. */
static inline int
ac_args_parse(ac_args *out, const char *function, PyObject *const *names,
              Py_ssize_t nleading, PyObject *context_name, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t positional = nargs < nleading ? nargs : nleading;
    out->leading[0] = out->leading[1] = NULL;
    out->context = NULL;
    for (Py_ssize_t i = 0; i < positional; i++) {
        out->leading[i] = args[i];
    }
    out->rest = args + positional;
    out->nrest = nargs - positional;
    Py_ssize_t nkeywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        PyObject *value = args[nargs + i];
        PyObject **target = NULL;
        if (context_name != NULL && ac_args_is(name, context_name)) {
            target = &out->context;
        }
        for (Py_ssize_t k = 0; target == NULL && k < nleading; k++) {
            if (ac_args_is(name, names[k])) {
                target = &out->leading[k];
            }
        }
        if (target == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'", function,
                         name);
            return -1;
        }
        if (*target != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                         function, name);
            return -1;
        }
        *target = value;
    }
    return ac_args_check_leading(out, function, names, nleading);
}

/* What is not the short way of ac_args_single(). */
static inline PyObject *
ac_args_single_named(const char *function, const char *name, PyObject *const *args,
                     Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 2 positional arguments but %zd were given", function,
                     nargs + 1);
        return NULL;
    }
    PyObject *found = nargs == 1 ? args[0] : NULL;
    Py_ssize_t nkeywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(keyword, name) != 0) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'", function,
                         keyword);
            return NULL;
        }
        if (found != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         function, name);
            return NULL;
        }
        found = args[nargs + i];
    }
    if (found == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() missing 1 required positional argument: '%s'", function,
                     name);
    }
    return found;
}

/* The one argument, called `name`, of a METH_FASTCALL | METH_KEYWORDS method:
 * borrowed, or NULL with the TypeError that the interpreter raises for a function
 * `function`. */
static inline PyObject *
ac_args_single(const char *function, const char *name, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1 && kwnames == NULL) {
        return args[0];
    }
    return ac_args_single_named(function, name, args, nargs, kwnames);
}

/* Whether a transport's write() takes the object: bytes, bytearray or memoryview. */
static inline bool
ac_args_is_data(PyObject *object)
{
    return PyBytes_Check(object) || PyByteArray_Check(object)
           || PyMemoryView_Check(object);
}

#endif
