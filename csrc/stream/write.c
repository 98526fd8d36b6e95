/* Writing.
 *
 * The standard transport sends in write(). Here the writes that one callback of the
 * loop makes are corked: they leave together, in one system call, when the callback
 * has returned (loop->flush_head), or earlier when something could tell the
 * difference. Outside of callbacks, and from other threads, write() sends at once.
 *
 * What the kernel refuses, later writes queue up behind: refused.c.
 *
 * Exact bytes are kept by reference, everything else is copied before write()
 * returns, so a caller may change its buffer afterwards. The usual single write of a
 * callback is the reference in `first` and nothing more: no allocation. */
#include "core/python.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/method.h"
#include "loop/report.h"
#include "stream/protocol.h"
#include "stream/queue.h"
#include "stream/refused.h"
#include "stream/write.h"

#include <errno.h>

/* As much as this is never held back, nor as much as the high-water mark: what fills a
 * send of its own gains nothing by waiting, and one of 128 KiB is slower than two. */
#define CORK_MAX (64 * 1024)

/* --------------------------------------------------------------- flushing -- */

int
ac_write_flush(StreamObject *self)
{
    if (self->flags & AC_STREAM_REFUSED || ac_queue_pending(self) == 0) {
        return 0;
    }
    int err = ac_queue_send(self);
    bool rest = self->flags & AC_STREAM_REST;
    self->flags &= ~(uint32_t)AC_STREAM_REST;
    if (err == -EPIPE && rest) {  // closed by the peer since: it goes the first's way
        ac_queue_clear(self);
    }
    else if (err < 0) {
        return ac_refused_fail(self, err);
    }
    if (ac_queue_pending(self) > 0) {
        return ac_refused_wait(self);
    }
    Py_CLEAR(self->write_context);
    return 0;
}

int
ac_write_on_flush(ac_flush *node)
{
    StreamObject *self = (StreamObject *)node->object;
    LoopObject *loop = self->loop;  // borrowed, kept by whoever runs it
    if (ac_write_flush(self) == 0) {
        return 0;
    }
    // no caller is left that the standard transport would raise it in
    return ac_report_unraised(loop, "Exception in callback StreamTransport.write()");
}

/* ---------------------------------------------------------------- writing -- */

/* How much may be corked. */
static size_t
cork_limit(const StreamObject *self)
{
    PyObject *high = self->high_water;
    if (high == self->loop->state->high_water) {  // the default
        return CORK_MAX;
    }
    // other numbers than these could run Python in a comparison: nothing is held back
    double value = 0.0;
    if (high != NULL && PyFloat_CheckExact(high)) {
        value = PyFloat_AS_DOUBLE(high);
    }
    else if (high != NULL && PyLong_CheckExact(high)) {
        int overflow;
        value = (double)PyLong_AsLongLongAndOverflow(high, &overflow);
        value = overflow > 0 ? CORK_MAX : value;
    }
    return value >= CORK_MAX ? CORK_MAX : value > 0.0 ? (size_t)value : 0;
}

/* True while a callback of the loop runs in this very thread. Pipes are never corked:
 * writes of several processes into one may rely on each being atomic, and a character
 * device may take each for a packet. */
static inline bool
may_cork(const StreamObject *self)
{
    LoopObject *loop = self->loop;
    return loop->in_callback && loop->cork && loop->thread_id == ac_thread_id()
           && !(self->flags & AC_STREAM_PIPE);
}

/* After something was added: leaves it to the end of the callback, or sends it. */
static int
write_settle(StreamObject *self)
{
    if (self->flags & AC_STREAM_REFUSED) {
        return ac_call_pause_writing(self, NULL);
    }
    if (!may_cork(self) || ac_queue_pending(self) >= cork_limit(self)) {
        return ac_write_flush(self);
    }
    if (self->write_context == NULL) {
        self->write_context = Py_XNewRef(ac_context_borrowed());
    }
    ac_loop_flush_later(self->loop, &self->flush);
    return 0;
}

/* One write of exact bytes, after all checks. Returns 0, or -1 with an exception. */
static int
write_bytes(StreamObject *self, PyObject *bytes)
{
    if (self->queue != NULL) {
        if (!ac_buf_join(self->queue, PyBytes_AS_STRING(bytes),
                         (size_t)PyBytes_GET_SIZE(bytes))
            && ac_buf_append_bytes(self->queue, bytes, 0) < 0)
        {
            return -1;
        }
    }
    else if (self->first == NULL) {
        self->first = Py_NewRef(bytes);
    }
    else if (ac_queue_make(self, 0) < 0
             || ac_buf_append_bytes(self->queue, bytes, 0) < 0) {
        return -1;
    }
    return write_settle(self);
}

/* Appends a copy. Returns 0, or -1 with MemoryError. */
static int
queue_copy(StreamObject *self, const char *data, size_t len)
{
    return ac_queue_make(self, 0) < 0 ? -1 : ac_buf_append_copy(self->queue, data, len);
}

