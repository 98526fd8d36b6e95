/* The constructor of SSLProtocol: what it sets, without a frame of Python for each.
 *
 * What is not the usual (no ssl module, no context, time-outs that are wrong, arguments
 * that are missing) goes to the standard's own constructor, which knows the errors. */
#include "core/python.h"

#include "core/method.h"
#include "tls/setup.h"
#include "tls/sslmodule.h"
#include "tls/states.h"

#include <limits.h>

typedef struct {
    PyObject *loop, *app_protocol, *sslcontext, *waiter;
    PyObject *server_side, *server_hostname, *call_connection_made;
    PyObject *handshake_timeout, *shutdown_timeout;
} arguments;

/* SSLProtocol.__init__(self, *args, **kwargs) of the interpreter. */
static int
standard_init(TLSObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *method = PyObject_GetAttr((PyObject *)self->state->SSLProtocol,
                                        self->state->str___init__);
    PyObject *bound = method == NULL ? NULL : PyMethod_New(method, (PyObject *)self);
    PyObject *result = bound == NULL ? NULL : PyObject_Call(bound, args, kwargs);
    Py_XDECREF(method);
    Py_XDECREF(bound);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether a time-out is None or a positive number that needs no second look. */
static bool
is_usual_timeout(PyObject *seconds)
{
    if (PyFloat_CheckExact(seconds)) {
        return PyFloat_AS_DOUBLE(seconds) > 0;
    }
    int overflow = 1;
    return seconds == Py_None
           || (PyLong_CheckExact(seconds)
               && PyLong_AsLongAndOverflow(seconds, &overflow) > 0 && overflow == 0);
}

/* Returns 1 with borrowed references, 0 if the standard is to look at them. */
static int
parse(PyObject *args, PyObject *kwargs, arguments *a)
{
    static char *names[] = {
        "loop",
        "app_protocol",
        "sslcontext",
        "waiter",
        "server_side",
        "server_hostname",
        "call_connection_made",
        "ssl_handshake_timeout",
        "ssl_shutdown_timeout",
        NULL,
    };
    a->server_side = Py_False;
    a->server_hostname = Py_None;
    a->call_connection_made = Py_True;
    a->handshake_timeout = a->shutdown_timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOOO|OOOOO", names, &a->loop, &a->app_protocol,
            &a->sslcontext, &a->waiter, &a->server_side, &a->server_hostname,
            &a->call_connection_made, &a->handshake_timeout, &a->shutdown_timeout))
    {
        PyErr_Clear();
        return 0;
    }
    return PyBool_Check(a->server_side) && PyBool_Check(a->call_connection_made)
           && (a->server_hostname == Py_None
               || PyUnicode_CheckExact(a->server_hostname))
           && is_usual_timeout(a->handshake_timeout)
           && is_usual_timeout(a->shutdown_timeout);
}

/* ------------------------------------------------------------------ attributes -- */

/* Sets a member to a new reference, which is taken; NULL is an exception: -1. */
static inline int
set_steal(PyObject **member, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    Py_XSETREF(*member, value);
    return 0;
}

/* The seconds that were given, or those of asyncio.constants. */
static int
set_timeout(TLSObject *self, PyObject **member, PyObject *given, PyObject *name)
{
    return set_steal(member, given == Py_None
                                 ? PyObject_GetAttr(self->state->constants, name)
                                 : Py_NewRef(given));
}

/* self.<method>(), which sets the limits to those of asyncio.constants. Its frames are
 * needed for what is no plain number of kilobytes. */
static int
set_limits(TLSObject *self, PyObject **high, PyObject **low, PyObject *name,
           PyObject *method)
{
    PyObject *number = PyObject_GetAttr(self->state->constants, name);
    if (number == NULL) {
        return -1;
    }
    int overflow = 1;
    long kb =
        PyLong_CheckExact(number) ? PyLong_AsLongAndOverflow(number, &overflow) : 0;
    Py_DECREF(number);
    if (overflow || kb < 0 || kb > INT_MAX) {
        return ac_tls_call(self, method, NULL);
    }
    return set_steal(high, PyLong_FromLongLong(kb * 1024LL)) < 0
                   || set_steal(low, PyLong_FromLongLong(kb * 1024LL / 4)) < 0
               ? -1
               : 0;
}

/* `_set_app_protocol(app_protocol)`, whose frame only a BufferedProtocol needs. */
static int
set_app_protocol(TLSObject *self, PyObject *app_protocol)
{
    ac_state *state = self->state;
    int rc = PyObject_IsInstance(app_protocol, state->asyncio_BufferedProtocol);
    if (rc < 0) {
        return -1;
    }
    if (rc) {
        return ac_tls_call(self, state->str__set_app_protocol, app_protocol);
    }
    ac_states_member(&self->app_is_buffer, Py_False);
    return ac_tls_set_app_protocol(self, app_protocol);
}

/* sslcontext.wrap_bio() without its frames, for who serves. New reference. */
static PyObject *
wrap_served(TLSObject *self)
{
    ac_state *state = self->state;
    PyTypeObject *type = state->SSLObject;
    PyObject *sslobj = type->tp_alloc(type, 0);
    if (sslobj == NULL) {
        return NULL;
    }
    PyObject *stack[] = {
        self->sslcontext, self->incoming, self->outgoing, self->server_side,
        Py_None,          sslobj,         Py_None,
    };
    PyObject *socket = PyObject_VectorcallMethod(state->str__wrap_bio, stack, 3,
                                                 state->names_wrap_served);
    if (socket == NULL || PyObject_SetAttr(sslobj, state->str__sslobj, socket) < 0) {
        Py_CLEAR(sslobj);
    }
    Py_XDECREF(socket);
    return sslobj;
}

