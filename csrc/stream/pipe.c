/* Transports over pipes, FIFOs, sockets and character devices, in one direction.
 *
 * They behave as asyncio's _UnixReadPipeTransport and _UnixWritePipeTransport; what
 * carries bytes is the stream's (read.c, write.c, queue.c, close.c), with read(2) and
 * writev(2) beneath. What differs from a socket's transport:
 *  - The file object that was given owns the number. The program knows it, and may give
 *    one number to two transports (a terminal), to add_reader() or to nobody at all. So
 *    it is watched as the standard transport does it, by the loop's _add_reader and
 *    _add_writer; `watched` is what they were told.
 *  - Nothing is corked (write.c).
 *  - An exception of data_received() is the loop's to report; the pipe stays open.
 *  - The writing end watches for reading as well where that tells that the reader has
 *    left: on sockets and FIFOs.
 *
 * AC_STREAM_PAUSED of a writing end: it has nothing to read, ever. AC_STREAM_EOF of a
 * reading end: eof_received() is scheduled. */
#include "core/python.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/method.h"
#include "loop/owner.h"
#include "stream/close.h"
#include "stream/pipe.h"
#include "stream/queue.h"
#include "stream/read.h"
#include "stream/refused.h"
#include "stream/write.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---------------------------------------------------------------------- ops -- */

static ssize_t
pipe_recv(StreamObject *self, void *data, size_t len)
{
    ssize_t n = read(self->fd, data, len);
    return n < 0 ? -errno : n;
}

static ssize_t
pipe_send(StreamObject *self, struct iovec *pieces, int n)
{
    ssize_t sent = n == 1 ? write(self->fd, pieces->iov_base, pieces->iov_len)
                          : writev(self->fd, pieces, n);
    return sent < 0 ? -errno : sent;
}

static const ac_stream_ops pipe_ops = {
    .recv = pipe_recv,
    .send = pipe_send,
};

/* ------------------------------------------------------------------- events -- */

