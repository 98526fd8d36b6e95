/* create_connection() of a numeric host, and create_unix_connection().
 *
 * A coroutine that goes the way of the interpreter's: connect, wait until the socket is
 * writable, make the protocol and the transport, wait until that has begun. There is no
 * socket object until somebody asks for it: the descriptor is the coroutine's, then the
 * stream's. What is not the usual is left to the interpreter's method. */
#include "core/python.h"

#include "core/coroutine.h"
#include "core/errors.h"
#include "core/fresh.h"
#include "core/method.h"
#include "core/sockaddr.h"
#include "core/connecting.h"
#include "loop/future.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "loop/report.h"
#include "loop/watcher.h"
#include "stream/connection.h"
#include "stream/connection_parts.h"
#include "stream/sock.h"
#include "stream/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

typedef struct {
    AC_COROUTINE_HEAD
    LoopObject *loop;
    PyObject *factory;    /* makes the protocol */
    PyObject *address;    /* as the user named it */
    PyObject *future;     /* from then on that it waits for the socket */
    PyObject *protocol;   /* both from then on that it waits for the transport */
    StreamObject *stream; /* owned */
    ac_watcher *watcher;  /* while the socket is not connected; foreign */
    ac_open open;         /* held by the loop for that time */
    PyObject *sock;       /* during the audit: what owns the descriptor, or NULL */
    int fd;               /* -1 if it is not ours */
    int family, proto;
    socklen_t len;
    struct sockaddr_storage parsed;
} ConnectionObject;

/* -------------------------------------------------------------- the descriptor -- */

/* Ends the wait for the socket, if there is one. `fd_to_close`: as ac_watcher_close. */
static void
end_watch(ConnectionObject *self, int fd_to_close)
{
    ac_watcher *watcher = self->watcher;
    self->watcher = NULL;
    ac_watcher_close(watcher, fd_to_close);
    ac_loop_open_remove(&self->open);
    ac_loop_release(&self->open);
}

static void
close_descriptor(ConnectionObject *self)
{
    int fd = self->fd;
    self->fd = -1;
    end_watch(self, fd);
}

static void
connection_on_loop_close(ac_open *node)
{
    ConnectionObject *self = (ConnectionObject *)node->object;
    ac_watcher *watcher = self->watcher;
    self->watcher = NULL;
    ac_watcher_close(watcher, -1);
}

/* ------------------------------------------------------------------- connecting -- */

/* A socket object of the descriptor, which it owns until it is taken back;
 * non-blocking, as the interpreter has made it by then. */
static PyObject *
lend_descriptor(void *op)
{
    ConnectionObject *self = op;
    PyObject *args = Py_BuildValue("(iii)", self->family, SOCK_STREAM, self->proto);
    PyObject *keywords = Py_BuildValue("{si}", "fileno", self->fd);
    if (args != NULL && keywords != NULL) {
        self->sock = PyObject_Call(self->loop->state->socket_type, args, keywords);
    }
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    PyObject *done = self->sock == NULL
                         ? NULL
                         : PyObject_CallMethodOneArg(
                             self->sock, self->loop->state->str_setblocking, Py_False);
    if (done == NULL) {
        return NULL;
    }
    Py_DECREF(done);
    return Py_NewRef(self->sock);
}

/* What was done with the object counts: it may be closed. Returns 0, or -1 with an
 * exception. */
static int
take_descriptor_back(ConnectionObject *self)
{
    PyObject *sock = self->sock;
    self->sock = NULL;
    self->fd = (int)ac_method_number(sock, self->loop->state->str_detach);
    Py_DECREF(sock);
    return PyErr_Occurred() ? -1 : 0;
}

/* sys.audit('socket.connect', sock, address). There is a socket object only if somebody
 * audits. Returns 0, or -1 with an exception. */
static int
audit(ConnectionObject *self)
{
    ac_connecting_target target = {self->family, self->address};
    int rc = ac_connecting_audit(lend_descriptor, self, &target);
    if (self->sock != NULL) {
        ac_errors_finally raised;
        ac_errors_finally_begin(&raised);
        rc = take_descriptor_back(self) < 0 ? -1 : rc;
        ac_errors_finally_end(&raised);
    }
    return rc;
}

/* Returns 1: connected, 0: not yet, -1 with an exception. */
static int
connect_first(ConnectionObject *self)
{
    int fd = ac_fresh_socket(self->family, self->proto);
    if (fd < 0) {
        (void)ac_errors_errno(-fd);
        return -1;
    }
    self->fd = fd;
    ac_watcher_number_is_new(self->loop, fd);
    if (audit(self) < 0) {
        return -1;
    }
    if (connect(self->fd, (struct sockaddr *)&self->parsed, self->len) == 0) {
        return 1;
    }
    if (ac_errors_is_transient(-errno)) {
        return 0;
    }
    (void)ac_errors_errno(errno);
    return -1;
}

