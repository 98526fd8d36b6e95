/* The ends of a connection.
 *
 * close() lets the queue drain, abort() and errors drop it; both schedule
 * _call_connection_lost(), which a drained queue calls at once. `conn_lost` counts
 * from then on, as the standard transport's `_conn_lost`: it makes later writes warn
 * and everything else do nothing. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/report.h"
#include "stream/close.h"
#include "stream/protocol.h"
#include "stream/read.h"
#include "stream/refused.h"
#include "stream/write.h"

/* ---------------------------------------------------------- scheduling the end -- */

/* Schedules connection_lost(). Without memory the stream is not LOST afterwards, so
 * that the next close, abort or event of the kernel tries again; any other failure (a
 * closed loop) is final, as on the standard transport. */
static int
schedule_end(StreamObject *self, PyObject *exc)
{
    self->flags |= AC_STREAM_LOST;
    // of a pipe it counts only the writes that failed
    unsigned int count = self->flags & AC_STREAM_PIPE ? 0 : 1;
    self->conn_lost += count;
    PyObject *method = PyObject_GetAttr(
        (PyObject *)self, ac_stream_state(self)->str__call_connection_lost);
    int rc = method == NULL ? -1 : ac_stream_call_soon(self, method, &exc, 1);
    Py_XDECREF(method);
    if (rc < 0 && PyErr_ExceptionMatches(PyExc_MemoryError)
        && !(self->flags & AC_STREAM_CLOSED))
    {
        self->flags &= ~AC_STREAM_LOST;
        self->conn_lost -= count;
    }
    return rc;
}

/* Raises `exc` (consumed; NULL: none) again. Returns 0 or -1. */
static int
finish_raising_steal(PyObject *exc)
{
    if (exc == NULL) {
        return 0;
    }
    ac_err_restore_steal(exc);
    return -1;
}

int
ac_close_begin(StreamObject *self)
{
    if (self->flags & AC_STREAM_CLOSING) {
        return 0;
    }
    if (ac_write_flush(self) < 0) {
        return -1;
    }
    if (self->flags & AC_STREAM_CLOSING) {  // the flush failed
        return 0;
    }
    self->flags |= AC_STREAM_CLOSING;
    PyObject *raised = NULL;
    // a queue drains first
    if (!(self->flags & (AC_STREAM_REFUSED | AC_STREAM_LOST))
        && schedule_end(self, Py_None) < 0)
    {
        if (!(self->flags & AC_STREAM_LOST)) {
            self->flags &= ~AC_STREAM_CLOSING;
            return -1;
        }
        raised = ac_err_take();
    }
    // a pipe that drains goes on looking whether its reader has left
    const uint32_t draining = AC_STREAM_WRITE_PIPE | AC_STREAM_REFUSED;
    if ((self->flags & draining) != draining) {
        ac_read_stop(self);
    }
    return finish_raising_steal(raised);
}

int
ac_close_force(StreamObject *self, PyObject *exc)
{
    if (self->flags & AC_STREAM_LOST) {
        return 0;
    }
    unsigned int closing = self->flags & AC_STREAM_CLOSING;
    self->flags |= AC_STREAM_CLOSING;
    PyObject *raised = NULL;
    if (schedule_end(self, exc) < 0) {
        if (!(self->flags & AC_STREAM_LOST)) {
            self->flags &= ~AC_STREAM_CLOSING | closing;
            return -1;
        }
        raised = ac_err_take();
    }
    ac_read_stop(self);
    ac_refused_drop(self);
    return finish_raising_steal(raised);
}

/* -------------------------------------------------------------------- errors -- */

