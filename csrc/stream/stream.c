/* The type StreamTransport: its constructor, its attributes. What others of this folder
 * ask of any stream.
 *
 * An instance that __init__ did not complete counts as CLOSED, so that no method
 * needs to know of it. */
#include "core/python.h"

#include "core/args.h"
#include "core/errors.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "stream/clients.h"
#include "stream/close.h"
#include "stream/events.h"
#include "stream/protocol.h"
#include "stream/queue.h"
#include "stream/read.h"
#include "stream/refused.h"
#include "stream/sock.h"
#include "stream/stream.h"
#include "stream/write.h"

#include <stddef.h>

/* --------------------------------------------------------- calls by the loop -- */

PyObject *
ac_stream_context(StreamObject *self)
{
    return self->flags & AC_STREAM_OWN_CONTEXT ? Py_NewRef(self->read_context)
                                               : PyContext_CopyCurrent();
}

int
ac_stream_call_soon(StreamObject *self, PyObject *callback, PyObject *const *args,
                    Py_ssize_t nargs)
{
    if (self->loop == NULL) {  // closed by the look-up of `callback`, or by a call_soon
        PyErr_SetString(PyExc_AttributeError,
                        "'NoneType' object has no attribute 'call_soon'");
        return -1;
    }
    PyObject *context =
        self->flags & AC_STREAM_OWN_CONTEXT ? Py_NewRef(self->read_context) : NULL;
    int rc = ac_ready_call_soon(self->loop, callback, args, nargs, context);
    Py_XDECREF(context);
    return rc;
}

int
ac_stream_log_debug(StreamObject *self, const char *format)
{
    if (self->loop == NULL || !self->loop->debug) {
        return 0;
    }
    ac_state *state = self->loop->state;
    PyObject *text = PyUnicode_FromString(format);
    PyObject *result = NULL;
    if (text != NULL) {
        result = PyObject_CallMethodObjArgs(state->logger, state->str_debug, text, self,
                                            NULL);
        Py_DECREF(text);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* -------------------------------------------------------------- constructor -- */

/* None counts as not given. */
static PyObject *
optional(PyObject *argument)
{
    return argument == Py_None ? NULL : argument;
}

static int
stream_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop",   "sock",    "protocol", "waiter", "extra",
                            "server", "context", "own",      NULL};
    StreamObject *self = (StreamObject *)op;
    ac_state *state = ac_stream_state(self);
    PyObject *loop, *sock, *protocol;
    PyObject *waiter = NULL, *extra = NULL, *server = NULL, *context = NULL;
    int own = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OOOO$p:StreamTransport", names,
                                     state->Loop, &loop, &sock, &protocol, &waiter,
                                     &extra, &server, &context, &own))
    {
        return -1;
    }
    extra = optional(extra);
    context = optional(context);
    if ((extra != NULL && !PyDict_Check(extra))
        || (context != NULL && !PyContext_CheckExact(context)))
    {
        PyErr_SetString(PyExc_TypeError,
                        "extra must be a dict and context a Context, or None");
        return -1;
    }
    if (self->fd != -1) {
        PyErr_SetString(PyExc_RuntimeError, "the transport is initialised already");
        return -1;
    }
    if (ac_owner_enter_or_raise((LoopObject *)loop) < 0) {
        return -1;
    }
    int rc = ac_sock_adopt(self, state, sock, extra, own);
    if (rc == 0) {
        rc = ac_stream_open(self, (LoopObject *)loop, protocol, optional(waiter),
                            optional(server), context);
    }
    ac_owner_leave((LoopObject *)loop);
    return rc;
}

/* --------------------------------------------------------------- attributes -- */

static PyObject *
stream_repr(PyObject *op)
{
    StreamObject *self = (StreamObject *)op;
    PyObject *name = PyType_GetName(Py_TYPE(op));
    if (name == NULL) {
        return NULL;
    }
    const char *life = self->flags & AC_STREAM_CLOSED    ? " closed"
                       : self->flags & AC_STREAM_CLOSING ? " closing"
                                                         : "";
    PyObject *text = NULL;
    if ((AC_FREE_THREADED && ac_stream_is_elsewhere(self)) || self->loop == NULL
        || AC_LOAD(self->loop->closed))
    {
        text = PyUnicode_FromFormat("<%U%s fd=%d>", name, life, self->fd);
    }
    else if (ac_write_flush(self) == 0) {  // what the standard shows as the size
        unsigned int wanted =
            self->watcher == NULL ? self->watched : self->watcher->wanted;
        text = PyUnicode_FromFormat(
            "<%U%s fd=%d read=%s write=<%s, bufsize=%zu>>", name, life, self->fd,
            wanted & AC_READ ? "polling" : "idle",
            wanted & AC_WRITE ? "polling" : "idle", ac_queue_pending(self));
    }
    Py_DECREF(name);
    return text;
}

