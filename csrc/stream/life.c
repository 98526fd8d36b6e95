/* The life of a stream: made, opened, released; its finalizer. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "stream/clients.h"
#include "stream/events.h"
#include "stream/pipe.h"
#include "stream/protocol.h"
#include "stream/refused.h"
#include "stream/sock.h"
#include "stream/stream.h"
#include "stream/write.h"

/* --------------------------------------------------------------------- open -- */

/* server._attach(). Returns 0, or -1 with an exception. */
static int
server_attach(StreamObject *self, ac_state *state, PyObject *server)
{
    if (ac_clients_attach(state, server, (PyObject *)self) < 0) {
        return -1;
    }
    ac_slot_set_steal((PyObject *)self, &self->server, Py_NewRef(server));
    return 0;
}

/* server._detach(), once. Returns 0, or -1 with an exception. */
static int
server_detach(StreamObject *self, ac_state *state)
{
    PyObject *server = self->server;
    if (server == NULL) {
        return 0;
    }
    AC_LOCK_OBJECT(self);
    self->server = NULL;
    AC_UNLOCK_OBJECT(self);
    int rc = ac_clients_detach(state, server, (PyObject *)self);
    Py_DECREF(server);
    return rc;
}

/* call_soon(object.name, argument) */
static int
schedule_method(StreamObject *self, PyObject *object, PyObject *name,
                PyObject *argument)
{
    PyObject *method = PyObject_GetAttr(object, name);
    if (method == NULL) {
        return -1;
    }
    int rc = ac_stream_call_soon(self, method, &argument, argument == NULL ? 0 : 1);
    Py_DECREF(method);
    return rc;
}

/* call_soon(futures._set_result_unless_cancelled, waiter, None) */
static int
schedule_waiter(StreamObject *self, ac_state *state, PyObject *waiter)
{
    PyObject *function =
        PyObject_GetAttr(state->futures, state->str__set_result_unless_cancelled);
    if (function == NULL) {
        return -1;
    }
    PyObject *args[] = {waiter, Py_None};
    int rc = ac_stream_call_soon(self, function, args, 2);
    Py_DECREF(function);
    return rc;
}

/* The loop closes with the stream open: what it watched is given up, the descriptor
 * stays, as on the standard loop. */
static void
stream_on_loop_close(ac_open *node)
{
    StreamObject *self = (StreamObject *)node->object;
    ac_watcher *watcher = self->watcher;
    self->watcher = NULL;
    ac_watcher_close(watcher, -1);
}

int
ac_stream_open(StreamObject *self, LoopObject *loop, PyObject *protocol,
               PyObject *waiter, PyObject *server, PyObject *context)
{
    ac_state *state = loop->state;
    self->loop = (LoopObject *)Py_NewRef(loop);
    if (context != NULL) {
        self->read_context = Py_NewRef(context);
        self->flags |= AC_STREAM_OWN_CONTEXT;
    }
    if (ac_protocol_set(self, protocol) < 0
        || (server != NULL && server_attach(self, state, server) < 0)
        || ac_events_open(self) < 0)
    {
        return -1;
    }
    if (self->watcher != NULL) {
        ac_loop_open_add(loop, &self->open);
    }
    // reading starts only when connection_made() was called, and the waiter wakes
    // only after that
    const uint32_t deaf = AC_STREAM_WRITE_PIPE | AC_STREAM_PAUSED;
    if (schedule_method(self, self->protocol, state->str_connection_made,
                        (PyObject *)self)
            < 0
        || ((self->flags & deaf) != deaf
            && schedule_method(self, (PyObject *)self, state->str__start_reading, NULL)
                   < 0)
        || (waiter != NULL && schedule_waiter(self, state, waiter) < 0))
    {
        return -1;
    }
    ac_stream_check(self);
    return 0;
}

