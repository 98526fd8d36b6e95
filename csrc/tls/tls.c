/* The type TLSProtocol: its attributes, its end, the ways into Python. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "tls/decrypt.h"
#include "tls/encrypt.h"
#include "tls/engine.h"
#include "tls/handshake.h"
#include "tls/pieces.h"
#include "tls/setup.h"
#include "tls/shutdown.h"
#include "tls/sslmodule.h"
#include "tls/states.h"
#include "tls/tls.h"
#include "tls/transport.h"

#include <stddef.h>

#define MAX_SIZE (256 * 1024) /* SSLProtocol.max_size */

/* ------------------------------------------------------------------- calling -- */

int
ac_tls_call(TLSObject *self, PyObject *name, PyObject *argument)
{
    PyObject *result = ac_method_call((PyObject *)self, name, argument);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
ac_tls_call_standard(TLSObject *self, PyObject *name, PyObject *argument)
{
    PyObject *result =
        ac_method_call_of(self->state->SSLProtocol, name, (PyObject *)self, argument);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
ac_tls_call_soon(TLSObject *self, PyObject *name)
{
    PyObject *method = PyObject_GetAttr((PyObject *)self, name);
    PyObject *handle =
        method == NULL ? NULL
                       : ac_method_call(self->loop, self->state->str_call_soon, method);
    Py_XDECREF(method);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

int
ac_tls_pass_to_loop(TLSObject *self, PyObject *object, const char *name,
                    PyObject *argument)
{
    PyObject *loop = Py_XNewRef(self->loop);
    int rc = 0;
    if (loop != NULL && PyObject_TypeCheck(loop, self->state->Loop)
        && ac_owner_is_another((LoopObject *)loop))
    {
        // the standard's end comes to call_later(), which debug mode refuses
        bool ends = argument == NULL && ((LoopObject *)loop)->debug;
        rc = ends ? ac_owner_check((LoopObject *)loop) : 0;
        if (rc == 0) {
            PyObject *method = PyObject_GetAttrString(object, name);
            rc = ac_ready_hand_over_steal((LoopObject *)loop, method, argument);
        }
        rc = rc < 0 ? -1 : 1;
    }
    Py_XDECREF(loop);
    return rc;
}

int
ac_tls_fatal_raised(TLSObject *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    PyObject *text = PyUnicode_FromString("Fatal error on SSL protocol");
    int rc = -1;
    if (text != NULL) {
        // as in an except block: sys.exc_info() tells of it
        PyObject *handled = ac_errors_except_begin(exc);
        PyObject *result = ac_method_call_two((PyObject *)self,
                                              self->state->str__fatal_error, exc, text);
        ac_errors_except_end_steal(handled);
        Py_XDECREF(result);
        Py_DECREF(text);
        rc = result == NULL ? -1 : 0;
    }
    Py_DECREF(exc);
    return rc;
}

/* -------------------------------------------------------------------- members -- */

#define OBJECT(name, member)                                        \
    {                                                               \
        name, Py_T_OBJECT_EX, offsetof(TLSObject, member), 0, NULL, \
    }
static PyMemberDef tls_members[] = {
    OBJECT("_app_protocol_get_buffer", app_get_buffer),
    OBJECT("_app_protocol_buffer_updated", app_buffer_updated),
    OBJECT("_app_protocol_is_buffer", app_is_buffer),
    OBJECT("_app_reading_paused", app_reading_paused),
    OBJECT("_app_writing_paused", app_writing_paused),
    OBJECT("_transport", transport),
    OBJECT("_state", protocol_state),
    OBJECT("_write_backlog", write_backlog),
    {"_write_buffer_size", Py_T_PYSSIZET, offsetof(TLSObject, write_buffer_size), 0,
     NULL},
    OBJECT("_incoming", incoming),
    OBJECT("_outgoing", outgoing),
    OBJECT("_incoming_high_water", incoming_high),
    OBJECT("_incoming_low_water", incoming_low),
    OBJECT("_outgoing_high_water", outgoing_high),
    OBJECT("_outgoing_low_water", outgoing_low),
    OBJECT("_ssl_reading_paused", ssl_reading_paused),
    OBJECT("_ssl_writing_paused", ssl_writing_paused),
    OBJECT("_app_state", app_state),
    OBJECT("_app_transport", app_transport),
    OBJECT("_app_transport_created", app_transport_created),
    {"_conn_lost", Py_T_PYSSIZET, offsetof(TLSObject, conn_lost), 0, NULL},
    OBJECT("_eof_received", eof_received),
    OBJECT("_extra", extra),
    OBJECT("_loop", loop),
    OBJECT("_server_hostname", server_hostname),
    OBJECT("_server_side", server_side),
    OBJECT("_ssl_handshake_timeout", ssl_handshake_timeout),
    OBJECT("_ssl_shutdown_timeout", ssl_shutdown_timeout),
    OBJECT("_sslcontext", sslcontext),
    OBJECT("_waiter", waiter),
    OBJECT("_handshake_start_time", handshake_start),
    OBJECT("_handshake_timeout_handle", handshake_timeout),
    OBJECT("_shutdown_timeout_handle", shutdown_timeout),
    // 0 until there is an SSLObject: the constructor makes a buffer of that size
    {"max_size", Py_T_PYSSIZET, offsetof(TLSObject, max_size), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
#undef OBJECT

/* ---------------------------------------------------------------------- life -- */

static PyObject *
tls_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    TLSObject *self = module == NULL ? NULL : (TLSObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = ac_state_of(module);
        self->module = Py_NewRef(module);
        self->handshake_start = Py_NewRef(Py_None);  // class attributes of SSLProtocol
        self->handshake_timeout = Py_NewRef(Py_None);
        self->shutdown_timeout = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

/* The place of the first member behind `def` that is an object; NULL: there is none. */
static PyObject **
next_object(TLSObject *self, const PyMemberDef **def)
{
    while ((*def)->name != NULL) {
        const PyMemberDef *found = (*def)++;
        if (found->type == Py_T_OBJECT_EX) {
            return (PyObject **)((char *)self + found->offset);
        }
    }
    return NULL;
}

static int
tls_traverse(PyObject *op, visitproc visit, void *arg)
{
    TLSObject *self = (TLSObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->module);
    Py_VISIT(self->buffer);
    Py_VISIT(self->socket);
    Py_VISIT(self->app_protocol);
    Py_VISIT(self->sslobj);
    const PyMemberDef *def = tls_members;
    for (PyObject **place; (place = next_object(self, &def)) != NULL;) {
        Py_VISIT(*place);
    }
    return 0;
}

static int
tls_clear(PyObject *op)
{
    TLSObject *self = (TLSObject *)op;
    ac_engine_close(self);
    Py_CLEAR(self->app_protocol);
    Py_CLEAR(self->sslobj);
    const PyMemberDef *def = tls_members;
    for (PyObject **place; (place = next_object(self, &def)) != NULL;) {
        Py_CLEAR(*place);
    }
    return 0;
}

static void
tls_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject *module = ((TLSObject *)op)->module;
    PyObject_GC_UnTrack(op);
    (void)tls_clear(op);
    type->tp_free(op);
    Py_DECREF(module);
    Py_DECREF(type);
}

/* --------------------------------------------------------------- attributes -- */

static PyObject *
tls_get_sslobj(PyObject *op, void *Py_UNUSED(closure))
{
    TLSObject *self = (TLSObject *)op;
    return Py_NewRef(self->sslobj == NULL ? Py_None : self->sslobj);
}

int
ac_tls_set_sslobj(TLSObject *self, PyObject *value)
{
    if (self->flags & AC_TLS_BUSY) {
        PyErr_SetString(PyExc_RuntimeError, "the SSLObject is in use");
        return -1;
    }
    ac_engine_close(self);
    self->flags = 0;
    self->max_size = MAX_SIZE;
    Py_XSETREF(self->sslobj, Py_NewRef(value));
    return value == Py_None ? 0 : ac_engine_open(self);
}

static int
tls_set_sslobj(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    return ac_errors_refuse_delete(value) < 0
               ? -1
               : ac_tls_set_sslobj((TLSObject *)op, value);
}

/* `_ssl_buffer` and the view of it: 256 KiB for each connection, which we do without.
 */
static PyObject *
tls_get_no_buffer(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    return PyBytes_FromStringAndSize(NULL, 0);
}

static int
tls_ignore_attr(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(value),
                void *Py_UNUSED(closure))
{
    return 0;
}

static PyObject *
tls_get_app_protocol(PyObject *op, void *Py_UNUSED(closure))
{
    TLSObject *self = (TLSObject *)op;
    if (self->app_protocol == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_app_protocol");
        return NULL;
    }
    return Py_NewRef(self->app_protocol);
}

int
ac_tls_set_app_protocol(TLSObject *self, PyObject *value)
{
    const ac_sink_ops *sink = NULL;
    if (value != NULL && ac_sink_find(self->state, value, &sink) < 0) {
        return -1;
    }
    self->app_sink = sink;
    Py_XSETREF(self->app_protocol, Py_XNewRef(value));
    return 0;
}

static int
tls_set_app_protocol(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    return ac_tls_set_app_protocol((TLSObject *)op, value);
}

static PyGetSetDef tls_getset[] = {
    {"_app_protocol", tls_get_app_protocol, tls_set_app_protocol, NULL, NULL},
    {"_sslobj", tls_get_sslobj, tls_set_sslobj, NULL, NULL},
    {"_ssl_buffer", tls_get_no_buffer, tls_ignore_attr, NULL, NULL},
    {"_ssl_buffer_view", tls_get_no_buffer, tls_ignore_attr, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(tls__is_direct_doc,
             "_is_direct($self, /)\n--\n\n"
             "Whether records go through libssl without a Python call.");

static PyObject *
tls__is_direct(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((TLSObject *)op)->flags & AC_TLS_DIRECT);
}

static PyMethodDef tls_methods[] = {
    {"_is_direct", tls__is_direct, METH_NOARGS, tls__is_direct_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    tls_doc,
    "TLSProtocol(loop, app_protocol, sslcontext, waiter, server_side=False,\n"
    "            server_hostname=None, call_connection_made=True,\n"
    "            ssl_handshake_timeout=None, ssl_shutdown_timeout=None)\n--\n\n"
    "SSLProtocol as far as all goes well: its records, constructor, handshake\n"
    "and shutdown.");

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, (void *)tls_doc},   {Py_tp_new, tls_new},
    {Py_tp_init, ac_setup_init},    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_traverse, tls_traverse}, {Py_tp_clear, tls_clear},
    {Py_tp_methods, tls_methods},   {Py_tp_members, tls_members},
    {Py_tp_getset, tls_getset},     {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "asynccore._core.TLSProtocol",
    .basicsize = sizeof(TLSObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = tls_slots,
};

/* ----------------------------------------------------------------- functions -- */

PyDoc_STRVAR(core_tls_use_doc,
             "tls_use(direct, /)\n--\n\n"
             "Say whether new connections may call libssl for their records.\n\n"
             "None, or the reason why they can not.");

static PyObject *
core_tls_use(PyObject *module, PyObject *argument)
{
    ac_state *state = ac_state_of(module);
    int direct = PyObject_IsTrue(argument);
    if (direct < 0) {
        return NULL;
    }
    state->tls_chosen = direct;
    return Py_XNewRef(ac_libssl_decide_borrowed(state));
}

PyDoc_STRVAR(
    core_tls_versions_doc,
    "tls_versions()\n--\n\n"
    "A number that changes with the attributes of the standard's two classes,\n"
    "0 if it is not known.");

static PyObject *
core_tls_versions(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    ac_state *state = ac_state_of(module);
    unsigned int protocol = ac_type_version((PyTypeObject *)state->SSLProtocol);
    unsigned int transport = ac_type_version((PyTypeObject *)state->SSLTransport);
    if (protocol == 0 || transport == 0) {
        return PyLong_FromLong(0);
    }
    return PyLong_FromUnsignedLongLong((unsigned long long)protocol << 32 | transport);
}

static PyMethodDef tls_functions[] = {
    {"tls_versions", core_tls_versions, METH_NOARGS, core_tls_versions_doc},
    {"tls_use", core_tls_use, METH_O, core_tls_use_doc},
    {NULL, NULL, 0, NULL},
};

/* ------------------------------------------------------------------ register -- */

/* What is missing in an interpreter without the ssl module. */
static void
import_ssl(ac_state *state, PyObject *sslproto)
{
    PyObject *ssl = PyObject_GetAttrString(sslproto, "ssl");
    state->SSLAgainErrors = PyObject_GetAttrString(sslproto, "SSLAgainErrors");
    if (ssl != NULL && state->SSLAgainErrors != NULL) {
        state->SSLError = PyObject_GetAttrString(ssl, "SSLError");
        state->MemoryBIO = PyObject_GetAttrString(ssl, "MemoryBIO");
    }
    Py_XDECREF(ssl);
    PyErr_Clear();
}

/* What the standard's module has. Returns 0, or -1 with an exception. */
static int
import_standard(ac_state *state)
{
    PyObject *module = PyImport_ImportModule("asyncio.sslproto");
    PyObject *states = NULL, *app_states = NULL;
    int rc = -1;
    state->sslproto = module;
    if (module != NULL) {
        state->SSLProtocol = PyObject_GetAttrString(module, "SSLProtocol");
        state->SSLTransport = PyObject_GetAttrString(module, "_SSLProtocolTransport");
        states = PyObject_GetAttrString(module, "SSLProtocolState");
        app_states = PyObject_GetAttrString(module, "AppProtocolState");
    }
    if (states != NULL) {
        state->tls_handshake = PyObject_GetAttrString(states, "DO_HANDSHAKE");
        state->tls_wrapped = PyObject_GetAttrString(states, "WRAPPED");
        state->tls_flushing = PyObject_GetAttrString(states, "FLUSHING");
        state->tls_shutdown = PyObject_GetAttrString(states, "SHUTDOWN");
        state->tls_unwrapped = PyObject_GetAttrString(states, "UNWRAPPED");
    }
    if (app_states != NULL) {
        state->tls_app_init = PyObject_GetAttrString(app_states, "STATE_INIT");
        state->tls_app_made = PyObject_GetAttrString(app_states, "STATE_CON_MADE");
        state->tls_app_eof = PyObject_GetAttrString(app_states, "STATE_EOF");
        state->tls_app_lost = PyObject_GetAttrString(app_states, "STATE_CON_LOST");
    }
    state->names_wrap_bio = Py_BuildValue("(ss)", "server_side", "server_hostname");
    state->names_wrap_served =
        Py_BuildValue("(ssss)", "server_side", "server_hostname", "owner", "session");
    if (!PyErr_Occurred()) {
        rc = 0;
        import_ssl(state, module);
    }
    Py_XDECREF(states);
    Py_XDECREF(app_states);
    return rc;
}

int
ac_tls_register(PyObject *module, ac_state *state)
{
    if (import_standard(state) < 0) {
        return -1;
    }
    state->TLSProtocol = ac_state_add_type(module, &tls_spec, NULL);
    if (state->TLSProtocol == NULL
        || ac_state_add_methods(state->TLSProtocol, ac_decrypt_methods) < 0
        || ac_state_add_methods(state->TLSProtocol, ac_encrypt_methods) < 0
        || ac_state_add_methods(state->TLSProtocol, ac_states_methods) < 0
        || ac_state_add_methods(state->TLSProtocol, ac_handshake_methods) < 0
        || ac_state_add_methods(state->TLSProtocol, ac_shutdown_methods) < 0
        || ac_transport_register(module, state) < 0)
    {
        return -1;
    }
    ac_sink_add(state, &ac_decrypt_sink);
    return PyModule_AddFunctions(module, tls_functions);
}

void
ac_tls_free(ac_state *state)
{
    ac_libssl_free(state->libssl);
    state->libssl = NULL;
    ac_pieces_clear(state);
}
