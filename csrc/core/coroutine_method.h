/* A method written in C in the place of an `async def`: calling it makes a coroutine.
 *
 * For `inspect`, `asyncio` and `unittest.mock` it is a coroutine function: it has the
 * attributes of the one that it stands for, `__code__` among them. */
#ifndef AC_COROUTINE_METHOD_H
#define AC_COROUTINE_METHOD_H

#include "core/state.h"

typedef struct ac_coroutine_method ac_coroutine_method;

/* One of a table. */
typedef struct {
    const char *name; /* NULL ends the table */
    /* As a METH_FASTCALL | METH_KEYWORDS method, with the descriptor that it is in. */
    PyObject *(*call)(PyObject *self, const ac_coroutine_method *method,
                      PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
    const void *kind; /* what `call` makes of it */
} ac_coroutine_method_def;

/* The descriptor in the dict of a class. */
struct ac_coroutine_method {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    const ac_coroutine_method_def *def;
    PyTypeObject *owner; /* owned: the class whose objects `call` takes */
    PyObject *function;  /* owned: the function that it stands for */
    PyObject *weakrefs;
};

/* Adds the methods of a table to a class, which derives from `standard`: each stands
 * for the function of its name there. What is no function of asyncio's was put in its
 * place by the program, and stays. Returns 0, or -1 with an exception. */
int
ac_coroutine_method_add_all(ac_state *state, PyTypeObject *type, PyObject *standard,
                            const ac_coroutine_method_def *defs);

/* Registers the descriptor's type. Returns 0, or -1 with an exception. */
int
ac_coroutine_method_register(PyObject *module, ac_state *state);

#endif
