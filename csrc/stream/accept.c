/* Connections of a listening socket.
 *
 * accept_ready() takes what waits in the kernel's queue and leaves each connection to
 * an Accepted object, which the next turn calls: there the standard loop's task runs
 * _accept_connection2(). An Accepted owns its descriptor until a stream takes it;
 * dropped, it closes it. The Python side handles debug mode, TLS and the errors of
 * accept(), with the standard's own code. */
#include "core/python.h"

#include "core/code.h"
#include "core/fresh.h"
#include "core/method.h"
#include "core/plain.h"
#include "loop/ready.h"
#include "loop/report.h"
#include "stream/accept.h"
#include "stream/sock.h"
#include "stream/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    LoopObject *loop;
    PyObject *factory; /* makes the protocol */
    PyObject *server;
    PyObject *context; /* of all callbacks, or NULL */
    int fd;            /* -1 once it is used */
    long proto;
    socklen_t peer_len;
    struct sockaddr_storage peer;
} AcceptedObject;

/* ----------------------------------------------------------------- Accepted -- */

static int
accepted_traverse(PyObject *op, visitproc visit, void *arg)
{
    AcceptedObject *self = (AcceptedObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->factory);
    Py_VISIT(self->server);
    Py_VISIT(self->context);
    return 0;
}

static int
accepted_clear(PyObject *op)
{
    AcceptedObject *self = (AcceptedObject *)op;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->server);
    Py_CLEAR(self->context);
    return 0;
}

static void
accepted_dealloc(PyObject *op)
{
    AcceptedObject *self = (AcceptedObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->fd >= 0) {
        close(self->fd);
    }
    (void)accepted_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
accepted_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<accepted connection fd=%d>",
                                ((AcceptedObject *)op)->fd);
}

/* A stream for the descriptor; *stream is a new reference also when it fails after
 * the stream was made. */
static int
accepted_open(AcceptedObject *self, PyObject *protocol, StreamObject **stream)
{
    *stream = ac_stream_new(self->loop->state);
    if (*stream == NULL
        || ac_sock_adopt_fd(*stream, self->fd, self->proto, &self->peer, self->peer_len)
               < 0)
    {
        return -1;
    }
    self->fd = -1;
    return ac_stream_open(*stream, self->loop, protocol, NULL, self->server,
                          self->context);
}

/* What the standard's _accept_connection2 does with an exception. */
static int
accepted_failed(AcceptedObject *self, PyObject *protocol, StreamObject *stream)
{
    if (stream != NULL) {
        (void)ac_stream_release(stream);  // nobody has seen it: no warning
    }
    if (self->fd >= 0) {
        close(self->fd);
        self->fd = -1;
    }
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    int rc = 0;
    if (self->loop->debug || self->loop->state->accept_reports) {
        rc = ac_report_context(
            self->loop, "Error on transport creation for incoming connection", exc,
            "protocol", protocol, "transport", (PyObject *)stream, NULL);
    }
    Py_DECREF(exc);
    return rc;
}