/* A flag of the life; `closure` is its bit. */
PyObject *
ac_stream_get_flag(PyObject *self, void *closure)
{
    return PyBool_FromLong(((StreamObject *)self)->flags
                           & (uint32_t)(uintptr_t)closure);
}

PyObject *
ac_stream_get_slot(PyObject *self, void *closure)
{
    PyObject *value =
        ac_slot_get(self, (PyObject **)((char *)self + (Py_ssize_t)closure));
    return value == NULL ? Py_NewRef(Py_None) : value;
}

static PyObject *
stream_get_sock(PyObject *op, void *Py_UNUSED(closure))
{
    StreamObject *self = (StreamObject *)op;
    return ac_stream_check_thread(self) < 0 ? NULL : ac_sock_object(self);
}

static PyObject *
stream_get_extra(PyObject *op, void *Py_UNUSED(closure))
{
    StreamObject *self = (StreamObject *)op;
    return ac_stream_check_thread(self) < 0 ? NULL : ac_sock_extra(self);
}

/* `_extra = dict`: from here on that is all there is. */
static int
stream_set_extra(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    StreamObject *self = (StreamObject *)op;
    if (value == NULL || !PyDict_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "_extra must be a dict");
        return -1;
    }
    if (ac_stream_check_thread(self) < 0) {
        return -1;
    }
    self->flags |=
        AC_STREAM_HAS_SOCKET | AC_STREAM_HAS_SOCKNAME | AC_STREAM_HAS_PEERNAME;
    Py_XSETREF(self->extra, Py_NewRef(value));
    return 0;
}

int
ac_stream_set_protocol_attr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    StreamObject *stream = (StreamObject *)self;
    if (ac_errors_refuse_delete(value) < 0 || ac_stream_check_thread(stream) < 0) {
        return -1;
    }
    // whether it is a BufferedProtocol stays, as on the standard transport
    ac_protocol_replace(stream, value == Py_None ? NULL : value, NULL);
    return 0;
}

PyDoc_STRVAR(stream_get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                                      "The protocol; None after connection_lost().");

static PyObject *
stream_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return ac_stream_get_slot(op, (void *)offsetof(StreamObject, protocol));
}

PyDoc_STRVAR(stream_set_protocol_doc,
             "set_protocol($self, /, protocol)\n--\n\n"
             "Pass what comes from now on to another protocol.");