/* logger.debug("%r: %s", self, message, exc_info=exc) */
static int
log_error(StreamObject *self, const char *message, PyObject *exc)
{
    ac_state *state = ac_stream_state(self);
    PyObject *debug = PyObject_GetAttr(state->logger, state->str_debug);
    PyObject *args = Py_BuildValue("(sOs)", "%r: %s", (PyObject *)self, message);
    PyObject *keywords = PyDict_New();
    PyObject *result = NULL;
    if (debug != NULL && args != NULL && keywords != NULL
        && PyDict_SetItem(keywords, state->str_exc_info, exc) == 0)
    {
        result = PyObject_Call(debug, args, keywords);
    }
    Py_XDECREF(debug);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether an error is only logged, in debug mode: one of the system, and from a pipe
 * that is read only the one of a terminal whose other side is closed. */
static bool
is_usual(StreamObject *self, PyObject *exc)
{
    if (!PyObject_TypeCheck(exc, (PyTypeObject *)PyExc_OSError)) {
        return false;
    }
    if (!(self->flags & AC_STREAM_READ_PIPE)) {
        return true;
    }
    PyObject *number = ((PyOSErrorObject *)exc)->myerrno;
    if (number == NULL || !PyLong_CheckExact(number)) {
        return false;
    }
    int overflow;
    return PyLong_AsLongAndOverflow(number, &overflow) == EIO;
}

int
ac_close_fatal(StreamObject *self, PyObject *exc, const char *message)
{
    // on the standard loop, what a callback had written before it failed has left
    if (ac_write_flush(self) < 0) {
        return -1;
    }
    LoopObject *loop = self->loop;
    if (loop == NULL) {  // closed: no one is left to tell
        return 0;
    }
    int rc = 0;
    Py_INCREF(loop);
    if (!is_usual(self, exc)) {
        rc = ac_report_context(loop, message, exc, "transport", (PyObject *)self,
                               "protocol",
                               self->protocol == NULL ? Py_None : self->protocol, NULL);
    }
    else if (loop->debug) {
        rc = log_error(self, message, exc);
    }
    Py_DECREF(loop);
    return rc < 0 ? -1 : ac_close_force(self, exc);
}

int
ac_close_fatal_raised(StreamObject *self, const char *message)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    int rc = ac_close_fatal(self, exc, message);
    Py_DECREF(exc);
    return rc;
}

/* ---------------------------------------------------------------------- end -- */

/* future.set_exception(ConnectionError(...)) for whoever waits in sendfile. */
static int
fail_waiter_steal(ac_state *state, PyObject *waiter)
{
    PyObject *done = PyObject_CallMethodNoArgs(waiter, state->str_done);
    int truth = done == NULL ? -1 : PyObject_IsTrue(done);
    PyObject *exc = NULL, *result = NULL;
    if (truth == 0) {
        exc = PyObject_CallFunction(PyExc_ConnectionError, "s",
                                    "Connection is closed by peer");
    }
    if (exc != NULL) {
        result = PyObject_CallMethodOneArg(waiter, state->str_set_exception, exc);
    }
    int rc = truth > 0 || result != NULL ? 0 : -1;
    Py_XDECREF(done);
    Py_XDECREF(exc);
    Py_XDECREF(result);
    Py_DECREF(waiter);
    return rc;
}

int
ac_close_finish(StreamObject *self, PyObject *exc)
{
    if (self->flags & AC_STREAM_CLOSED) {
        return 0;
    }
    ac_state *state = ac_stream_state(self);
    if (!(self->flags & AC_STREAM_LOST)) {
        self->flags |= AC_STREAM_CLOSING | AC_STREAM_LOST;
        self->conn_lost += self->flags & AC_STREAM_PIPE ? 0 : 1;
    }
    int rc = ac_call_connection_lost(self, exc);
    if (ac_stream_release(self) < 0) {
        rc = -1;
    }
    if (self->flags & AC_STREAM_WAITER) {
        PyObject *raised = ac_err_take();
        if (fail_waiter_steal(state, Py_NewRef(self->empty_waiter)) < 0) {
            rc = -1;
        }
        if (raised != NULL) {
            PyErr_Clear();  // the protocol's exception is the one to tell
            ac_err_restore_steal(raised);
        }
    }
    ac_stream_check(self);
    return rc;
}

int
ac_close_shutdown(StreamObject *self)
{
    int err = self->ops->shutdown(self);
    if (err < 0) {
        (void)ac_errors_errno(-err);
        return -1;
    }
    return 0;
}