int
ac_pipe_watch(StreamObject *self, unsigned int events)
{
    LoopObject *loop = self->loop;
    unsigned int missing = events & ~(unsigned int)self->watched;
    if (missing == 0 || loop == NULL) {  // an overridden method has ended it
        return 0;
    }
    ac_state *state = loop->state;
    assert(missing == AC_READ || missing == AC_WRITE);
    bool reading = missing == AC_READ;
    PyObject *number = PyLong_FromLong(self->fd);
    PyObject *callback = NULL, *handle = NULL;
    if (number != NULL) {
        callback =
            PyObject_GetAttr((PyObject *)self, reading ? state->str__read_ready
                                                       : state->str__write_ready);
    }
    if (callback != NULL) {
        self->watched |= (uint8_t)missing;
        PyObject *stack[] = {(PyObject *)loop, number, callback};
        handle = PyObject_VectorcallMethod(
            reading ? state->str__add_reader : state->str__add_writer, stack, 3, NULL);
        if (handle == NULL) {
            self->watched &= (uint8_t)~missing;
        }
    }
    Py_XDECREF(number);
    Py_XDECREF(callback);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

void
ac_pipe_unwatch(StreamObject *self, unsigned int events)
{
    events &= self->watched;
    self->watched &= (uint8_t)~events;
    LoopObject *loop = self->loop;
    if (events == 0 || loop == NULL) {
        return;
    }
    PyObject *exc = ac_err_take();
    PyObject *names[] = {loop->state->str__remove_reader,
                         loop->state->str__remove_writer};
    for (unsigned int i = 0; i < 2; i++) {
        if (!(events & (i == 0 ? AC_READ : AC_WRITE))) {
            continue;
        }
        PyObject *number = PyLong_FromLong(self->fd);
        PyObject *result = number == NULL ? NULL
                                          : PyObject_CallMethodOneArg((PyObject *)loop,
                                                                      names[i], number);
        if (result == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(number);
        Py_XDECREF(result);
    }
    ac_err_restore_steal(exc);
}

/* Calls logger.info(format, self) in debug mode. */
static int
log_closed_by_peer(StreamObject *self)
{
    if (!self->loop->debug) {
        return 0;
    }
    ac_state *state = self->loop->state;
    PyObject *text = PyUnicode_FromString("%r was closed by peer");
    PyObject *result = NULL;
    if (text != NULL) {
        result = PyObject_CallMethodObjArgs(state->logger, state->str_info, text,
                                            (PyObject *)self, NULL);
        Py_DECREF(text);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

Py_ssize_t
ac_pipe_capacity(const StreamObject *self)
{
#ifdef F_GETPIPE_SZ
    int size = fcntl(self->fd, F_GETPIPE_SZ);
    return size > 0 && size < AC_READ_BUFFER ? size : AC_READ_BUFFER;
#else
    (void)self;
    return AC_READ_BUFFER;
#endif
}

int
ac_pipe_eof(StreamObject *self)
{
    if (log_closed_by_peer(self) < 0) {
        return -1;
    }
    if (self->flags & AC_STREAM_LOST) {  // by a handler of the logger
        return 0;
    }
    // without memory for one of the two, the next event tries again
    if (!(self->flags & AC_STREAM_EOF)) {
        PyObject *protocol = self->protocol == NULL ? Py_None : self->protocol;
        PyObject *method =
            PyObject_GetAttr(protocol, ac_stream_state(self)->str_eof_received);
        int rc = method == NULL ? -1 : ac_stream_call_soon(self, method, NULL, 0);
        Py_XDECREF(method);
        if (rc < 0) {
            if (!PyErr_ExceptionMatches(PyExc_MemoryError)) {
                self->flags |= AC_STREAM_CLOSING;  // as there: it never ends
                PyObject *exc = ac_err_take();
                ac_read_stop(self);
                ac_err_restore_steal(exc);
            }
            return -1;
        }
        self->flags |= AC_STREAM_EOF;
    }
    return ac_close_force(self, Py_None);
}

/* _read_ready() of a writing end: the reader has left. */
static int
reader_left(StreamObject *self)
{
    if (self->flags & AC_STREAM_LOST) {
        return 0;
    }
    if (log_closed_by_peer(self) < 0) {
        return -1;
    }
    if (!(self->flags & AC_STREAM_REFUSED)) {
        return ac_close_force(self, Py_None);
    }
    PyObject *exc = PyObject_CallNoArgs(PyExc_BrokenPipeError);
    int rc = exc == NULL ? -1 : ac_close_force(self, exc);
    Py_XDECREF(exc);
    return rc;
}

/* --------------------------------------------------------------------- open -- */

/* Whether the writing end learns from being readable that the reader has left. */
static bool
tells_of_reader(const struct stat *info)
{
    if (S_ISSOCK(info->st_mode)) {
        return true;
    }
#if defined(__APPLE__) || defined(__sun)
    // a named FIFO is readable there while it holds data, and never tells (gh-145030)
    return S_ISFIFO(info->st_mode) && info->st_nlink == 0;
#else
    return S_ISFIFO(info->st_mode);
#endif
}

static int
set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0
        || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
        (void)ac_errors_errno(errno);
        return -1;
    }
    return 0;
}

/* What the constructors of asyncio's transports check, in their order. */
static int
pipe_adopt(StreamObject *self, ac_state *state, uint32_t kind, PyObject *pipe)
{
    long fd = ac_method_number(pipe, state->str_fileno);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    struct stat info;
    if (fd < 0 || fd > INT_MAX || fstat((int)fd, &info) < 0) {
        (void)ac_errors_errno(fd < 0 || fd > INT_MAX ? EBADF : errno);
        return -1;
    }
    if (!S_ISFIFO(info.st_mode) && !S_ISSOCK(info.st_mode) && !S_ISCHR(info.st_mode)) {
        PyErr_SetString(PyExc_ValueError,
                        kind == AC_STREAM_READ_PIPE
                            ? "Pipe transport is for pipes/sockets only."
                            : "Pipe transport is only for pipes, sockets and character "
                              "devices");
        return -1;
    }
    if (set_nonblocking((int)fd) < 0) {
        return -1;
    }
    self->fd = (int)fd;
    self->sock = Py_NewRef(pipe);
    self->ops = &pipe_ops;
    self->flags = kind;
    self->conn_lost = 0;
    if (kind == AC_STREAM_WRITE_PIPE && !tells_of_reader(&info)) {
        self->flags |= AC_STREAM_PAUSED;
    }
    return 0;
}

static int
pipe_init(StreamObject *self, uint32_t kind, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", "pipe", "protocol", "waiter", "extra", NULL};
    ac_state *state = ac_stream_state(self);
    PyObject *loop, *pipe, *protocol;
    PyObject *waiter = Py_None, *extra = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OO:PipeTransport", names,
                                     state->Loop, &loop, &pipe, &protocol, &waiter,
                                     &extra))
    {
        return -1;
    }
    if (extra != Py_None && !PyDict_Check(extra)) {
        PyErr_SetString(PyExc_TypeError, "extra must be a dict or None");
        return -1;
    }
    if (self->fd != -1) {
        PyErr_SetString(PyExc_RuntimeError, "the transport is initialised already");
        return -1;
    }
    PyObject *dict = extra == Py_None ? PyDict_New() : Py_NewRef(extra);
    if (dict == NULL) {
        return -1;
    }
    Py_XSETREF(self->extra, dict);
    if (PyDict_SetItem(dict, state->str_pipe, pipe) < 0
        || ac_owner_enter_or_raise((LoopObject *)loop) < 0)
    {
        return -1;
    }
    int rc = pipe_adopt(self, state, kind, pipe);
    if (rc == 0) {
        rc = ac_stream_open(self, (LoopObject *)loop, protocol,
                            waiter == Py_None ? NULL : waiter, NULL, NULL);
    }
    ac_owner_leave((LoopObject *)loop);
    return rc;
}