static PyObject *
stream_set_protocol(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    StreamObject *self = (StreamObject *)op;
    PyObject *protocol = ac_args_single("StreamTransport.set_protocol", "protocol",
                                        args, nargs, kwnames);
    if (protocol == NULL) {
        return NULL;
    }
    // what was written belongs to the old one, its pause_writing() as well
    if (ac_stream_check_thread(self) < 0 || ac_write_flush(self) < 0
        || ac_protocol_set(self, protocol) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

#define FLAG(name, bit)                                                \
    {                                                                  \
        name, ac_stream_get_flag, NULL, NULL, (void *)(uintptr_t)(bit) \
    }

static PyGetSetDef stream_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_extra", stream_get_extra, stream_set_extra, NULL, NULL},
    {"_sock", stream_get_sock, NULL, NULL, NULL},
    AC_STREAM_SLOT("_protocol", protocol, ac_stream_set_protocol_attr),
    AC_STREAM_SLOT("_loop", loop, NULL),
    AC_STREAM_SLOT("_server", server, NULL),
    AC_STREAM_SLOT("_empty_waiter", empty_waiter, NULL),
    FLAG("_eof", AC_STREAM_EOF),
    FLAG("_closing", AC_STREAM_CLOSING),
    FLAG("_paused", AC_STREAM_PAUSED),
    {NULL, NULL, NULL, NULL, NULL},
};
#undef FLAG

static PyMemberDef stream_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(StreamObject, dict), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(StreamObject, weakrefs), Py_READONLY,
     NULL},
    {"_sock_fd", Py_T_INT, offsetof(StreamObject, fd), Py_READONLY, NULL},
    {"_conn_lost", Py_T_UINT, offsetof(StreamObject, conn_lost), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyMethodDef ac_stream_methods[] = {
    {"get_protocol", stream_get_protocol, METH_NOARGS, stream_get_protocol_doc},
    {"set_protocol", AC_CFUNCTION(stream_set_protocol), METH_FASTCALL | METH_KEYWORDS,
     stream_set_protocol_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    stream_doc,
    "StreamTransport(loop, sock, protocol, waiter=None, extra=None, server=None,\n"
    "                context=None, *, own=False)\n--\n\n"
    "A transport over a connected stream socket; the loop makes them.\n\n"
    "Counterpart of asyncio's selector socket transport. With own=True nobody else\n"
    "refers to the socket: its descriptor is taken out of it.");

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc},
    {Py_tp_new, ac_stream_tp_new},
    {Py_tp_init, stream_init},
    {Py_tp_finalize, ac_stream_tp_finalize},
    {Py_tp_dealloc, ac_stream_tp_dealloc},
    {Py_tp_traverse, ac_stream_tp_traverse},
    {Py_tp_clear, ac_stream_tp_clear},
    {Py_tp_repr, stream_repr},
    {Py_tp_methods, ac_stream_methods},
    {Py_tp_members, stream_members},
    {Py_tp_getset, stream_getset},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "asynccore._core.StreamTransport",
    .basicsize = sizeof(StreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = stream_slots,
};

/* ----------------------------------------------------------------- register -- */

static bool
is_named(const char *name, const char *const *names)
{
    for (; names != NULL && *names != NULL; names++) {
        if (strcmp(name, *names) == 0) {
            return true;
        }
    }
    return names == NULL;
}

int
ac_stream_add_methods(PyTypeObject *type, PyMethodDef *methods,
                      const char *const *names)
{
    for (; methods->ml_name != NULL; methods++) {
        if (is_named(methods->ml_name, names) && ac_state_add_method(type, methods) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* Takes the standard transport's write(), for its TypeError. Where that transport has
 * no writelines() of its own (3.11), ours goes: the inherited one joins the pieces and
 * calls write(). */
static int
adapt_methods(PyObject *type, ac_state *state)
{
    PyObject *standard =
        ac_state_import("asyncio.selector_events", "_SelectorSocketTransport");
    PyObject *names = NULL;
    int own = -1;
    if (standard != NULL) {
        state->standard_write = PyObject_GetAttrString(standard, "write");
        names = PyObject_GetAttrString(standard, "__dict__");
    }
    if (names != NULL && state->standard_write != NULL) {
        own = PyMapping_HasKeyString(names, "writelines");
    }
    Py_XDECREF(standard);
    Py_XDECREF(names);
    return own == 0 ? PyObject_DelAttrString(type, "writelines") : own < 0 ? -1 : 0;
}

/* The class attributes that asyncio looks at. */
static int
add_attributes(PyObject *type, ac_state *state)
{
    PyObject *mode = PyObject_GetAttrString(state->constants, "_SendfileMode");
    PyObject *native = mode == NULL ? NULL : PyObject_GetAttrString(mode, "TRY_NATIVE");
    PyObject *size = PyLong_FromLong(AC_READ_BUFFER);
    int rc = -1;
    if (native != NULL && size != NULL
        && PyObject_SetAttrString(type, "_start_tls_compatible", Py_True) == 0
        && PyObject_SetAttrString(type, "_sendfile_compatible", native) == 0
        && PyObject_SetAttrString(type, "max_size", size) == 0)
    {
        rc = 0;
    }
    Py_XDECREF(mode);
    Py_XDECREF(native);
    Py_XDECREF(size);
    return rc;
}

int
ac_stream_register(PyObject *module, ac_state *state)
{
    state->Stream =
        ac_state_add_type(module, &stream_spec, state->asyncio_FlowControlMixin);
    if (state->Stream == NULL) {
        return -1;
    }
    PyMethodDef *tables[] = {ac_read_methods, ac_write_methods, ac_refused_methods,
                             ac_close_methods, ac_sock_methods};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (ac_stream_add_methods(state->Stream, tables[i], NULL) < 0) {
            return -1;
        }
    }
    PyObject *type = (PyObject *)state->Stream;
    return add_attributes(type, state) < 0 || adapt_methods(type, state) < 0
                   || ac_clients_register(state) < 0 || ac_sock_register(state) < 0
               ? -1
               : PyModule_AddFunctions(module, ac_events_functions);
}
