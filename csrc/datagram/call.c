/* The calls into a user's protocol.
 *
 * The protocol is read for each call, as `self._protocol` is by the standard
 * transport, and held for the length of it, since the callback may replace it. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "datagram/call.h"

/* object.name(one, two), `two` may be NULL. */
static int
call_method(PyObject *object, PyObject *name, PyObject *one, PyObject *two)
{
    PyObject *result = ac_method_call_two(object, name, one, two);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The same with `exc` as the exception that is being handled: the standard transport
 * calls in its except clause, so it is the context of what the callee raises. */
static int
call_handling(PyObject *object, PyObject *name, PyObject *exc, PyObject *two)
{
    PyObject *handled = ac_errors_except_begin(exc);
    int rc = call_method(object, name, exc, two);
    ac_errors_except_end_steal(handled);
    return rc;
}

int
ac_call_datagram_received(DatagramObject *self, PyObject *data, PyObject *address)
{
    return call_method(self->protocol, self->state->str_datagram_received, data,
                       address);
}

static int
error_received_steal(DatagramObject *self, PyObject *exc)
{
    int rc = call_handling(self->protocol, self->state->str_error_received, exc, NULL);
    Py_DECREF(exc);
    return rc;
}

int
ac_call_error_received(DatagramObject *self, int number)
{
    (void)ac_errors_errno(number);
    return error_received_steal(self, ac_err_take());
}

int
ac_call_failed_raised(DatagramObject *self, const char *message)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    bool is_os_error = PyErr_ExceptionMatches(PyExc_OSError);
    PyObject *exc = ac_err_take();
    if (is_os_error) {
        return error_received_steal(self, exc);
    }
    PyObject *text = PyUnicode_FromString(message);
    int rc = -1;
    if (text != NULL) {
        rc = call_handling((PyObject *)self, self->state->str__fatal_error, exc, text);
        Py_DECREF(text);
    }
    Py_DECREF(exc);
    return rc;
}
