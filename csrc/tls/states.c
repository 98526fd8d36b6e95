/* See states.h. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "stream/write.h"
#include "tls/states.h"

int
ac_states_set(TLSObject *self, PyObject *new_state)
{
    ac_state *state = self->state;
    PyObject *old = self->protocol_state;
    if (new_state == state->tls_unwrapped
        || (old == state->tls_unwrapped && new_state == state->tls_handshake)
        || (old == state->tls_handshake && new_state == state->tls_wrapped)
        || (old == state->tls_wrapped && new_state == state->tls_flushing)
        || (old == state->tls_flushing && new_state == state->tls_shutdown))
    {
        ac_states_member(&self->protocol_state, new_state);
        return 0;
    }
    return ac_tls_call_standard(self, state->str__set_state, new_state);
}

PyObject *
ac_states_standard(TLSObject *self, PyObject *name, PyObject *argument)
{
    return ac_method_call_of(self->state->SSLProtocol, name, (PyObject *)self,
                             argument);
}

int
ac_states_is_debug(TLSObject *self)
{
    PyObject *result = ac_method_call(self->loop, self->state->str_get_debug, NULL);
    int debug = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return debug;
}

int
ac_states_raised(TLSObject *self, PyObject *name)
{
    ac_state *state = self->state;
    bool again =
        state->SSLAgainErrors != NULL && PyErr_ExceptionMatches(state->SSLAgainErrors);
    if (!again && (state->SSLError == NULL || !PyErr_ExceptionMatches(state->SSLError)))
    {
        return -1;
    }
    PyObject *exc = ac_err_take();
    PyObject *handled = ac_errors_except_begin(exc);
    int rc;
    if (again) {
        rc = ac_tls_call(self, state->str__process_outgoing, NULL);
        // sent now: what fails has the context that the standard's write() gives it
        if (rc == 0 && self->transport != NULL
            && PyObject_TypeCheck(self->transport, state->Stream))
        {
            rc = ac_write_flush((StreamObject *)self->transport);
        }
    }
    else {
        rc = ac_tls_call(self, name, exc);
    }
    ac_errors_except_end_steal(handled);
    Py_DECREF(exc);
    return rc;
}

int
ac_states_start_timeout(TLSObject *self, PyObject **member, PyObject *seconds,
                        PyObject *name)
{
    PyObject *check = PyObject_GetAttr((PyObject *)self, name);
    PyObject *delay = Py_NewRef(seconds == NULL ? Py_None : seconds);
    PyObject *handle =
        check == NULL
            ? NULL
            : ac_method_call_two(self->loop, self->state->str_call_later, delay, check);
    Py_DECREF(delay);
    Py_XDECREF(check);
    if (handle == NULL) {
        return -1;
    }
    Py_XSETREF(*member, handle);
    return 0;
}

int
ac_states_mark_closed(TLSObject *self)
{
    PyObject *transport = Py_XNewRef(self->app_transport);
    int rc = 0;
    if (transport != NULL && transport != Py_None) {
        rc = PyObject_SetAttr(transport, self->state->str__closed, Py_True);
    }
    Py_XDECREF(transport);
    return rc;
}

PyDoc_STRVAR(tls__set_state_doc, "_set_state($self, new_state, /)\n--\n\n"
                                 "Go on to a state that may follow the present one.");

static PyObject *
tls__set_state(PyObject *op, PyObject *new_state)
{
    if (ac_states_set((TLSObject *)op, new_state) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef ac_states_methods[] = {
    {"_set_state", tls__set_state, METH_O, tls__set_state_doc},
    {NULL, NULL, 0, NULL},
};
