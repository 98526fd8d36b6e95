/* Calls of methods, and the numbers that objects tell. */
#ifndef AC_METHOD_H
#define AC_METHOD_H

#include "core/python.h"

/* object.<name>(argument), without argument if that is NULL. The object is a member of
 * something, which the call may replace: it is held. NULL counts as None. New
 * reference, NULL with an exception. */
static inline PyObject *
ac_method_call(PyObject *object, PyObject *name, PyObject *argument)
{
    object = Py_NewRef(object == NULL ? Py_None : object);
    PyObject *stack[3] = {NULL, object, argument};
    size_t nargs = argument == NULL ? 1 : 2;
    PyObject *result = PyObject_VectorcallMethod(
        name, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(object);
    return result;
}

/* A number (consumed; NULL: an exception is raised) as a C long; -1 with an exception.
 */
static inline long
ac_method_as_long_steal(PyObject *number)
{
    long value = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    return value;
}

/* object.<name>() and object.<name> as a number; -1 with an exception, or if it is -1.
 */
static inline long
ac_method_number(PyObject *object, PyObject *name)
{
    return ac_method_as_long_steal(PyObject_CallMethodNoArgs(object, name));
}

static inline long
ac_method_attribute_number(PyObject *object, PyObject *name)
{
    return ac_method_as_long_steal(PyObject_GetAttr(object, name));
}

/* function(self, *args, **keywords): the interpreter's own method, called as ours was.
 * New reference, NULL with an exception. */
static inline PyObject *
ac_method_pass_on(PyObject *function, PyObject *self, PyObject *const *args,
                  Py_ssize_t nargs, PyObject *kwnames)
{
    size_t count = (size_t)(nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames)));
    PyObject *few[8];
    PyObject **stack = count < 8 ? few : PyMem_New(PyObject *, count + 1);
    if (stack == NULL) {
        return PyErr_NoMemory();
    }
    stack[0] = self;
    for (size_t i = 0; i < count; i++) {
        stack[i + 1] = args[i];
    }
    PyObject *result = PyObject_Vectorcall(function, stack, (size_t)nargs + 1, kwnames);
    if (stack != few) {
        PyMem_Free(stack);
    }
    return result;
}

#endif