static PyObject *
accepted_call(PyObject *op, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AcceptedObject *self = (AcceptedObject *)op;
    if (self->fd < 0 || self->loop == NULL) {
        Py_RETURN_NONE;
    }
    StreamObject *stream = NULL;
    PyObject *protocol = PyObject_CallNoArgs(self->factory);
    int rc = protocol == NULL ? -1 : 0;
    if (rc == 0 && self->fd >= 0) {  // the factory may have called this very object
        rc = accepted_open(self, protocol, &stream);
    }
    if (rc < 0) {
        rc = accepted_failed(self, protocol, stream);
    }
    Py_XDECREF(protocol);
    Py_XDECREF((PyObject *)stream);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyType_Slot accepted_slots[] = {
    {Py_tp_doc, "A connection that waits for its turn to be set up."},
    {Py_tp_call, accepted_call},
    {Py_tp_repr, accepted_repr},
    {Py_tp_dealloc, accepted_dealloc},
    {Py_tp_traverse, accepted_traverse},
    {Py_tp_clear, accepted_clear},
    {0, NULL},
};

static PyType_Spec accepted_spec = {
    .name = "asynccore._core.Accepted",
    .basicsize = sizeof(AcceptedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = accepted_slots,
};

/* ---------------------------------------------------------------- accepting -- */

/* What the connections of one listening socket have in common; borrowed. */
typedef struct {
    LoopObject *loop;
    PyObject *factory, *server, *context;
    long proto;
} listener;

/* contextvars.Context.copy() for one connection, where there is a context. */
static int
copy_context(const listener *common, PyObject **copy)
{
    *copy = NULL;
    if (common->context == NULL) {
        return 0;
    }
    *copy = PyContext_Copy(common->context);
    return *copy == NULL ? -1 : 0;
}

/* Leaves a descriptor (consumed) to the next turn. */
static int
schedule_steal(const listener *common, int fd, const struct sockaddr_storage *peer,
               socklen_t peer_len)
{
    PyTypeObject *type = common->loop->state->Accepted;
    AcceptedObject *accepted = (AcceptedObject *)type->tp_alloc(type, 0);
    if (accepted == NULL) {
        close(fd);
        return -1;
    }
    accepted->loop = (LoopObject *)Py_NewRef(common->loop);
    accepted->factory = Py_NewRef(common->factory);
    accepted->server = Py_XNewRef(common->server);
    accepted->fd = fd;
    accepted->proto = common->proto;
    accepted->peer = *peer;
    accepted->peer_len = peer_len;
    int rc = copy_context(common, &accepted->context);
    if (rc == 0) {
        rc = ac_ready_call_soon(common->loop, (PyObject *)accepted, NULL, 0,
                                accepted->context);
    }
    Py_DECREF(accepted);
    return rc;
}

/* Returns 0 when the queue is empty or `limit` connections came, the errno with which
 * accept() failed, or -1 with an exception. */
static int
accept_all(const listener *common, int fd, long limit)
{
    // one more than the kernel's queue holds, so that a limit of 0 works as well
    for (long i = 0; i <= limit; i++) {
        struct sockaddr_storage peer;
        socklen_t peer_len;
        int accepted = ac_fresh_accept(fd, &peer, &peer_len);
        if (accepted == -ECONNABORTED) {  // gone already: the next one
            continue;
        }
        if (accepted == -EAGAIN || accepted == -EWOULDBLOCK || accepted == -EINTR) {
            return 0;
        }
        if (accepted < 0) {
            return -accepted;
        }
        if (schedule_steal(common, accepted, &peer, peer_len) < 0) {
            return -1;
        }
    }
    return 0;
}

PyDoc_STRVAR(
    core_accept_ready_doc,
    "accept_ready(loop, protocol_factory, sock, server, backlog, context=None, /)"
    "\n--\n\n"
    "Accept what waits at a listening socket; each connection is set up in the\n"
    "next turn. Returns 0, or the errno with which accept() failed; None, with nothing\n"
    "done, for what is no plain socket.");

static PyObject *
core_accept_ready(PyObject *module, PyObject *args)
{
    ac_state *state = ac_state_of(module);
    PyObject *loop, *sock;
    PyObject *context = Py_None;
    listener common;
    long backlog;
    if (!PyArg_ParseTuple(args, "O!OOOl|O:accept_ready", state->Loop, &loop,
                          &common.factory, &sock, &common.server, &backlog, &context))
    {
        return NULL;
    }
    if (context != Py_None && !PyContext_CheckExact(context)) {
        PyErr_SetString(PyExc_TypeError, "context must be a Context or None");
        return NULL;
    }
    int plain = ac_plain_is(state, sock);
    if (plain <= 0) {
        return plain < 0 ? NULL : Py_NewRef(Py_None);
    }
    long fd = ac_method_number(sock, state->str_fileno);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    common.proto = ac_method_attribute_number(sock, state->str_proto);
    if (common.proto == -1 && PyErr_Occurred()) {
        return NULL;
    }
    common.loop = (LoopObject *)loop;
    common.server = common.server == Py_None ? NULL : common.server;
    common.context = context == Py_None ? NULL : context;
    int err = accept_all(&common, (int)fd, backlog);
    return err < 0 ? NULL : PyLong_FromLong(err);
}

PyDoc_STRVAR(core_sockets_are_plain_doc,
             "sockets_are_plain($module, /)\n--\n\n"
             "Whether nobody has replaced a method of socket.socket.");

static PyObject *
core_sockets_are_plain(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int plain = ac_plain_class_is(ac_state_of(module));
    return plain < 0 ? NULL : PyBool_FromLong(plain);
}

static PyMethodDef accept_functions[] = {
    {"sockets_are_plain", core_sockets_are_plain, METH_NOARGS,
     core_sockets_are_plain_doc},
    {"accept_ready", core_accept_ready, METH_VARARGS, core_accept_ready_doc},
    {NULL, NULL, 0, NULL},
};

/* Whether the interpreter's code asks for debug mode before it reports. Returns 0, or
 * -1 with an exception. */
static int
look_at_standard(ac_state *state)
{
    PyObject *type = ac_state_import("asyncio", "SelectorEventLoop");
    PyObject *function =
        type == NULL ? NULL : PyObject_GetAttrString(type, "_accept_connection2");
    int asks = function == NULL ? -1 : ac_code_uses(function, "_debug");
    state->accept_reports = asks == 0 && PyFunction_Check(function);
    Py_XDECREF(type);
    Py_XDECREF(function);
    return asks < 0 ? -1 : 0;
}

int
ac_accept_register(PyObject *module, ac_state *state)
{
    state->Accepted = ac_state_add_type(module, &accepted_spec, NULL);
    return state->Accepted == NULL || look_at_standard(state) < 0
               ? -1
               : PyModule_AddFunctions(module, accept_functions);
}
