/* Raising. errno and libuv status codes -> exceptions: on POSIX a libuv status is a
 * negative errno, but for the few codes of its own (EOF, getaddrinfo's). */
#include "core/python.h"

#include "core/errors.h"

#include <uv.h>

#include <errno.h>

PyObject *
ac_errors_errno(int number)
{
    errno = number;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *
ac_errors_uv(int err)
{
    if (err == UV_ENOMEM) {
        return PyErr_NoMemory();
    }
    return ac_errors_errno(-err);
}

int
ac_errors_raise(PyObject *object)
{
    if (PyExceptionInstance_Check(object)) {
        PyErr_SetObject((PyObject *)Py_TYPE(object), object);
    }
    else if (PyExceptionClass_Check(object)) {
        PyErr_SetNone(object);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    return -1;
}

int
ac_errors_refuse_delete(const PyObject *value)
{
    if (value != NULL) {
        return 0;
    }
    PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
    return -1;
}

PyObject *
ac_errors_except_begin(PyObject *exc)
{
    PyObject *handled = PyErr_GetHandledException();
    if (PyExceptionInstance_Check(exc)) {  // else the interpreter reads it as one
        PyErr_SetHandledException(exc);
    }
    return handled;
}

void
ac_errors_except_end_steal(PyObject *handled)
{
    PyErr_SetHandledException(handled);
    Py_XDECREF(handled);
}

void
ac_errors_finally_begin(ac_errors_finally *self)
{
    self->handled = NULL;
    self->earlier = ac_err_take();
    if (self->earlier != NULL) {
        self->handled = ac_errors_except_begin(self->earlier);
    }
}

void
ac_errors_finally_end(ac_errors_finally *self)
{
    if (self->earlier == NULL) {
        return;
    }
    ac_errors_except_end_steal(self->handled);
    if (PyErr_Occurred()) {
        Py_DECREF(self->earlier);
    }
    else {
        ac_err_restore_steal(self->earlier);
    }
}