static StreamObject *
stream_alloc(PyTypeObject *type, ac_state *state)
{
    StreamObject *self = (StreamObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->flags = AC_STREAM_NEVER_OPENED;
    self->conn_lost = 1;
    self->fd = -1;
    self->protocol_paused = Py_NewRef(Py_False);
    self->high_water = Py_NewRef(state->high_water);
    self->low_water = Py_NewRef(state->low_water);
    self->open.object = (PyObject *)self;
    self->open.on_loop_close = stream_on_loop_close;
    self->flush.object = (PyObject *)self;
    self->flush.flush = ac_write_on_flush;
    return self;
}

StreamObject *
ac_stream_new(ac_state *state)
{
    return stream_alloc(state->Stream, state);
}

PyObject *
ac_stream_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                 PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    return module == NULL ? NULL : (PyObject *)stream_alloc(type, ac_state_of(module));
}

/* ---------------------------------------------------------------------- end -- */

/* Gives back the descriptor with all that watches it. Whether the socket object stays
 * is the caller's. */
static int
give_back_descriptor(StreamObject *self)
{
    int rc = 0;
    ac_refused_drop(self);
    ac_pipe_unwatch(self, AC_READ | AC_WRITE);
    if (self->sock != NULL || !(self->flags & AC_STREAM_PIPE)) {
        rc = ac_sock_close(self);
    }
    return rc;
}

int
ac_stream_release(StreamObject *self)
{
    if (self->flags & AC_STREAM_CLOSED) {
        return 0;
    }
    int rc = 0;
    ac_errors_finally lost, closed;
    ac_errors_finally_begin(&lost);
    ac_state *state = ac_stream_state(self);
    if (!(self->flags & AC_STREAM_LOST)) {
        self->conn_lost += self->flags & AC_STREAM_PIPE ? 0 : 1;
    }
    self->flags |= AC_STREAM_NEVER_OPENED;
    if (!(self->flags & AC_STREAM_ABANDONED)) {
        rc = give_back_descriptor(self);
    }
    ac_errors_finally_begin(&closed);
    ac_loop_open_remove(&self->open);
    ac_loop_release(&self->open);
    LoopObject *loop = self->loop;
    AC_LOCK_OBJECT(self);
    AC_STORE(self->loop, NULL);
    AC_UNLOCK_OBJECT(self);
    ac_slot_set_steal((PyObject *)self, &self->sock, NULL);  // of an abandoned one
    ac_dictwatch_drop(state, &self->note.attributes);
    ac_slot_set_steal((PyObject *)self, &self->protocol, NULL);
    Py_CLEAR(self->read_context);
    self->flags &= ~(uint32_t)AC_STREAM_OWN_CONTEXT;
    rc = server_detach(self, state) < 0 ? -1 : rc;
    Py_XDECREF(loop);
    ac_errors_finally_end(&closed);
    ac_errors_finally_end(&lost);
    return rc;
}

/* What the finalizer does but for the warning: the descriptor goes. Nobody is told, and
 * the stream does not count as closing: somebody who still has it, such as a
 * StreamWriter in the same cycle, may close it, and then connection_lost() is called.
 */