/* ------------------------------------------------------------------ methods -- */

PyDoc_STRVAR(stream_is_closing_doc, "is_closing($self, /)\n--\n\n"
                                    "True if the transport is closing or closed.");

static PyObject *
stream_is_closing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((StreamObject *)self)->flags & AC_STREAM_CLOSING);
}

PyDoc_STRVAR(stream_close_doc,
             "close($self, /)\n--\n\n"
             "Close once everything written is sent; reading stops at once.\n\n"
             "connection_lost(None) is called afterwards.");

static PyObject *
stream_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    int rc = ac_stream_hand_over_end(self, "close", NULL);
    if (rc < 0 || (rc == 0 && ac_close_begin(self) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_abort_doc, "abort($self, /)\n--\n\n"
                               "Close at once; what is not sent yet is lost.\n\n"
                               "connection_lost(None) is called afterwards.");

static PyObject *
stream_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    int rc = ac_stream_hand_over_end(self, "abort", NULL);
    if (rc != 0) {
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    // the standard transport has sent by now what the kernel takes
    if (ac_write_flush(self) < 0 || ac_close_force(self, Py_None) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_can_write_eof_doc, "can_write_eof($self, /)\n--\n\nTrue.");

static PyObject *
stream_can_write_eof(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(stream_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close the writing end once everything written is sent.");

static PyObject *
stream_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    const uint32_t over = AC_STREAM_CLOSING | AC_STREAM_EOF;
    int handed = ac_stream_hand_over(self, "write_eof", NULL);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (self->flags & over) {
        Py_RETURN_NONE;
    }
    if (ac_write_flush(self) < 0) {
        return NULL;
    }
    if (self->flags & over) {  // the flush failed, or pause_writing() came first
        Py_RETURN_NONE;
    }
    self->flags |= AC_STREAM_EOF;
    if (!(self->flags & AC_STREAM_REFUSED) && ac_close_shutdown(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream__force_close_doc,
             "_force_close($self, exc, /)\n--\n\n"
             "Close at once; connection_lost(exc) is called afterwards.");

static PyObject *
stream__force_close(PyObject *op, PyObject *exc)
{
    StreamObject *self = (StreamObject *)op;
    int handed = ac_stream_hand_over_end(self, "_force_close", exc);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (ac_write_flush(self) < 0 || ac_close_force(self, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream__fatal_error_doc,
             "_fatal_error($self, /, exc, message='Fatal error on transport')\n--\n\n"
             "Report an error of the transport and close it.");

static PyObject *
stream__fatal_error(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"exc", "message", NULL};
    PyObject *exc;
    const char *message = ((StreamObject *)op)->flags & AC_STREAM_PIPE
                              ? "Fatal error on pipe transport"
                              : "Fatal error on transport";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|s:_fatal_error", names, &exc,
                                     &message)
        || ac_close_fatal((StreamObject *)op, exc, message) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream__call_connection_lost_doc,
             "_call_connection_lost($self, exc, /)\n--\n\n"
             "Tell the protocol of the end and give everything back.");

static PyObject *
stream__call_connection_lost(PyObject *self, PyObject *exc)
{
    if (ac_close_finish((StreamObject *)self, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef ac_close_methods[] = {
    {"is_closing", stream_is_closing, METH_NOARGS, stream_is_closing_doc},
    {"close", stream_close, METH_NOARGS, stream_close_doc},
    {"abort", stream_abort, METH_NOARGS, stream_abort_doc},
    {"can_write_eof", stream_can_write_eof, METH_NOARGS, stream_can_write_eof_doc},
    {"write_eof", stream_write_eof, METH_NOARGS, stream_write_eof_doc},
    {"_force_close", stream__force_close, METH_O, stream__force_close_doc},
    {"_fatal_error", AC_CFUNCTION(stream__fatal_error), METH_VARARGS | METH_KEYWORDS,
     stream__fatal_error_doc},
    {"_call_connection_lost", stream__call_connection_lost, METH_O,
     stream__call_connection_lost_doc},
    {NULL, NULL, 0, NULL},
};
