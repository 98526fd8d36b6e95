/* The events of a stream: its watcher, and the two callbacks of it.
 *
 * The loop holds the stream while its watcher wants events, as the standard selector
 * holds a transport through the handles of its callbacks. A number that nobody else
 * knows has its watcher from the start to the end; a number that the user knows gives
 * it back early, for add_reader() and sock_*(). */
#include "core/python.h"

#include "core/errors.h"
#include "loop/ready.h"
#include "loop/report.h"
#include "stream/close.h"
#include "stream/events.h"
#include "stream/pipe.h"
#include "stream/read.h"
#include "stream/refused.h"
#include "stream/sock.h"

/* Runs one of the two callbacks of a watcher as the standard's Handle would. */
static int
run_callback(StreamObject *self, LoopObject *loop, PyObject *context,
             int (*callback)(StreamObject *), PyObject *name)
{
    if (loop->instrumented) {
        return ac_ready_run_instrumented(loop, (PyObject *)self, name, context);
    }
    if (PyContext_Enter(context) < 0) {
        return ac_report_method(loop, (PyObject *)self, name, context);
    }
    int rc = callback(self);
    if (rc == 0) {
        return PyContext_Exit(context);
    }
    PyObject *exc = ac_err_take();
    (void)PyContext_Exit(context);  // cannot fail: we entered it
    ac_err_restore_steal(exc);
    return ac_report_method(loop, (PyObject *)self, name, context);
}

/* The kernel does not watch the number: nothing would ever come. */
static int
refused(StreamObject *self, LoopObject *loop)
{
    (void)ac_errors_errno(-self->watcher->error);
    self->watcher->error = 0;
    int rc = ac_close_fatal_raised(self, "Fatal error on socket transport");
    return rc < 0 ? ac_report_unraised(loop, "Exception in StreamTransport") : 0;
}

static int
on_ready(ac_watcher *watcher, unsigned int events)
{
    StreamObject *self = watcher->owner;
    LoopObject *loop = watcher->loop;  // borrowed, kept by whoever runs it
    PyObject *context;
    int rc = 0;
    Py_INCREF(self);
    if (watcher->error != 0) {
        rc = refused(self, loop);
    }
    else if (events & AC_READ) {
        context = Py_NewRef(self->read_context);
        rc = run_callback(self, loop, context, ac_read_ready,
                          loop->state->str__read_ready);
        Py_DECREF(context);
    }
    // reading may have ended it all
    if (rc == 0 && events & AC_WRITE && self->flags & AC_STREAM_REFUSED) {
        context = Py_NewRef(self->write_context);
        rc = run_callback(self, loop, context, ac_refused_ready,
                          loop->state->str__write_ready);
        Py_DECREF(context);
    }
    if (rc < 0) {  // on the standard loop, what was written has left by now
        rc = ac_loop_flush_after(loop, rc);
    }
    Py_DECREF(self);
    return rc;
}

/* Gives up the number. The caller holds the stream. */
static void
watcher_yield(StreamObject *self)
{
    ac_watcher *watcher = self->watcher;
    self->watcher = NULL;
    ac_watcher_close(watcher, -1);
    ac_loop_release(&self->open);
}

/* Somebody else waits for the number of a stream that is closing, or that sendfile()
 * has. What the stream waits for itself, it waits for by the loop's methods then,
 * unless the user has taken the number from under it. */
static int
give_way(ac_watcher *watcher)
{
    StreamObject *self = watcher->owner;
    unsigned int wanted = watcher->wanted;
    int rc = 0;
    Py_INCREF(self);
    watcher_yield(self);
    if (ac_sock_is_valid(self)) {
        rc = wanted & AC_WRITE ? ac_pipe_watch(self, AC_WRITE) : 0;
        rc = rc == 0 && wanted & AC_READ ? ac_pipe_watch(self, AC_READ) : rc;
    }
    Py_DECREF(self);
    return rc;
}

/* The transport that has the number is closing, and has bytes to send first: both wait
 * for it by the loop's methods then, each for what it wants. Returns 1 if it is so, 0
 * if not, -1 with an exception. */
static int
watcher_join(StreamObject *self)
{
    ac_watcher *watcher = ac_watcher_of_foreign(self->loop, self->fd);
    if (watcher == NULL || watcher->on_ready != on_ready) {
        return 0;
    }
    const uint32_t sends = AC_STREAM_CLOSING | AC_STREAM_REFUSED;
    StreamObject *other = watcher->owner;
    if ((other->flags & sends) != sends) {
        return 0;
    }
    self->flags |= AC_STREAM_GUEST;
    return give_way(watcher) < 0 ? -1 : 1;
}

/* A foreign number has one watcher: replaces the one there is, as the standard
 * loop's _add_reader replaces a callback. Returns 0, or -1 with an exception. */