/* One write of bytes that the caller may change afterwards. */
static int
write_copy(StreamObject *self, const char *data, size_t len)
{
    bool wait = self->flags & AC_STREAM_REFUSED
                || (may_cork(self) && ac_queue_pending(self) + len < cork_limit(self));
    if (!wait) {
        // sent from where it is; what came before goes first
        if (ac_write_flush(self) < 0) {
            return -1;
        }
        if (self->flags & AC_STREAM_LOST) {
            self->conn_lost++;  // a write after the failed one
            return 0;
        }
        if (!(self->flags & AC_STREAM_REFUSED)) {
            struct iovec piece = {(void *)data, len};
            ssize_t n = self->ops->send(self, &piece, 1);
            if (n < 0 && !ac_errors_is_transient(n)) {
                return ac_refused_fail(self, (int)n);
            }
            size_t sent = n < 0 ? 0 : (size_t)n;
            if (sent == len) {
                return 0;
            }
            return queue_copy(self, data + sent, len - sent) < 0
                       ? -1
                       : ac_refused_wait(self);
        }
    }
    return queue_copy(self, data, len) < 0 ? -1 : write_settle(self);
}

/* One write of a bytearray, a memoryview or a subclass of bytes. */
static int
write_view(StreamObject *self, PyObject *object)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    int rc = 0;
    PyObject *bytes = NULL;
    bool contiguous = PyBuffer_IsContiguous(&view, 'C');
    if (!contiguous && (bytes = PyBytes_FromObject(object)) == NULL) {
        rc = -1;
    }
    else if (self->flags & AC_STREAM_WRITE_STOPS) {
        // the object's own code has closed the stream: the bytes are lost with it
    }
    else if (!contiguous) {
        rc = write_bytes(self, bytes);
    }
    else if (view.len > 0) {
        rc = write_copy(self, view.buf, (size_t)view.len);
    }
    Py_XDECREF(bytes);
    PyBuffer_Release(&view);
    return rc;
}

int
ac_write_data(StreamObject *self, PyObject *data)
{
    return PyBytes_CheckExact(data) ? write_bytes(self, data) : write_view(self, data);
}

int
ac_write_lost(StreamObject *self)
{
    ac_state *state = ac_stream_state(self);
    long limit = ac_method_attribute_number(
        state->constants, state->str_LOG_THRESHOLD_FOR_CONNLOST_WRITES);
    if (limit == -1 && PyErr_Occurred()) {
        return -1;
    }
    bool many = (long)self->conn_lost >= limit;
    if (self->conn_lost < UINT32_MAX) {
        self->conn_lost++;
    }
    if (!many) {
        return 0;
    }
    PyObject *text = PyUnicode_FromString(
        self->flags & AC_STREAM_PIPE
            ? "pipe closed by peer or os.write(pipe, data) raised exception."
            : "socket.send() raised exception.");
    if (text == NULL) {
        return -1;
    }
    PyObject *result =
        PyObject_CallMethodOneArg(state->logger, state->str_warning, text);
    Py_DECREF(text);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* What forbids a write now. Returns 0, or -1 with RuntimeError. */
static int
check_writable(const StreamObject *self, const char *method)
{
    if (self->flags & AC_STREAM_EOF) {
        PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (self->flags & AC_STREAM_WAITER) {
        PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress",
                     method);
        return -1;
    }
    return 0;
}

/* ------------------------------------------------------------------ methods -- */

PyDoc_STRVAR(stream_write_doc,
             "write($self, /, data)\n--\n\n"
             "Send bytes, bytearray or memoryview; never blocks.\n\n"
             "The writes of one callback of the loop leave together when it returns.");

/* What is not the short way of write(). */
static int
write_slowly(StreamObject *self, PyObject *data)
{
    if (!ac_args_is_data(data)) {
        // the standard function knows the words of this version
        PyObject *args[] = {(PyObject *)self, data};
        PyObject *result =
            PyObject_Vectorcall(ac_stream_state(self)->standard_write, args, 2, NULL);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    if (check_writable(self, "write") < 0) {
        return -1;
    }
    int any = PyObject_IsTrue(data);
    if (any > 0) {
        any = self->flags & AC_STREAM_LOST ? ac_write_lost(self)
                                           : ac_write_data(self, data);
    }
    return any < 0 ? -1 : 0;
}

int
ac_write(StreamObject *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data) || self->flags & AC_STREAM_WRITE_STOPS) {
        return write_slowly(self, data);
    }
    if (PyBytes_GET_SIZE(data) > 0 && write_bytes(self, data) < 0) {
        return -1;
    }
    ac_stream_check(self);
    return 0;
}

int
ac_write_rest(StreamObject *self, PyObject *data)
{
    self->flags |= AC_STREAM_REST;
    int rc = ac_write(self, data);
    if (self->flags & AC_STREAM_REFUSED || ac_queue_pending(self) == 0) {
        self->flags &= ~(uint32_t)AC_STREAM_REST;
    }
    return rc;
}

