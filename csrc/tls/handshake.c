/* The usual way of a connection through its states, as asyncio.sslproto has it: the
 * handshake's steps, its success, the end. A handshake that fails and debug mode, which
 * logs, go on in the standard's methods. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "tls/engine.h"
#include "tls/handshake.h"
#include "tls/states.h"

/* Cancels a time-out and forgets it. Returns 0, or -1 with an exception. */
static int
end_timeout(TLSObject *self, PyObject **member)
{
    PyObject *handle = *member;
    if (handle == NULL || handle == Py_None) {
        return 0;
    }
    PyObject *result = ac_method_call(handle, self->state->str_cancel, NULL);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    ac_states_member(member, Py_None);
    return 0;
}

/* _wakeup_waiter(exc); NULL and None: the result is None. */
static int
wake_waiter(TLSObject *self, PyObject *exc)
{
    ac_state *state = self->state;
    if (self->waiter == NULL || self->waiter == Py_None) {
        return 0;
    }
    PyObject *waiter = Py_NewRef(self->waiter);
    PyObject *result = ac_method_call(waiter, state->str_cancelled, NULL);
    int rc = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (rc == 0) {
        result = exc == NULL || exc == Py_None
                     ? ac_method_call(waiter, state->str_set_result, Py_None)
                     : ac_method_call(waiter, state->str_set_exception, exc);
        rc = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_DECREF(waiter);
    if (rc >= 0) {
        ac_states_member(&self->waiter, Py_None);
        rc = 0;
    }
    return rc;
}

/* -------------------------------------------------------------------- handshake -- */

PyDoc_STRVAR(tls__start_handshake_doc, "_start_handshake($self, /)\n--\n\n"
                                       "The first step, and the time-out of all.");

static PyObject *
tls__start_handshake(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    int debug = ac_states_is_debug(self);
    if (debug != 0) {
        return debug < 0 ? NULL
                         : ac_states_standard(self, state->str__start_handshake, NULL);
    }
    ac_states_member(&self->handshake_start, Py_None);
    if (ac_states_set(self, state->tls_handshake) < 0
        || ac_states_start_timeout(self, &self->handshake_timeout,
                                   self->ssl_handshake_timeout,
                                   state->str__check_handshake_timeout)
               < 0)
    {
        return NULL;
    }
    return ac_method_call(op, state->str__do_handshake, NULL);
}

PyDoc_STRVAR(tls__do_handshake_doc, "_do_handshake($self, /)\n--\n\n"
                                    "A step of the handshake, with what has come.");

static PyObject *
tls__do_handshake(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    if (ac_engine_pour(self) < 0) {
        return NULL;
    }
    PyObject *const complete = self->state->str__on_handshake_complete;
    PyObject *result = ac_engine_call(self, self->state->str_do_handshake, NULL);
    int rc = result == NULL ? ac_states_raised(self, complete)
                            : ac_tls_call(self, complete, Py_None);
    Py_XDECREF(result);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* What get_extra_info() tells once the handshake is over. `peercert` is consumed. */
static int
tell_extra_steal(TLSObject *self, PyObject *peercert)
{
    ac_state *state = self->state;
    PyObject *sslobj = Py_NewRef(self->sslobj);
    PyObject *cipher = ac_engine_call(self, state->str_cipher, NULL);
    PyObject *compression =
        cipher == NULL ? NULL : ac_engine_call(self, state->str_compression, NULL);
    PyObject *more =
        compression == NULL
            ? NULL
            : Py_BuildValue("{OOOOOOOO}", state->str_peercert, peercert,
                            state->str_cipher, cipher, state->str_compression,
                            compression, state->str_ssl_object, sslobj);
    PyObject *result =
        more == NULL ? NULL : ac_method_call(self->extra, state->str_update, more);
    Py_DECREF(peercert);
    Py_XDECREF(cipher);
    Py_XDECREF(compression);
    Py_XDECREF(more);
    Py_XDECREF(result);
    Py_DECREF(sslobj);
    return result == NULL ? -1 : 0;
}

/* app_protocol.connection_made(), unless it has been called; the waiter; and what has
 * come behind the handshake. */
static int
tell_connected(TLSObject *self)
{
    ac_state *state = self->state;
    if (self->app_state == state->tls_app_init) {
        ac_states_member(&self->app_state, state->tls_app_made);
        PyObject *protocol = Py_XNewRef(self->app_protocol);
        PyObject *transport =
            ac_method_call((PyObject *)self, state->str__get_app_transport, NULL);
        PyObject *result =
            transport == NULL
                ? NULL
                : ac_method_call(protocol, state->str_connection_made, transport);
        Py_XDECREF(protocol);
        Py_XDECREF(transport);
        Py_XDECREF(result);
        if (result == NULL) {
            return -1;
        }
    }
    return wake_waiter(self, NULL) < 0 ? -1
                                       : ac_tls_call(self, state->str__do_read, NULL);
}

PyDoc_STRVAR(tls__on_handshake_complete_doc,
             "_on_handshake_complete($self, handshake_exc, /)\n--\n\n"
             "The handshake is over, with an exception or None.");

static PyObject *
tls__on_handshake_complete(PyObject *op, PyObject *exc)
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    PyObject *const name = state->str__on_handshake_complete;
    int debug = ac_states_is_debug(self);
    if (debug < 0) {
        return NULL;
    }
    if (debug || exc != Py_None || self->protocol_state != state->tls_handshake
        || self->sslobj == NULL)
    {
        return ac_states_standard(self, name, exc);
    }
    if (end_timeout(self, &self->handshake_timeout) < 0
        || ac_states_set(self, state->tls_wrapped) < 0)
    {
        return NULL;
    }
    PyObject *peercert = ac_engine_call(self, state->str_getpeercert, NULL);
    if (peercert == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        exc = ac_err_take();
        PyObject *result = ac_states_standard(self, name, exc);
        Py_DECREF(exc);
        return result;
    }
    if (tell_extra_steal(self, peercert) < 0 || tell_connected(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------- end -- */

/* Calls a method of something that the end lets go of. */
static int
call_part(PyObject *part, PyObject *name)
{
    PyObject *result = ac_method_call(part, name, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* loop.call_soon(app_protocol.connection_lost, exc), if it knows of the connection. */
static int
schedule_lost(TLSObject *self, PyObject *exc)
{
    ac_state *state = self->state;
    if (self->protocol_state == state->tls_handshake
        || (self->app_state != state->tls_app_made
            && self->app_state != state->tls_app_eof))
    {
        return 0;
    }
    ac_states_member(&self->app_state, state->tls_app_lost);
    // held: looking up the method may run Python, which sets another protocol
    PyObject *protocol =
        Py_NewRef(self->app_protocol == NULL ? Py_None : self->app_protocol);
    PyObject *lost = PyObject_GetAttr(protocol, state->str_connection_lost);
    Py_DECREF(protocol);
    PyObject *handle =
        lost == NULL ? NULL
                     : ac_method_call_two(self->loop, state->str_call_soon, lost, exc);
    Py_XDECREF(lost);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

PyDoc_STRVAR(tls_connection_lost_doc, "connection_lost($self, exc, /)\n--\n\n"
                                      "The transport below is closed.");

static PyObject *
tls_connection_lost(PyObject *op, PyObject *exc)
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    if (call_part(self->write_backlog, state->str_clear) < 0
        || call_part(self->outgoing, state->str_read) < 0)
    {
        return NULL;
    }
    self->conn_lost++;
    if (ac_states_mark_closed(self) < 0 || schedule_lost(self, exc) < 0
        || ac_states_set(self, state->tls_unwrapped) < 0)
    {
        return NULL;
    }
    ac_states_member(&self->transport, Py_None);
    ac_states_member(&self->app_transport, Py_None);
    if (ac_tls_set_app_protocol(self, Py_None) < 0 || wake_waiter(self, exc) < 0
        || end_timeout(self, &self->shutdown_timeout) < 0
        || end_timeout(self, &self->handshake_timeout) < 0)
    {
        return NULL;
    }
    ac_engine_close(self);
    Py_RETURN_NONE;
}

PyMethodDef ac_handshake_methods[] = {
    {"_start_handshake", tls__start_handshake, METH_NOARGS, tls__start_handshake_doc},
    {"_do_handshake", tls__do_handshake, METH_NOARGS, tls__do_handshake_doc},
    {"_on_handshake_complete", tls__on_handshake_complete, METH_O,
     tls__on_handshake_complete_doc},
    {"connection_lost", tls_connection_lost, METH_O, tls_connection_lost_doc},
    {NULL, NULL, 0, NULL},
};
