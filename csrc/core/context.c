/* Where a context has its variables.
 *
 * A handle that is scheduled without context= gets a copy of the current context. As
 * long as the program sets no variable, all those copies are the same, and one that
 * only a dead handle has known can serve the next: it has nothing in it that would be
 * kept alive. The pointer to the variables is read out of a struct that is private to
 * the interpreter, if a trial has shown where it lies; else each handle gets a copy of
 * its own: 280 of the 1,970 instructions of a call_soon (3.13). */
#include "core/python.h"

#include "core/context.h"

#include <string.h>

/* The word in front of the list of weak references, of which the type tells. */
static PyObject *
variables_borrowed(PyObject *context)
{
    return *(PyObject **)((char *)context + PyContext_Type.tp_weaklistoffset
                          - sizeof(PyObject *));
}

/* Sets a variable in a context, or resets it by the token of that. Returns the token, a
 * new reference, or NULL with an exception. */
static PyObject *
change_within(PyObject *context, PyObject *variable, PyObject *token)
{
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    if (token == NULL) {
        token = PyContextVar_Set(variable, Py_None);
    }
    else {
        token = PyContextVar_Reset(variable, token) < 0 ? NULL : Py_NewRef(token);
    }
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(token);
    }
    return token;
}

/* Whether the word is the variables: the same in two new contexts, another when one is
 * set, copied with them, and the first again when that is reset. Returns -1 with an
 * exception. */
static int
trial(PyObject *context, PyObject *other, PyObject *variable)
{
    PyObject *empty = variables_borrowed(other);
    bool same = empty != NULL && variables_borrowed(context) == empty;
    PyObject *token = change_within(context, variable, NULL);
    PyObject *copy = token == NULL ? NULL : PyContext_Copy(context);
    PyObject *again = NULL;
    if (copy != NULL) {
        PyObject *changed = variables_borrowed(context);
        same = same && changed != empty && variables_borrowed(copy) == changed;
        again = change_within(context, variable, token);
    }
    int rc = again == NULL ? -1 : same && variables_borrowed(context) == empty;
    Py_XDECREF(token);
    Py_XDECREF(copy);
    Py_XDECREF(again);
    return rc;
}

int
ac_context_prove(ac_state *state)
{
    Py_ssize_t offset =
        PyContext_Type.tp_weaklistoffset - (Py_ssize_t)sizeof(PyObject *);
    if (offset < (Py_ssize_t)sizeof(PyObject)) {
        return 0;
    }
    PyObject *context = PyContext_New(), *other = PyContext_New();
    PyObject *variable = PyContextVar_New("asynccore", NULL);
    int proven = context == NULL || other == NULL || variable == NULL
                     ? -1
                     : trial(context, other, variable);
    if (proven > 0 && strcmp(Py_TYPE(variables_borrowed(other))->tp_name, "hamt") == 0)
    {
        state->context_offset = offset;
        state->no_variables = Py_NewRef(variables_borrowed(other));
    }
    Py_XDECREF(context);
    Py_XDECREF(other);
    Py_XDECREF(variable);
    return proven < 0 ? -1 : 0;
}