int
ac_write_hand_over(StreamObject *self, PyObject *data)
{
    PyObject *bytes = PyBytes_FromObject(data);  // itself, if it is
    int rc = bytes == NULL ? -1 : ac_stream_hand_over(self, "write", bytes);
    Py_XDECREF(bytes);
    return rc;
}

PyObject *
ac_write_method(StreamObject *self, PyObject *data)
{
    int rc =
        AC_FREE_THREADED && ac_args_is_data(data) ? ac_write_hand_over(self, data) : 0;
    if (rc < 0 || (rc == 0 && ac_write(self, data) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data =
        ac_args_single("StreamTransport.write", "data", args, nargs, kwnames);
    return data == NULL ? NULL : ac_write_method((StreamObject *)op, data);
}

PyDoc_STRVAR(stream_writelines_doc, "writelines($self, /, list_of_data)\n--\n\n"
                                    "Send several pieces, as one write.");

/* A list of exact bytes, so that nothing is sent if a piece is unfit. */
static PyObject *
lines_collect(PyObject *lines)
{
    PyObject *list = PySequence_List(lines);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);  // borrowed, kept by the list
        if (PyBytes_CheckExact(item)) {
            continue;
        }
        PyObject *view = PyMemoryView_FromObject(item);  // raises the standard's error
        PyObject *bytes = view == NULL ? NULL : PyBytes_FromObject(view);
        Py_XDECREF(view);
        if (bytes == NULL || PyList_SetItem(list, i, bytes) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* The pieces as one write. Returns 0, or -1 with an exception. */
static int
lines_write(StreamObject *self, PyObject *list)
{
    bool any = false;
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(list); i++) {
        PyObject *bytes = PyList_GET_ITEM(list, i);  // borrowed, kept by the list
        if (PyBytes_GET_SIZE(bytes) > 0) {
            any = true;
            rc = ac_queue_make(self, 0) < 0
                     ? -1
                     : ac_buf_append_bytes(self->queue, bytes, 0);
        }
    }
    if (rc < 0) {  // out of memory: what was added before goes its way
        PyObject *exc = ac_err_take();
        if (write_settle(self) < 0) {
            PyErr_Clear();
        }
        ac_err_restore_steal(exc);
        return -1;
    }
    return any ? write_settle(self) : 0;
}

static PyObject *
stream_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    StreamObject *self = (StreamObject *)op;
    PyObject *lines = ac_args_single("StreamTransport.writelines", "list_of_data", args,
                                     nargs, kwnames);
    if (lines == NULL) {
        return NULL;
    }
    int handed = ac_stream_hand_over(self, "writelines", lines);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (check_writable(self, "writelines") < 0) {
        return NULL;
    }
    int any = PyObject_IsTrue(lines);
    if (any > 0 && self->flags & AC_STREAM_LOST) {
        any = ac_write_lost(self);
    }
    else if (any > 0) {
        PyObject *list = lines_collect(lines);
        any = list == NULL                   ? -1
              : self->flags & AC_STREAM_LOST ? 0  // by the iterator of `lines`
                                             : lines_write(self, list);
        Py_XDECREF(list);
    }
    if (any < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "How many bytes the kernel has not taken yet.");

static PyObject *
stream_get_write_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    if (ac_stream_check_thread(self) < 0 || ac_write_flush(self) < 0) {
        return NULL;
    }
    return PyLong_FromSize_t(ac_queue_pending(self));
}

PyDoc_STRVAR(stream_set_write_buffer_limits_doc,
             "set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
             "Set when pause_writing() and resume_writing() are called, in bytes.");

/* The interpreter's own method, once the bytes that came before have left. */
static PyObject *
stream_set_write_buffer_limits(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    StreamObject *self = (StreamObject *)op;
    if (ac_stream_check_thread(self) < 0 || ac_write_flush(self) < 0) {
        return NULL;
    }
    ac_state *state = ac_stream_state(self);
    PyObject *method = PyObject_GetAttr(state->asyncio_FlowControlMixin,
                                        state->str_set_write_buffer_limits);
    PyObject *result =
        method == NULL ? NULL : ac_method_pass_on(method, op, args, nargs, kwnames);
    Py_XDECREF(method);
    return result;
}

PyMethodDef ac_write_methods[] = {
    {"write", AC_CFUNCTION(stream_write), METH_FASTCALL | METH_KEYWORDS,
     stream_write_doc},
    {"writelines", AC_CFUNCTION(stream_writelines), METH_FASTCALL | METH_KEYWORDS,
     stream_writelines_doc},
    {"get_write_buffer_size", stream_get_write_buffer_size, METH_NOARGS,
     stream_get_write_buffer_size_doc},
    {"set_write_buffer_limits", AC_CFUNCTION(stream_set_write_buffer_limits),
     METH_FASTCALL | METH_KEYWORDS, stream_set_write_buffer_limits_doc},
    {NULL, NULL, 0, NULL},
};