/* Whether there are no names: none to encode, and none that is asked for. -1 with an
 * exception. */
static int
is_nameless(TLSObject *self)
{
    if (self->server_side != Py_True
        || !ac_sslmodule_is_context(self->state, self->sslcontext))
    {
        return 0;
    }
    PyObject *checks =
        PyObject_GetAttr(self->sslcontext, self->state->str_check_hostname);
    int rc = checks == NULL ? -1 : checks == Py_False;
    Py_XDECREF(checks);
    return rc;
}

/* sslcontext.wrap_bio(). New reference. */
static PyObject *
wrap(TLSObject *self)
{
    ac_state *state = self->state;
    int nameless = is_nameless(self);
    if (nameless != 0) {
        return nameless < 0 ? NULL : wrap_served(self);
    }
    PyObject *stack[] = {
        self->sslcontext,  self->incoming,        self->outgoing,
        self->server_side, self->server_hostname,
    };
    return PyObject_VectorcallMethod(state->str_wrap_bio, stack, 3,
                                     state->names_wrap_bio);
}

/* The two MemoryBIO, and the SSLObject on them. */
static int
make_sslobj(TLSObject *self)
{
    ac_state *state = self->state;
    if (set_steal(&self->incoming, PyObject_CallNoArgs(state->MemoryBIO)) < 0
        || set_steal(&self->outgoing, PyObject_CallNoArgs(state->MemoryBIO)) < 0)
    {
        return -1;
    }
    PyObject *sslobj = wrap(self);
    int rc = sslobj == NULL ? -1 : ac_tls_set_sslobj(self, sslobj);
    Py_XDECREF(sslobj);
    return rc;
}

/* What the constructor sets, in its order. */
static int
fill(TLSObject *self, const arguments *a)
{
    ac_state *state = self->state;
    bool named = a->server_side == Py_False && PyObject_IsTrue(a->server_hostname) == 1;
    ac_states_member(&self->server_side, a->server_side);
    ac_states_member(&self->server_hostname, named ? a->server_hostname : Py_None);
    ac_states_member(&self->sslcontext, a->sslcontext);
    ac_states_member(&self->waiter, a->waiter);
    ac_states_member(&self->loop, a->loop);
    ac_states_member(&self->app_transport, Py_None);
    ac_states_member(&self->app_transport_created, Py_False);
    ac_states_member(&self->transport, Py_None);
    ac_states_member(&self->protocol_state, state->tls_unwrapped);
    ac_states_member(&self->app_state, a->call_connection_made == Py_True
                                           ? state->tls_app_init
                                           : state->tls_app_made);
    ac_states_member(&self->ssl_writing_paused, Py_False);
    ac_states_member(&self->ssl_reading_paused, Py_False);
    ac_states_member(&self->app_reading_paused, Py_False);
    ac_states_member(&self->app_writing_paused, Py_False);
    ac_states_member(&self->eof_received, Py_False);
    self->write_buffer_size = 0;
    self->conn_lost = 0;
    if (set_steal(&self->extra, PyDict_New()) < 0
        || PyDict_SetItem(self->extra, state->str_sslcontext, a->sslcontext) < 0
        || set_steal(&self->write_backlog, PyObject_CallNoArgs(state->deque_type)) < 0
        || set_app_protocol(self, a->app_protocol) < 0
        || set_timeout(self, &self->ssl_handshake_timeout, a->handshake_timeout,
                       state->str_SSL_HANDSHAKE_TIMEOUT)
               < 0
        || set_timeout(self, &self->ssl_shutdown_timeout, a->shutdown_timeout,
                       state->str_SSL_SHUTDOWN_TIMEOUT)
               < 0
        || make_sslobj(self) < 0
        || set_limits(self, &self->incoming_high, &self->incoming_low,
                      state->str_FLOW_CONTROL_HIGH_WATER_SSL_READ,
                      state->str__set_read_buffer_limits)
               < 0
        || set_limits(self, &self->outgoing_high, &self->outgoing_low,
                      state->str_FLOW_CONTROL_HIGH_WATER_SSL_WRITE,
                      state->str__set_write_buffer_limits)
               < 0)
    {
        return -1;
    }
    return ac_tls_call(self, state->str__get_app_transport, NULL);
}

/* Whether asyncio.sslproto.ssl.MemoryBIO is what it was at import. */
static bool
is_usual_module(ac_state *state)
{
    PyObject *ssl = PyObject_GetAttr(state->sslproto, state->str_ssl);
    PyObject *type = ssl == NULL ? NULL : PyObject_GetAttr(ssl, state->str_MemoryBIO);
    bool usual = type != NULL && type == state->MemoryBIO;
    Py_XDECREF(ssl);
    Py_XDECREF(type);
    if (type == NULL) {
        PyErr_Clear();
    }
    return usual;
}

int
ac_setup_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    TLSObject *self = (TLSObject *)op;
    arguments a;
    if (!is_usual_module(self->state) || !parse(args, kwargs, &a)) {
        return standard_init(self, args, kwargs);
    }
    int any = PyObject_IsTrue(a.sslcontext);
    if (any <= 0) {
        return any < 0 ? -1 : standard_init(self, args, kwargs);
    }
    return fill(self, &a);
}