static int
watcher_replace(LoopObject *loop, int fd)
{
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    if (watcher != NULL && watcher->on_ready == on_ready) {
        StreamObject *other = (StreamObject *)Py_NewRef((PyObject *)watcher->owner);
        watcher_yield(other);  // the user has taken the number from under it
        Py_DECREF(other);
        watcher = ac_watcher_of_foreign(loop, fd);
    }
    if (watcher == NULL) {
        return 0;
    }
    PyObject *names[] = {loop->state->str__remove_reader,
                         loop->state->str__remove_writer};
    PyObject *number = PyLong_FromLong(fd);
    for (int i = 0; number != NULL && i < 2; i++) {
        PyObject *result =
            PyObject_CallMethodOneArg((PyObject *)loop, names[i], number);
        if (result == NULL) {
            Py_CLEAR(number);
        }
        Py_XDECREF(result);
    }
    if (number == NULL) {
        return -1;
    }
    Py_DECREF(number);
    if (ac_watcher_of_foreign(loop, fd) != NULL) {
        PyErr_Format(PyExc_RuntimeError, "File descriptor %d is watched already", fd);
        return -1;
    }
    return 0;
}

int
ac_events_open(StreamObject *self)
{
    LoopObject *loop = self->loop;
    if (self->flags & AC_STREAM_PIPE) {
        return 0;
    }
    if (ac_loop_check_closed(loop) < 0) {
        return -1;
    }
    ac_watcher_kind kind =
        self->flags & AC_STREAM_SHARED || ac_watcher_own_is_full(loop)
            ? AC_WATCHER_FOREIGN
            : AC_WATCHER_OWN;
    if (kind == AC_WATCHER_FOREIGN) {
        int joined = watcher_join(self);
        if (joined != 0) {
            return joined < 0 ? -1 : 0;
        }
        if (watcher_replace(loop, self->fd) < 0) {
            return -1;
        }
    }
    self->watcher = ac_watcher_new(loop, kind, self->fd, on_ready, self);
    if (self->watcher == NULL) {
        return -1;
    }
    self->watcher->exposed = self->sock != NULL;
    self->watcher->give_way = give_way;
    return 0;
}

int
ac_events_watch(StreamObject *self, unsigned int events)
{
    if (self->flags & AC_STREAM_CLOSED) {
        return 0;
    }
    if (self->flags & AC_STREAM_ABANDONED) {
        (void)ac_errors_errno(EBADF);
        return -1;
    }
    bool lent =
        self->watcher == NULL
        && (self->flags & (AC_STREAM_WAITER | AC_STREAM_GUEST) || self->watched != 0);
    if (lent || self->flags & AC_STREAM_PIPE) {
        return ac_pipe_watch(self, events);
    }
    if (self->watcher == NULL && ac_events_open(self) < 0) {
        return -1;
    }
    if (ac_watcher_set(self->watcher, self->watcher->wanted | events) < 0) {
        return -1;
    }
    ac_loop_hold(&self->open);
    return 0;
}

void
ac_events_unwatch(StreamObject *self, unsigned int events)
{
    ac_watcher *watcher = self->watcher;
    if (watcher == NULL) {
        ac_pipe_unwatch(self, events);
        return;
    }
    unsigned int left = watcher->wanted & ~events;
    if (ac_watcher_set(watcher, left) < 0) {
        PyErr_Clear();  // the user closed the number: nothing is watched any more
    }
    bool foreign = watcher->kind == AC_WATCHER_FOREIGN;
    bool lend = foreign && left == AC_READ && self->flags & AC_STREAM_WAITER;
    if (left != 0 && !lend) {
        return;
    }
    if (foreign && self->flags & (AC_STREAM_CLOSING | AC_STREAM_WAITER)) {
        self->watcher = NULL;
        ac_watcher_close(watcher, -1);
    }
    if (lend && ac_pipe_watch(self, AC_READ) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    ac_loop_release(&self->open);
}

int
ac_events_take_back(StreamObject *self)
{
    if (self->flags & AC_STREAM_PIPE || !(self->watched & AC_READ)) {
        return 0;
    }
    ac_pipe_unwatch(self, AC_READ);
    return ac_events_watch(self, AC_READ);
}

/* ------------------------------------------------------ transport of a number -- */

PyDoc_STRVAR(
    core_transport_of_doc,
    "transport_of(loop, fd, /)\n--\n\n"
    "The stream transport that uses this descriptor, or None; the counterpart of\n"
    "the standard loop's table of transports.");

static PyObject *
core_transport_of(PyObject *module, PyObject *args)
{
    PyObject *loop, *fd;
    if (!PyArg_ParseTuple(args, "O!O!:transport_of", ac_state_of(module)->Loop, &loop,
                          &PyLong_Type, &fd)
        || ac_owner_check((LoopObject *)loop) < 0)
    {
        return NULL;
    }
    int overflow;
    long number = PyLong_AsLongAndOverflow(fd, &overflow);
    if (overflow != 0 || number < 0 || number > INT_MAX) {
        Py_RETURN_NONE;
    }
    ac_watcher *watcher = ac_watcher_of_own((LoopObject *)loop, (int)number);
    if (watcher == NULL) {
        watcher = ac_watcher_of_foreign((LoopObject *)loop, (int)number);
    }
    if (watcher == NULL || watcher->on_ready != on_ready) {
        Py_RETURN_NONE;
    }
    StreamObject *stream = watcher->owner;
    // sendfile has the descriptor, or the user has taken it out of the socket object
    if (stream->flags & AC_STREAM_WAITER || !ac_sock_is_valid(stream)) {
        Py_RETURN_NONE;
    }
    return Py_NewRef((PyObject *)stream);
}

PyMethodDef ac_events_functions[] = {
    {"transport_of", core_transport_of, METH_VARARGS, core_transport_of_doc},
    {NULL, NULL, 0, NULL},
};
