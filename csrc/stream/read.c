/* Reading: one recv() for each event, as the standard transport, so that a busy peer
 * cannot starve the others.
 *
 * The loop's shared buffer takes the bytes, and what has come becomes a bytes object
 * of its exact size. While reads are large, they go straight into a fresh object
 * instead, which saves the copy. */
#include "core/python.h"

#include "core/errors.h"
#include "stream/close.h"
#include "stream/events.h"
#include "stream/pipe.h"
#include "stream/protocol.h"
#include "stream/read.h"

#include <errno.h>

/* From this size on the next read is expected to be large as well. */
#define LARGE_READ (64 * 1024)

/* ------------------------------------------------------------- start, stop -- */

/* Wants to read from now on, in a new context, as the standard's _add_reader does.
 * Returns 0, or -1 with an exception. */
static int
read_start(StreamObject *self)
{
    if (!ac_stream_is_reading(self)) {
        return 0;
    }
    if (!(self->flags & AC_STREAM_PIPE)) {  // the handle has it
        PyObject *context = ac_stream_context(self);
        if (context == NULL) {
            return -1;
        }
        Py_XSETREF(self->read_context, context);
    }
    return ac_events_watch(self, AC_READ);
}

void
ac_read_stop(StreamObject *self)
{
    if (!(self->flags & AC_STREAM_OWN_CONTEXT)) {
        Py_CLEAR(self->read_context);
    }
    ac_events_unwatch(self, AC_READ);
}

/* ---------------------------------------------------------------- receiving -- */

static int
read_failed(StreamObject *self, ssize_t err)
{
    if (ac_errors_is_transient(err)) {
        return 0;
    }
    (void)ac_errors_errno((int)-err);
    return ac_close_fatal_raised(self, self->flags & AC_STREAM_PIPE
                                           ? "Fatal read error on pipe transport"
                                           : "Fatal read error on socket transport");
}

static int
read_eof(StreamObject *self)
{
    if (self->flags & AC_STREAM_PIPE) {
        return ac_pipe_eof(self);
    }
    bool keep_open;
    if (ac_stream_log_debug(self, "%r received EOF") < 0
        || ac_call_eof_received(self, &keep_open) < 0)
    {
        return -1;
    }
    // what ran may have closed everything
    if (self->flags & AC_STREAM_CLOSED) {
        return 0;
    }
    if (keep_open) {
        // the protocol may go on writing
        ac_read_stop(self);
        return 0;
    }
    ac_state *state = self->loop->state;
    if (ac_stream_is_plain(self, state)) {
        return ac_close_begin(self);
    }
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)self, state->str_close);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Receives into a bytes object of its own. *data is a new reference to exactly what
 * came, or NULL. Returns the size, 0 at EOF, or a negative errno. */
static ssize_t
receive_large(StreamObject *self, PyObject **data)
{
    Py_ssize_t size =
        self->flags & AC_STREAM_PIPE ? ac_pipe_capacity(self) : AC_READ_BUFFER;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes == NULL) {
        PyErr_Clear();
        return -ENOMEM;
    }
    ssize_t n = self->ops->recv(self, PyBytes_AS_STRING(bytes), (size_t)size);
    if (n <= 0) {
        Py_DECREF(bytes);
        return n;
    }
    if (n < size && _PyBytes_Resize(&bytes, n) < 0) {
        PyErr_Clear();
        return -ENOMEM;
    }
    *data = bytes;
    return n;
}

/* The same through the loop's buffer. */
static ssize_t
receive_shared(StreamObject *self, PyObject **data)
{
    char *buffer = ac_loop_read_buffer(self->loop);
    if (buffer == NULL) {
        PyErr_Clear();
        return -ENOMEM;
    }
    ssize_t n = self->ops->recv(self, buffer, AC_READ_BUFFER);
    if (n <= 0) {
        return n;
    }
    *data = PyBytes_FromStringAndSize(buffer, n);
    if (*data == NULL) {
        PyErr_Clear();
        return -ENOMEM;
    }
    return n;
}

static int
read_data(StreamObject *self)
{
    PyObject *data = NULL;
    ssize_t n = self->flags & AC_STREAM_LARGE_READ ? receive_large(self, &data)
                                                   : receive_shared(self, &data);
    if (n < 0) {
        return read_failed(self, n);
    }
    if (n == 0) {
        return read_eof(self);
    }
    if (n >= LARGE_READ) {
        self->flags |= AC_STREAM_LARGE_READ;
    }
    else {
        self->flags &= ~(uint32_t)AC_STREAM_LARGE_READ;
    }
    int rc = ac_call_data_received(self, data);
    Py_DECREF(data);
    return rc;
}

