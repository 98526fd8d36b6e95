/* The calls into a user's protocol, and what becomes of their exceptions.
 *
 * The protocol is read from the stream for each call, as `self._protocol` is by the
 * standard transport: a callback may have replaced it. It is held for the length of
 * the call, since the callback may replace it as well. */
#include "core/python.h"

#include "core/method.h"
#include "loop/report.h"
#include "stream/close.h"
#include "stream/protocol.h"
#include "stream/queue.h"

void
ac_protocol_replace(StreamObject *self, PyObject *protocol, const ac_sink_ops *sink)
{
    self->sink = sink;
    ac_slot_set_steal((PyObject *)self, &self->protocol, Py_XNewRef(protocol));
    // it keeps what lies in the former one
    ac_dictwatch_drop(ac_stream_state(self), &self->note.attributes);
}

int
ac_protocol_set(StreamObject *self, PyObject *protocol)
{
    int buffered = 0;
    if (!(self->flags & AC_STREAM_PIPE)) {
        buffered = PyObject_IsInstance(protocol,
                                       ac_stream_state(self)->asyncio_BufferedProtocol);
    }
    if (buffered < 0) {
        return -1;
    }
    const ac_sink_ops *sink = NULL;
    if (!(self->flags & AC_STREAM_PIPE)
        && ac_sink_find(ac_stream_state(self), protocol, &sink) < 0)
    {
        return -1;
    }
    self->flags &= ~(uint32_t)AC_STREAM_BUFFERED;
    if (buffered) {
        self->flags |= AC_STREAM_BUFFERED;
    }
    ac_protocol_replace(self, protocol, sink);
    return 0;
}

int
ac_call_data_received(StreamObject *self, PyObject *data)
{
    PyObject *result =
        ac_method_call(self->protocol, ac_stream_state(self)->str_data_received, data);
    if (result == NULL && self->flags & AC_STREAM_PIPE) {
        return -1;  // the pipe stays open, the loop reports it
    }
    if (result == NULL) {
        return ac_close_fatal_raised(
            self, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

int
ac_call_get_buffer(StreamObject *self, PyObject **result)
{
    ac_state *state = ac_stream_state(self);
    *result = NULL;
    PyObject *hint = PyLong_FromLong(-1);
    PyObject *buffer =
        hint == NULL ? NULL
                     : ac_method_call(self->protocol, state->str_get_buffer, hint);
    Py_XDECREF(hint);
    Py_ssize_t len = buffer == NULL ? -1 : PyObject_Size(buffer);
    if (len > 0) {
        *result = buffer;
        return 0;
    }
    if (len == 0) {
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    }
    Py_XDECREF(buffer);
    return ac_close_fatal_raised(self,
                                 "Fatal error: protocol.get_buffer() call failed.");
}

int
ac_call_buffer_updated(StreamObject *self, Py_ssize_t n)
{
    PyObject *count = PyLong_FromSsize_t(n);
    PyObject *result = NULL;
    if (count != NULL) {
        result = ac_method_call(self->protocol,
                                ac_stream_state(self)->str_buffer_updated, count);
        Py_DECREF(count);
    }
    if (result == NULL) {
        return ac_close_fatal_raised(
            self, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

int
ac_call_sink(StreamObject *self, const char *data, size_t len)
{
    const ac_sink_ops *sink = self->sink;
    PyObject *protocol = Py_NewRef(self->protocol);
    int rc = sink->data(ac_stream_state(self), protocol, &self->note, data, len, NULL);
    Py_DECREF(protocol);
    if (rc < 0) {
        return ac_close_fatal_raised(self, sink->failed);
    }
    if (rc > 0) {
        return 0;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    if (bytes == NULL) {  // they are lost: nothing may come behind them
        return ac_close_fatal_raised(self, "Fatal read error on socket transport");
    }
    rc = ac_call_data_received(self, bytes);
    Py_DECREF(bytes);
    return rc;
}

int
ac_call_eof_received(StreamObject *self, bool *keep_open)
{
    PyObject *result =
        ac_method_call(self->protocol, ac_stream_state(self)->str_eof_received, NULL);
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    *keep_open = truth != 0;
    if (truth < 0) {
        return ac_close_fatal_raised(
            self, "Fatal error: protocol.eof_received() call failed.");
    }
    return 0;
}

/* An exception of pause_writing() or resume_writing() ends nothing. */
static int
report_flow(StreamObject *self, const char *message)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    int rc = 0;
    if (self->loop != NULL) {
        rc = ac_report_context(self->loop, message, exc, "transport", (PyObject *)self,
                               "protocol",
                               self->protocol == NULL ? Py_None : self->protocol, NULL);
    }
    Py_DECREF(exc);
    return rc;
}

/* size <= mark, where the mark is any number. -1 with an exception. */
static int
is_within(size_t size, PyObject *mark)
{
    if (mark == NULL) {  // somebody deleted the attribute
        PyErr_SetString(PyExc_AttributeError, "the water mark was deleted");
        return -1;
    }
    if (PyLong_CheckExact(mark)) {
        int overflow;
        long long value = PyLong_AsLongLongAndOverflow(mark, &overflow);
        if (overflow != 0) {
            return overflow > 0;
        }
        return value >= 0 && size <= (unsigned long long)value;
    }
    PyObject *number = PyLong_FromSize_t(size);
    if (number == NULL) {
        return -1;
    }
    int within = PyObject_RichCompareBool(number, mark, Py_LE);
    Py_DECREF(number);
    return within;
}

int
ac_call_pause_writing(StreamObject *self, PyObject *context)
{
    int within = is_within(ac_queue_pending(self), self->high_water);
    if (within != 0 || self->protocol_paused == Py_True) {
        return within < 0 ? -1 : 0;
    }
    Py_XSETREF(self->protocol_paused, Py_NewRef(Py_True));
    bool entered = false;
    if (context != NULL && context != ac_context_borrowed()) {
        if (PyContext_Enter(context) == 0) {
            entered = true;
        }
        else {
            PyErr_Clear();  // it runs elsewhere just now: the protocol must know anyhow
        }
    }
    ac_state *state = ac_stream_state(self);
    PyObject *result = ac_method_call(self->protocol, state->str_pause_writing, NULL);
    int rc = 0;
    if (result == NULL) {
        rc = report_flow(self, "protocol.pause_writing() failed");
    }
    Py_XDECREF(result);
    if (entered) {
        PyObject *exc = ac_err_take();
        (void)PyContext_Exit(context);  // cannot fail: we entered it
        ac_err_restore_steal(exc);
    }
    return rc;
}

int
ac_call_resume_writing(StreamObject *self)
{
    if (self->protocol_paused != Py_True) {
        return 0;
    }
    int within = is_within(ac_queue_pending(self), self->low_water);
    if (within <= 0) {
        return within;
    }
    Py_XSETREF(self->protocol_paused, Py_NewRef(Py_False));
    PyObject *result =
        ac_method_call(self->protocol, ac_stream_state(self)->str_resume_writing, NULL);
    if (result == NULL) {
        return report_flow(self, "protocol.resume_writing() failed");
    }
    Py_DECREF(result);
    return 0;
}

int
ac_call_connection_lost(StreamObject *self, PyObject *exc)
{
    ac_state *state = ac_stream_state(self);
    ac_dictwatch_drop(state, &self->note.attributes);  // it will change most of them
    PyObject *result = ac_method_call(self->protocol, state->str_connection_lost, exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}
