/* The usual shutdown, as asyncio.sslproto has it. What ends within the handshake, and
 * debug mode, which logs, go on in the standard's methods. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "tls/engine.h"
#include "tls/shutdown.h"
#include "tls/states.h"

PyDoc_STRVAR(tls__start_shutdown_doc, "_start_shutdown($self, /)\n--\n\n"
                                      "End the connection, once all is sent.");

static PyObject *
tls__start_shutdown(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    int handed = ac_tls_hand_over(self, op, "_start_shutdown", NULL);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (!ac_tls_is_wrapped(self)) {
        return ac_states_standard(self, state->str__start_shutdown, NULL);
    }
    if (ac_states_mark_closed(self) < 0 || ac_states_set(self, state->tls_flushing) < 0
        || ac_states_start_timeout(self, &self->shutdown_timeout,
                                   self->ssl_shutdown_timeout,
                                   state->str__check_shutdown_timeout)
               < 0)
    {
        return NULL;
    }
    return ac_method_call(op, state->str__do_flush, NULL);
}

PyDoc_STRVAR(tls__do_flush_doc, "_do_flush($self, /)\n--\n\n"
                                "Pass on and send what there is, then go on.");

static PyObject *
tls__do_flush(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    if (ac_tls_call(self, state->str__do_read, NULL) < 0
        || ac_states_set(self, state->tls_shutdown) < 0)
    {
        return NULL;
    }
    return ac_method_call(op, state->str__do_shutdown, NULL);
}

PyDoc_STRVAR(tls__do_shutdown_doc, "_do_shutdown($self, /)\n--\n\n"
                                   "A step of the shutdown, with what has come.");

static PyObject *
tls__do_shutdown(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    PyObject *const complete = state->str__on_shutdown_complete;
    int over = ac_engine_pour(self) < 0     ? -1
               : self->eof_received == NULL ? 0
                                            : PyObject_IsTrue(self->eof_received);
    if (over < 0) {
        return NULL;
    }
    PyObject *result =
        over ? Py_NewRef(Py_None)
             : ac_engine_call(self, state->str_unwrap, state->str_shutdown);
    int rc;
    if (result == NULL) {
        rc = ac_states_raised(self, complete);
    }
    else {
        Py_DECREF(result);
        rc = ac_tls_call(self, state->str__process_outgoing, NULL) < 0
                     || ac_tls_call(self, state->str__call_eof_received, NULL) < 0
                 ? -1
                 : ac_tls_call(self, complete, Py_None);
    }
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The end of the stream below in a state after the handshake. Returns 1 if the
 * transport below is to stay open, 0, or -1 with an exception. */
static int
take_eof(TLSObject *self)
{
    ac_state *state = self->state;
    if (ac_tls_is_wrapped(self)) {
        if (ac_states_set(self, state->tls_flushing) < 0) {
            return -1;
        }
        PyObject *paused = self->app_reading_paused;
        int keep = paused == NULL ? 0 : PyObject_IsTrue(paused);
        return keep != 0 ? keep : ac_tls_call(self, state->str__do_flush, NULL);
    }
    if (self->protocol_state == state->tls_flushing
        && (ac_tls_call(self, state->str__do_write, NULL) < 0
            || ac_states_set(self, state->tls_shutdown) < 0))
    {
        return -1;
    }
    return self->protocol_state == state->tls_shutdown
               ? ac_tls_call(self, state->str__do_shutdown, NULL)
               : 0;
}

/* `except Exception: self._transport.close(); raise` */
static void
close_below(TLSObject *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return;
    }
    PyObject *exc = ac_err_take();
    PyObject *handled = ac_errors_except_begin(exc);
    PyObject *result = ac_method_call(self->transport, self->state->str_close, NULL);
    ac_errors_except_end_steal(handled);
    if (result == NULL) {
        Py_DECREF(exc);
        return;
    }
    Py_DECREF(result);
    ac_err_restore_steal(exc);
}

PyDoc_STRVAR(tls_eof_received_doc, "eof_received($self, /)\n--\n\n"
                                   "The stream below has ended.");

static PyObject *
tls_eof_received(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    int debug = ac_states_is_debug(self);
    if (debug != 0 || self->protocol_state == state->tls_handshake) {
        return debug < 0 ? NULL
                         : ac_states_standard(self, state->str_eof_received, NULL);
    }
    ac_states_member(&self->eof_received, Py_True);
    int keep = take_eof(self);
    if (keep < 0) {
        close_below(self);
        return NULL;
    }
    return Py_NewRef(keep ? Py_True : Py_None);
}

PyMethodDef ac_shutdown_methods[] = {
    {"_start_shutdown", tls__start_shutdown, METH_NOARGS, tls__start_shutdown_doc},
    {"_do_flush", tls__do_flush, METH_NOARGS, tls__do_flush_doc},
    {"_do_shutdown", tls__do_shutdown, METH_NOARGS, tls__do_shutdown_doc},
    {"eof_received", tls_eof_received, METH_NOARGS, tls_eof_received_doc},
    {NULL, NULL, 0, NULL},
};