/* The exception that socket.recv_into() raises for an unfit buffer. */
static void
raise_unfit_buffer(PyObject *buffer)
{
    Py_buffer view;
    PyErr_Clear();
    PyObject *args = PyTuple_Pack(1, buffer);
    if (args != NULL) {
        if (PyArg_ParseTuple(args, "w*:recv_into", &view)) {
            PyBuffer_Release(&view);
            PyErr_SetString(PyExc_BufferError, "the buffer cannot be exported");
        }
        Py_DECREF(args);
    }
}

static int
read_buffered(StreamObject *self)
{
    PyObject *buffer;
    if (ac_call_get_buffer(self, &buffer) < 0) {
        return -1;
    }
    if (buffer == NULL || self->flags & AC_STREAM_CLOSED) {
        Py_XDECREF(buffer);
        return 0;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        raise_unfit_buffer(buffer);
        Py_DECREF(buffer);
        return ac_close_fatal_raised(self, "Fatal read error on socket transport");
    }
    ssize_t n = self->ops->recv(self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);  // may run Python, as dropping the buffer may
    Py_DECREF(buffer);
    if (self->flags & AC_STREAM_CLOSED) {
        return 0;
    }
    if (n < 0) {
        return read_failed(self, n);
    }
    return n == 0 ? read_eof(self) : ac_call_buffer_updated(self, n);
}

/* A sink takes the bytes where they are: the buffer is its own meanwhile, and whoever
 * reads in a callback of it gets another one. */
static int
read_sink(StreamObject *self)
{
    LoopObject *loop = (LoopObject *)Py_NewRef(self->loop);
    char *buffer = ac_loop_read_buffer(loop);
    if (buffer == NULL) {
        Py_DECREF(loop);
        PyErr_Clear();
        return read_failed(self, -ENOMEM);
    }
    ssize_t n = self->ops->recv(self, buffer, AC_READ_BUFFER);
    int rc;
    if (n > 0) {
        loop->read_buffer = NULL;
        rc = ac_call_sink(self, buffer, (size_t)n);
        if (loop->read_buffer != NULL || loop->closed) {
            PyMem_RawFree(buffer);
        }
        else {
            loop->read_buffer = buffer;
        }
    }
    else {
        rc = n < 0 ? read_failed(self, n) : read_eof(self);
    }
    Py_DECREF(loop);
    return rc;
}

int
ac_read_ready(StreamObject *self)
{
    if (self->flags & AC_STREAM_LOST) {
        return 0;
    }
    if (self->sink != NULL) {
        return read_sink(self);
    }
    return self->flags & AC_STREAM_BUFFERED ? read_buffered(self) : read_data(self);
}

/* ---------------------------------------------------------------- methods -- */

PyDoc_STRVAR(stream_is_reading_doc, "is_reading($self, /)\n--\n\n"
                                    "True unless paused or closing.");

static PyObject *
stream_is_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(ac_stream_is_reading((StreamObject *)self));
}

PyDoc_STRVAR(stream_pause_reading_doc,
             "pause_reading($self, /)\n--\n\n"
             "Pass no data to the protocol until resume_reading().");

static PyObject *
stream_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    int handed = ac_stream_hand_over(self, "pause_reading", NULL);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (ac_stream_is_reading(self)) {
        self->flags |= AC_STREAM_PAUSED;
        ac_read_stop(self);
        if (ac_stream_log_debug(self, "%r pauses reading") < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                        "Take up reading after pause_reading().");

static PyObject *
stream_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    int handed = ac_stream_hand_over(self, "resume_reading", NULL);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if ((self->flags & (AC_STREAM_CLOSING | AC_STREAM_PAUSED)) == AC_STREAM_PAUSED) {
        self->flags &= ~(uint32_t)AC_STREAM_PAUSED;
        if (read_start(self) < 0 || ac_stream_log_debug(self, "%r resumes reading") < 0)
        {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream__start_reading_doc,
             "_start_reading($self, /)\n--\n\n"
             "The first start of reading, in the turn after connection_made().");

static PyObject *
stream__start_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (read_start((StreamObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream__read_ready_doc, "_read_ready($self, /)\n--\n\n"
                                     "Receive once and tell the protocol.");

static PyObject *
stream__read_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    if (ac_read_ready(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef ac_read_methods[] = {
    {"is_reading", stream_is_reading, METH_NOARGS, stream_is_reading_doc},
    {"pause_reading", stream_pause_reading, METH_NOARGS, stream_pause_reading_doc},
    {"resume_reading", stream_resume_reading, METH_NOARGS, stream_resume_reading_doc},
    {"_start_reading", stream__start_reading, METH_NOARGS, stream__start_reading_doc},
    {"_read_ready", stream__read_ready, METH_NOARGS, stream__read_ready_doc},
    {NULL, NULL, 0, NULL},
};