static int
read_pipe_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return pipe_init((StreamObject *)self, AC_STREAM_READ_PIPE, args, kwargs);
}

static int
write_pipe_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return pipe_init((StreamObject *)self, AC_STREAM_WRITE_PIPE, args, kwargs);
}

/* --------------------------------------------------------------- attributes -- */

static PyObject *
pipe_repr(PyObject *op)
{
    StreamObject *self = (StreamObject *)op;
    PyObject *name = PyType_GetName(Py_TYPE(op));
    if (name == NULL) {
        return NULL;
    }
    bool closed = self->flags & AC_STREAM_CLOSED;
    bool writing = self->flags & AC_STREAM_WRITE_PIPE;
    bool asks = !closed && !(AC_FREE_THREADED && ac_stream_is_elsewhere(self))
                && !self->loop->closed;
    const char *life = closed                            ? " closed"
                       : self->flags & AC_STREAM_CLOSING ? " closing"
                                                         : "";
    const char *polls =
        self->watched & (writing ? AC_WRITE : AC_READ) ? "polling" : "idle";
    const char *state = closed ? "closed" : asks ? polls : "open";
    PyObject *text =
        asks && writing
            ? PyUnicode_FromFormat("<%U%s fd=%d %s bufsize=%zu>", name, life, self->fd,
                                   state, ac_queue_pending(self))
            : PyUnicode_FromFormat("<%U%s fd=%d %s>", name, life, self->fd, state);
    Py_DECREF(name);
    return text;
}

/* `_pipe = None`: what was given is the program's again, and closed by it. */
static int
pipe_set_pipe(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    StreamObject *self = (StreamObject *)op;
    if (value == NULL || (value != Py_None && self->flags & AC_STREAM_CLOSED)) {
        PyErr_SetString(PyExc_AttributeError, "cannot be set");
        return -1;
    }
    if (ac_stream_check_thread(self) < 0) {
        return -1;
    }
    ac_slot_set_steal(op, &self->sock, value == Py_None ? NULL : Py_NewRef(value));
    return 0;
}