static void
abandon(StreamObject *self)
{
    PyObject *sock = Py_XNewRef(self->sock);
    self->flags |= AC_STREAM_ABANDONED;
    ac_sock_abandon(self);
    int rc = give_back_descriptor(self);
    if (self->flags & AC_STREAM_CLOSED) {  // by the close() of the socket object
        Py_XDECREF(sock);
    }
    else {  // it is closed, and shown as before
        ac_slot_set_steal((PyObject *)self, &self->sock, sock);
    }
    if (rc < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    ac_loop_open_remove(&self->open);
    ac_loop_release(&self->open);
    if (server_detach(self, ac_stream_state(self)) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
}

/* The loop, whoever takes it out meanwhile: a new reference, or NULL. */
static LoopObject *
loop_of(StreamObject *self)
{
    AC_LOCK_OBJECT(self);
    LoopObject *loop = (LoopObject *)Py_XNewRef(self->loop);
    AC_UNLOCK_OBJECT(self);
    return loop;
}

/* The loop, if that is another thread's: a new reference. NULL: go on. */
static LoopObject *
foreign_loop(StreamObject *self)
{
    LoopObject *loop = loop_of(self);
    if (loop != NULL && !ac_owner_is_another(loop)) {
        Py_CLEAR(loop);
    }
    return loop;
}

bool
ac_stream_is_elsewhere(StreamObject *self)
{
    LoopObject *loop = AC_FREE_THREADED ? foreign_loop(self) : NULL;
    Py_XDECREF(loop);
    return loop != NULL;
}

int
ac_stream_pass_to_loop(StreamObject *self, const char *name, PyObject *argument,
                       bool ends)
{
    LoopObject *loop = foreign_loop(self);
    if (loop == NULL) {
        return 0;
    }
    int rc = ends && loop->debug ? ac_owner_check(loop) : 0;
    if (rc == 0) {
        PyObject *method = PyObject_GetAttrString((PyObject *)self, name);
        rc = ac_ready_hand_over_steal(loop, method, argument);
    }
    Py_DECREF(loop);
    return rc < 0 ? -1 : 1;
}

static PyObject *
stream_collected(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ac_stream_tp_finalize(op);
    Py_RETURN_NONE;
}

static PyMethodDef collected_method = {"_collected", stream_collected, METH_NOARGS,
                                       NULL};

static void
finalize(StreamObject *self, LoopObject *loop)
{
    PyObject *op = (PyObject *)self;
    if (self->flags & AC_STREAM_CLOSED) {
        return;
    }
    bool taken = self->flags & AC_STREAM_PIPE && self->sock == NULL;
    if (!taken && PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (ac_owner_enter(loop)) {
        // a handler of warnings has seen it
        if (!(self->flags & (AC_STREAM_CLOSED | AC_STREAM_ABANDONED))) {
            abandon(self);
        }
        ac_owner_leave(loop);
    }
    else {  // another thread has just begun to run it
        (void)ac_ready_is_left_to_loop(loop, op, &collected_method);
    }
}

/* __del__ of the standard transport: an open transport that nobody refers to. */
void
ac_stream_tp_finalize(PyObject *op)
{
    StreamObject *self = (StreamObject *)op;
    LoopObject *loop = loop_of(self);
    if (loop == NULL) {  // closed, or never opened
        return;
    }
    PyObject *exc = ac_err_take();
    // the collector, or who dropped the last reference, may be another thread than the
    // one that runs the loop. That one may be at work on the stream: another finalizer
    // of the same cycle has called close()
    if (!ac_ready_is_left_to_loop(loop, op, &collected_method)) {
        finalize(self, loop);
    }
    ac_err_restore_steal(exc);
    Py_DECREF(loop);
}

int
ac_stream_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    StreamObject *self = (StreamObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->dict);
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->server);
    Py_VISIT(self->sock);
    Py_VISIT(self->read_context);
    Py_VISIT(self->write_context);
    Py_VISIT(self->empty_waiter);
    Py_VISIT(self->note.attributes.dict);
    return ac_mixin_traverse(op, visit, arg);
}

/* The end of a stream whose finalizer has run. */
static void
release_silently(StreamObject *self)
{
    PyObject *exc = ac_err_take();
    if (ac_stream_release(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    ac_err_restore_steal(exc);
}

int
ac_stream_tp_clear(PyObject *op)
{
    StreamObject *self = (StreamObject *)op;
    release_silently(self);
    ac_mixin_clear(op);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->write_context);
    self->flags &= ~(uint32_t)AC_STREAM_WAITER;
    Py_CLEAR(self->empty_waiter);
    return 0;
}

void
ac_stream_tp_dealloc(PyObject *op)
{
    StreamObject *self = (StreamObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;  // resurrected, by a filter that keeps the warning's source
    }
    PyObject_GC_UnTrack(op);
    if (AC_LOAD(self->weakrefs) != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)ac_stream_tp_clear(op);
    PyMem_Free(self->addresses);
    type->tp_free(op);
    Py_DECREF(type);
}
