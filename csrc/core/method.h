/* Calls of methods, and the numbers that objects tell. */
#ifndef AC_METHOD_H
#define AC_METHOD_H

#include "core/python.h"

/* object.<name>, for a method's name. The interpreter's cache of methods keeps each
 * string that it is asked for, and finds it again only if it is the same one: an
 * interned one. New reference, NULL with an exception. */
static inline PyObject *
ac_method_get(PyObject *object, const char *name)
{
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *method = interned == NULL ? NULL : PyObject_GetAttr(object, interned);
    Py_XDECREF(interned);
    return method;
}

/* object.<name>(one, two), without those that are NULL. The object is a member of
 * something, which the call may replace: it is held. NULL counts as None. New
 * reference, NULL with an exception. */
static inline PyObject *
ac_method_call_two(PyObject *object, PyObject *name, PyObject *one, PyObject *two)
{
    object = Py_NewRef(object == NULL ? Py_None : object);
    PyObject *stack[4] = {NULL, object, one, two};
    size_t nargs = one == NULL ? 1 : two == NULL ? 2 : 3;
    PyObject *result = PyObject_VectorcallMethod(
        name, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(object);
    return result;
}

static inline PyObject *
ac_method_call(PyObject *object, PyObject *name, PyObject *argument)
{
    return ac_method_call_two(object, name, argument, NULL);
}

/* type.<name>(self, argument), without argument if that is NULL: the interpreter's own
 * method of what ours derives from. New reference, NULL with an exception. */
static inline PyObject *
ac_method_call_of(PyObject *type, PyObject *name, PyObject *self, PyObject *argument)
{
    PyObject *function = PyObject_GetAttr(type, name);
    PyObject *stack[] = {self, argument};
    PyObject *result = NULL;
    if (function != NULL) {
        result = PyObject_Vectorcall(function, stack, argument == NULL ? 1 : 2, NULL);
        Py_DECREF(function);
    }
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