static PyGetSetDef pipe_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_closing", ac_stream_get_flag, NULL, NULL, (void *)(uintptr_t)AC_STREAM_CLOSING},
    {"_paused", ac_stream_get_flag, NULL, NULL, (void *)(uintptr_t)AC_STREAM_PAUSED},
    AC_STREAM_SLOT("_pipe", sock, pipe_set_pipe),
    AC_STREAM_SLOT("_loop", loop, NULL),
    AC_STREAM_SLOT("_protocol", protocol, ac_stream_set_protocol_attr),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef pipe_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(StreamObject, dict), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(StreamObject, weakrefs), Py_READONLY,
     NULL},
    {"_fileno", Py_T_INT, offsetof(StreamObject, fd), Py_READONLY, NULL},
    {"_conn_lost", Py_T_UINT, offsetof(StreamObject, conn_lost), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ------------------------------------------------------------------ methods -- */

PyDoc_STRVAR(write_pipe_write_doc,
             "write($self, /, data)\n--\n\n"
             "Send bytes, bytearray or memoryview at once; never blocks.");

static PyObject *
write_pipe_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    StreamObject *self = (StreamObject *)op;
    PyObject *data =
        ac_args_single("WritePipeTransport.write", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    if (!ac_args_is_data(data)) {
        PyObject *text = PyObject_Repr(data);
        if (text != NULL) {
            PyErr_SetObject(PyExc_AssertionError, text);
            Py_DECREF(text);
        }
        return NULL;
    }
    int handed = AC_FREE_THREADED ? ac_write_hand_over(self, data) : 0;
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    int any = PyObject_IsTrue(data);
    if (any > 0) {
        any = self->flags & AC_STREAM_CLOSING ? ac_write_lost(self)
                                              : ac_write_data(self, data);
    }
    if (any < 0) {
        return NULL;
    }
    ac_stream_check(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(write_pipe_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close once everything written is sent: the end of a pipe is its EOF.");

static PyObject *
write_pipe_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamObject *self = (StreamObject *)op;
    int handed = ac_stream_hand_over(self, "write_eof", NULL);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (ac_close_begin(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(write_pipe__read_ready_doc, "_read_ready($self, /)\n--\n\n"
                                         "The reader has left: close.");

static PyObject *
write_pipe__read_ready(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (reader_left((StreamObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef write_pipe_methods[] = {
    {"write", AC_CFUNCTION(write_pipe_write), METH_FASTCALL | METH_KEYWORDS,
     write_pipe_write_doc},
    {"write_eof", write_pipe_write_eof, METH_NOARGS, write_pipe_write_eof_doc},
    {"_read_ready", write_pipe__read_ready, METH_NOARGS, write_pipe__read_ready_doc},
    {NULL, NULL, 0, NULL},
};

/* ---------------------------------------------------------------- the types -- */

PyDoc_STRVAR(read_pipe_doc,
             "ReadPipeTransport(loop, pipe, protocol, waiter=None, extra=None)\n--\n\n"
             "The reading end of a pipe; loop.connect_read_pipe() makes them.");

PyDoc_STRVAR(write_pipe_doc,
             "WritePipeTransport(loop, pipe, protocol, waiter=None, extra=None)\n--\n\n"
             "The writing end of a pipe; loop.connect_write_pipe() makes them.");

#define PIPE_SLOTS(kind)                                                            \
    {Py_tp_doc, (void *)kind##_doc}, {Py_tp_new, ac_stream_tp_new},                 \
        {Py_tp_init, kind##_init}, {Py_tp_finalize, ac_stream_tp_finalize},         \
        {Py_tp_dealloc, ac_stream_tp_dealloc},                                      \
        {Py_tp_traverse, ac_stream_tp_traverse}, {Py_tp_clear, ac_stream_tp_clear}, \
        {Py_tp_repr, pipe_repr}, {Py_tp_members, pipe_members},                     \
    {                                                                               \
        Py_tp_getset, pipe_getset                                                   \
    }

static PyType_Slot read_pipe_slots[] = {PIPE_SLOTS(read_pipe), {0, NULL}};
static PyType_Slot write_pipe_slots[] = {
    PIPE_SLOTS(write_pipe), {Py_tp_methods, write_pipe_methods}, {0, NULL}};
#undef PIPE_SLOTS

static PyType_Spec read_pipe_spec = {
    .name = "asynccore._core.ReadPipeTransport",
    .basicsize = sizeof(StreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = read_pipe_slots,
};

static PyType_Spec write_pipe_spec = {
    .name = "asynccore._core.WritePipeTransport",
    .basicsize = sizeof(StreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = write_pipe_slots,
};

static const ac_slot_offset read_pipe_layout[] = {
    {"_extra", offsetof(StreamObject, extra)},
    {NULL, 0},
};

/* Takes over methods of the other files. */
static int
add_shared(PyTypeObject *type, const char *const *names)
{
    PyMethodDef *tables[] = {ac_stream_methods, ac_read_methods, ac_write_methods,
                             ac_refused_methods, ac_close_methods};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (ac_stream_add_methods(type, tables[i], names) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
add_max_size(PyTypeObject *type)
{
    PyObject *size = PyLong_FromLong(AC_READ_BUFFER);
    int rc =
        size == NULL ? -1 : PyObject_SetAttrString((PyObject *)type, "max_size", size);
    Py_XDECREF(size);
    return rc;
}

int
ac_pipe_register(PyObject *module, ac_state *state)
{
    static const char *const read_names[] = {
        "get_protocol",  "set_protocol",          "is_reading",
        "pause_reading", "resume_reading",        "is_closing",
        "close",         "_start_reading",        "_read_ready",
        "_fatal_error",  "_call_connection_lost", NULL};
    static const char *const write_names[] = {"get_protocol",
                                              "set_protocol",
                                              "get_write_buffer_size",
                                              "_write_ready",
                                              "is_closing",
                                              "close",
                                              "abort",
                                              "can_write_eof",
                                              "_fatal_error",
                                              "_start_reading",
                                              "_call_connection_lost",
                                              NULL};
    PyObject *base = ac_state_import("asyncio.transports", "ReadTransport");
    if (base == NULL
        || ac_state_check_layout(base, read_pipe_layout,
                                 offsetof(StreamObject, high_water))
               < 0)
    {
        Py_XDECREF(base);
        return -1;
    }
    state->ReadPipe = ac_state_add_type(module, &read_pipe_spec, base);
    Py_DECREF(base);
    if (state->ReadPipe == NULL || add_shared(state->ReadPipe, read_names) < 0
        || add_max_size(state->ReadPipe) < 0)
    {
        return -1;
    }
    state->WritePipe =
        ac_state_add_type(module, &write_pipe_spec, state->asyncio_FlowControlMixin);
    return state->WritePipe == NULL ? -1 : add_shared(state->WritePipe, write_names);
}