/* Settles the future, if the connection is made or refused. Returns 0, or -1 with what
 * nobody catches. */
static int
settle(ConnectionObject *self, PyObject *future)
{
    ac_state *state = self->loop->state;
    int done = ac_future_is_done(state, future);
    if (done != 0 || self->watcher == NULL) {
        end_watch(self, -1);  // cancelled
        return done < 0 ? -1 : 0;
    }
    ac_connecting_target target = {self->family, self->address};
    int rc = ac_connecting_result(self->fd, &target);
    if (rc == 0) {
        return 0;
    }
    end_watch(self, -1);
    return rc > 0 ? ac_future_set_result(state, future, Py_None)
                  : ac_future_set_raised(state, future);
}

static int
on_ready(ac_watcher *watcher, unsigned int Py_UNUSED(events))
{
    ConnectionObject *self = (ConnectionObject *)Py_NewRef(watcher->owner);
    LoopObject *loop = watcher->loop;  // borrowed, kept by whoever runs it
    PyObject *future = Py_NewRef(self->future);
    int rc = settle(self, future);
    Py_DECREF(future);
    Py_DECREF(self);
    return rc < 0 ? ac_report_unraised(loop, "Exception in callback of a socket") : 0;
}

/* Begins to wait for the socket. Returns 0, or -1 with an exception. */
static int
watch(ConnectionObject *self)
{
    self->future = ac_future_new(self->loop);
    if (self->future == NULL || ac_loop_check_closed(self->loop) < 0) {
        return -1;
    }
    self->watcher =
        ac_watcher_new(self->loop, AC_WATCHER_FOREIGN, self->fd, on_ready, self);
    if (self->watcher == NULL) {
        return -1;
    }
    ac_loop_open_add(self->loop, &self->open);
    ac_loop_hold(&self->open);
    return ac_watcher_set(self->watcher, AC_WRITE);
}

/* --------------------------------------------------------------- the transport -- */

/* The stream of the descriptor, which is that one's from now on. */
static int
open_stream(ConnectionObject *self, PyObject *waiter, PyObject *context)
{
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);
    if (getpeername(self->fd, (struct sockaddr *)&peer, &peer_len) < 0) {
        peer_len = 0;
    }
    StreamObject *stream = ac_stream_new(self->loop->state);
    if (stream == NULL
        || ac_sock_adopt_fd(stream, self->fd, self->proto, &peer, peer_len) < 0)
    {
        Py_XDECREF((PyObject *)stream);
        return -1;
    }
    self->fd = -1;
    if (ac_stream_open(stream, self->loop, self->protocol, waiter, NULL, context) < 0) {
        (void)ac_stream_release(stream);  // nobody has seen it: no warning
        Py_DECREF((PyObject *)stream);
        return -1;
    }
    self->stream = stream;
    return 0;
}

/* `_create_connection_transport`, as far as it waits. New reference to what is to be
 * awaited, NULL with an exception. */
static PyObject *
open_transport(ConnectionObject *self)
{
    ac_state *state = self->loop->state;
    PyObject *context = NULL, *waiter = NULL, *awaited = NULL;
    if (state->connection_has_context && (context = PyContext_CopyCurrent()) == NULL) {
        return NULL;
    }
    self->protocol = PyObject_CallNoArgs(self->factory);
    if (self->protocol != NULL) {
        waiter = ac_future_new(self->loop);
    }
    if (waiter != NULL && open_stream(self, waiter, context) == 0) {
        awaited = ac_coroutine_awaitable(waiter);
    }
    Py_XDECREF(waiter);
    Py_XDECREF(context);
    return awaited;
}

/* ------------------------------------------------------------------- stepping -- */

static PySendResult
connection_step(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    ConnectionObject *self = (ConnectionObject *)op;
    if (ac_owner_check(self->loop) < 0) {
        return PYGEN_ERROR;
    }
    if (self->stream != NULL) {  // it has begun
        *result = PyTuple_Pack(2, (PyObject *)self->stream, self->protocol);
        Py_CLEAR(self->stream);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    int connected = self->future == NULL ? connect_first(self) : 1;
    if (connected > 0) {
        *result = open_transport(self);
    }
    else if (connected == 0 && watch(self) == 0) {
        *result = ac_coroutine_awaitable(self->future);
    }
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

/* transport.close(), for one that nobody gets. */
static void
close_transport(ConnectionObject *self)
{
    PyObject *stream = (PyObject *)self->stream;
    self->stream = NULL;
    PyObject *result = PyObject_CallMethodNoArgs(stream, self->loop->state->str_close);
    if (result == NULL) {
        PyErr_WriteUnraisable(stream);
    }
    Py_XDECREF(result);
    Py_DECREF(stream);
}

static void
connection_end(PyObject *op)
{
    ConnectionObject *self = (ConnectionObject *)op;
    // it has waited, and the loop may be about to tell it
    if (self->future != NULL
        && ac_ready_is_left_to_loop(self->loop, op, &ac_coroutine_end_method))
    {
        return;
    }
    close_descriptor(self);
    if (self->stream != NULL) {
        close_transport(self);
    }
    Py_CLEAR(self->future);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->address);
}

/* --------------------------------------------------------------- life and death -- */

static int
connection_traverse(PyObject *op, visitproc visit, void *arg)
{
    ConnectionObject *self = (ConnectionObject *)op;
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->factory);
    Py_VISIT(self->address);
    Py_VISIT(self->future);
    Py_VISIT(self->protocol);
    Py_VISIT((PyObject *)self->stream);
    return ac_coroutine_traverse((ac_coroutine *)self, visit, arg);
}

