/* The classes of asyncio.streams, as they were at import, and ours, which derive from
 * them. What a program has patched in them, whenever, counts: then the standard's code
 * runs. */
#ifndef AC_STOCK_H
#define AC_STOCK_H

#include "core/state.h"

/* The functions that our coroutines stand for, in state->stock_functions. */
typedef enum {
    AC_STOCK_READ,
    AC_STOCK_READEXACTLY,
    AC_STOCK_READUNTIL,
    AC_STOCK_READLINE,
    AC_STOCK_ANEXT,
    AC_STOCK_FUNCTIONS,
} ac_stock_function;

static inline PyObject *
ac_stock_function_borrowed(const ac_state *state, ac_stock_function which)
{
    return PyTuple_GET_ITEM(state->stock_functions, which);
}

/* Compares all attributes; runs no Python. */
bool
ac_stock_compare(ac_state *state);

/* Whether nobody has patched StreamReader, StreamWriter, StreamReaderProtocol or their
 * bases. Runs no Python. */
static inline bool
ac_stock_is_unchanged(ac_state *state)
{
    // a base's change is one of ours as well
    unsigned int reader = ac_type_version(state->Reader);
    unsigned int writer = ac_type_version(state->Writer);
    unsigned int protocol = ac_type_version((PyTypeObject *)state->stock_protocol);
    if (reader != AC_LOAD(state->stock_versions[0])
        || writer != AC_LOAD(state->stock_versions[1])
        || protocol != AC_LOAD(state->stock_versions[2]) || reader == 0 || writer == 0
        || protocol == 0)
    {
        return ac_stock_compare(state);
    }
    return AC_LOAD(state->stock_unchanged);
}

/* super(type, self).name(*args): what the program's patch has put there; the base's
 * method, where self is of `type` no more. `args` as for a METH_FASTCALL |
 * METH_KEYWORDS method. New reference, NULL with an exception. */
PyObject *
ac_stock_call(PyTypeObject *type, PyObject *self, PyObject *name, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames);

/* The same for a name that is no string object yet. */
PyObject *
ac_stock_call_named(PyTypeObject *type, PyObject *self, const char *name,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* Remembers the classes. Returns 0, or -1 with an exception. */
int
ac_stock_register(ac_state *state);

/* Remembers one of ours. Returns 0, or -1 with an exception. */
int
ac_stock_register_ours(ac_state *state, PyTypeObject *type);

#endif
