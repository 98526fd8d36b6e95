/* A later Python may do more in a method whose work we do without its frame. Its code
 * tells: a name that is not known means that the method is to be called. */
#include "core/python.h"

#include "core/code.h"

static bool
is_known(PyObject *name, const char *const *known)
{
    while (*known != NULL) {
        if (PyUnicode_CompareWithASCIIString(name, *known++) == 0) {
            return true;
        }
    }
    return false;
}

/* New reference, NULL with an exception. */
static PyObject *
names_of(PyObject *function)
{
    return PyObject_GetAttrString(PyFunction_GET_CODE(function), "co_names");
}

int
ac_code_uses(PyObject *function, const char *name)
{
    if (!PyFunction_Check(function)) {
        return 0;
    }
    PyObject *names = names_of(function);
    PyObject *text = names == NULL ? NULL : PyUnicode_FromString(name);
    int uses = text == NULL ? -1 : PySequence_Contains(names, text);
    Py_XDECREF(names);
    Py_XDECREF(text);
    return uses;
}

int
ac_code_uses_only(PyObject *function, PyObject *globals, const char *const *known)
{
    if (!PyFunction_Check(function) || PyFunction_GET_GLOBALS(function) != globals) {
        return 0;
    }
    PyObject *names = names_of(function);
    if (names == NULL) {
        return -1;
    }
    int only = PyTuple_Check(names);
    for (Py_ssize_t i = 0; only && i < PyTuple_GET_SIZE(names); i++) {
        only = is_known(PyTuple_GET_ITEM(names, i), known);
    }
    Py_DECREF(names);
    return only;
}