/* The reference to the loop is not tp_clear's: each cycle through the loop also ends at
 * what the loop refers to the coroutine by. */
static void
connection_free(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    LoopObject *loop = ((ConnectionObject *)op)->loop;
    type->tp_free(op);
    Py_DECREF((PyObject *)loop);
    Py_DECREF(type);
}

static const ac_coroutine_ops connection_ops = {
    .step = connection_step,
    .end = connection_end,
    .free = connection_free,
};

/* Fills in the address. False, without an exception, if that takes a look-up. */
static bool
parse(ConnectionObject *self, bool is_unix, PyObject *address)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (int i = is_unix ? 2 : 0; i < (is_unix ? 3 : 2); i++) {
        if (ac_sockaddr_parse(families[i], address, &self->parsed, &self->len)) {
            self->family = families[i];
            self->proto = is_unix ? 0 : IPPROTO_TCP;
            return true;
        }
    }
    return false;
}

static PyObject *
connection_new(LoopObject *loop, PyObject *factory, bool is_unix, PyObject *address)
{
    int known = ac_connection_is_known(loop);
    if (known <= 0) {
        return known < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyTypeObject *type = loop->state->Connection;
    ConnectionObject *self = (ConnectionObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    self->fd = -1;
    self->open.object = (PyObject *)self;
    self->open.on_loop_close = connection_on_loop_close;
    self->factory = Py_NewRef(factory);
    self->address = Py_NewRef(address);
    self->phase = AC_COROUTINE_CLOSED;  // until somebody gets it: no warning
    self->ops = &connection_ops;
    if (!parse(self, is_unix, address)) {
        Py_DECREF((PyObject *)self);
        Py_RETURN_NONE;
    }
    PyObject *function = ac_connection_function_borrowed(loop, is_unix);
    if (ac_coroutine_init((ac_coroutine *)self, &connection_ops, function) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(
    core_connect_doc,
    "connect(loop, protocol_factory, host, port, /)\n--\n\n"
    "The coroutine of create_connection(protocol_factory, host, port); None\n"
    "for a host that is to be resolved, and where a part of the method is not\n"
    "the interpreter's.");

static PyObject *
core_connect(PyObject *module, PyObject *args)
{
    PyObject *loop, *factory, *host, *port;
    if (!PyArg_ParseTuple(args, "O!OOO:connect", ac_state_of(module)->Loop, &loop,
                          &factory, &host, &port))
    {
        return NULL;
    }
    PyObject *address = PyTuple_Pack(2, host, port);
    PyObject *self = NULL;
    if (address != NULL) {
        self = connection_new((LoopObject *)loop, factory, false, address);
        Py_DECREF(address);
    }
    return self;
}

PyDoc_STRVAR(core_connect_unix_doc,
             "connect_unix(loop, protocol_factory, path, /)\n--\n\n"
             "The same for create_unix_connection(protocol_factory, path).");

static PyObject *
core_connect_unix(PyObject *module, PyObject *args)
{
    PyObject *loop, *factory, *path;
    if (!PyArg_ParseTuple(args, "O!OO:connect_unix", ac_state_of(module)->Loop, &loop,
                          &factory, &path))
    {
        return NULL;
    }
    return connection_new((LoopObject *)loop, factory, true, path);
}

static PyMethodDef connection_functions[] = {
    {"connect", core_connect, METH_VARARGS, core_connect_doc},
    {"connect_unix", core_connect_unix, METH_VARARGS, core_connect_unix_doc},
    {NULL, NULL, 0, NULL},
};

static const ac_coroutine_type connection_type = {
    .name = "asynccore._core.ConnectionCoroutine",
    .size = sizeof(ConnectionObject),
    .doc = "The coroutine of a connection that is being made.",
    .traverse = connection_traverse,
};

int
ac_connection_register(PyObject *module, ac_state *state)
{
    state->Connection = ac_coroutine_add_type(module, &connection_type);
    return state->Connection == NULL || ac_connection_parts_register(module, state) < 0
               ? -1
               : PyModule_AddFunctions(module, connection_functions);
}
