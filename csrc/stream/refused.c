/* What the kernel has not taken.
 *
 * What is refused stays in `queue` until the watcher reports AC_WRITE
 * (AC_STREAM_REFUSED); from there on everything is the standard transport's: later
 * writes queue up behind, pause_writing() above the high-water mark, resume_writing()
 * at the low-water mark. A send that fails ends the connection. Whoever waits until
 * nothing is left is sendfile(), which then has the socket (AC_STREAM_WAITER). */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "stream/close.h"
#include "stream/events.h"
#include "stream/protocol.h"
#include "stream/queue.h"
#include "stream/refused.h"
#include "stream/write.h"

#include <errno.h>

/* ------------------------------------------------------- refused and failed -- */

int
ac_refused_wait(StreamObject *self)
{
    PyObject *writer = self->write_context;  // ours now
    self->write_context = NULL;
    self->flags |= AC_STREAM_REFUSED;
    if (writer == NULL || self->flags & AC_STREAM_OWN_CONTEXT) {
        self->write_context = ac_stream_context(self);
    }
    else {
        self->write_context = PyContext_Copy(writer);
    }
    int rc = -1;
    if (self->write_context == NULL || ac_events_watch(self, AC_WRITE) < 0) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            // a part has left, and write() may have returned: it ends here
            PyErr_Clear();
            rc = ac_refused_fail(self, -ENOMEM);
        }
        else {
            PyObject *exc = ac_err_take();
            ac_refused_drop(self);
            ac_err_restore_steal(exc);
        }
    }
    else {
        rc = ac_call_pause_writing(self, writer);
    }
    Py_XDECREF(writer);
    return rc;
}

/* waiter.<name>(value) for whoever waits in sendfile. */
static int
settle_waiter(StreamObject *self, PyObject *name, PyObject *value)
{
    if (!(self->flags & AC_STREAM_WAITER)) {
        return 0;
    }
    PyObject *result = ac_method_call(self->empty_waiter, name, value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
ac_refused_fail(StreamObject *self, int err)
{
    (void)ac_errors_errno(-err);  // raised: it has the context of who writes
    PyObject *exc = ac_err_take();
    ac_refused_drop(self);
    ac_state *state = ac_stream_state(self);
    const char *message = "Fatal write error on socket transport";
    if (self->flags & AC_STREAM_PIPE) {
        message = "Fatal write error on pipe transport";
        self->conn_lost++;
    }
    int rc = ac_close_fatal(self, exc, message);
    if (rc == 0) {
        rc = settle_waiter(self, state->str_set_exception, exc);
    }
    Py_DECREF(exc);
    return rc;
}

void
ac_refused_drop(StreamObject *self)
{
    ac_queue_clear(self);
    bool refused = self->flags & AC_STREAM_REFUSED;
    self->flags &= ~(uint32_t)AC_STREAM_REFUSED;
    Py_CLEAR(self->write_context);
    if (refused) {
        ac_events_unwatch(self, AC_WRITE);
    }
}

int
ac_refused_ready(StreamObject *self)
{
    if (self->flags & AC_STREAM_LOST || !(self->flags & AC_STREAM_REFUSED)) {
        return 0;
    }
    size_t before = ac_queue_pending(self);
    int err = ac_queue_send(self);
    if (err < 0) {
        return ac_refused_fail(self, err);
    }
    size_t after = ac_queue_pending(self);
    if (after == before) {  // "not now" after all
        return 0;
    }
    if (after == 0) {
        self->flags &= ~(uint32_t)AC_STREAM_REFUSED;  // may write again meanwhile
        Py_CLEAR(self->write_context);
        if (self->flags & AC_STREAM_PIPE) {  // whose repr tells resume_writing() of it
            ac_events_unwatch(self, AC_WRITE);
        }
    }
    else if (self->flags & AC_STREAM_PIPE) {  // resumed by an empty queue only
        return 0;
    }
    if (ac_call_resume_writing(self) < 0 || ac_write_flush(self) < 0) {
        return -1;
    }
    if (self->flags & AC_STREAM_REFUSED) {
        return 0;
    }
    ac_events_unwatch(self, AC_WRITE);
    if (self->flags & AC_STREAM_LOST) {  // resume_writing() closed, or the flush failed
        return 0;
    }
    if (settle_waiter(self, ac_stream_state(self)->str_set_result, Py_None) < 0) {
        return -1;
    }
    if (self->flags & AC_STREAM_CLOSING) {
        return ac_close_finish(self, Py_None);
    }
    return self->flags & AC_STREAM_EOF ? ac_close_shutdown(self) : 0;
}

/* ------------------------------------------------------------------ methods -- */

PyDoc_STRVAR(stream__write_ready_doc, "_write_ready($self, /)\n--\n\n"
                                      "Send more of what the kernel refused.");

static PyObject *
stream__write_ready(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (ac_refused_ready((StreamObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream__make_empty_waiter_doc,
             "_make_empty_waiter($self, /)\n--\n\n"
             "A future that is done once nothing is pending; write() is refused\n"
             "until _reset_empty_waiter(). For loop.sendfile().");

static PyObject *
stream__make_empty_waiter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    if (self->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    if (ac_write_flush(self) < 0) {
        return NULL;
    }
    ac_state *state = ac_stream_state(self);
    PyObject *waiter =
        ac_method_call((PyObject *)self->loop, state->str_create_future, NULL);
    if (waiter == NULL) {
        return NULL;
    }
    ac_slot_set_steal(op, &self->empty_waiter, Py_NewRef(waiter));
    self->flags |= AC_STREAM_WAITER;
    if (!(self->flags & AC_STREAM_REFUSED)) {
        PyObject *result =
            PyObject_CallMethodOneArg(waiter, state->str_set_result, Py_None);
        if (result == NULL) {
            Py_CLEAR(waiter);
        }
        Py_XDECREF(result);
        ac_events_unwatch(self, 0);  // gives a shared number free for sock_sendfile
    }
    return waiter;
}

PyDoc_STRVAR(stream__reset_empty_waiter_doc, "_reset_empty_waiter($self, /)\n--\n\n"
                                             "Allow write() again.");

static PyObject *
stream__reset_empty_waiter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    self->flags &= ~(uint32_t)AC_STREAM_WAITER;
    ac_slot_set_steal(op, &self->empty_waiter, NULL);
    if (ac_events_take_back(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef ac_refused_methods[] = {
    {"_write_ready", stream__write_ready, METH_NOARGS, stream__write_ready_doc},
    {"_make_empty_waiter", stream__make_empty_waiter, METH_NOARGS,
     stream__make_empty_waiter_doc},
    {"_reset_empty_waiter", stream__reset_empty_waiter, METH_NOARGS,
     stream__reset_empty_waiter_doc},
    {NULL, NULL, 0, NULL},
};
