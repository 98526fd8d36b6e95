/* The type TLSTransport. The class of the transports, which is
 * asynccore._tls._SSLProtocolTransport, derives from it and from the interpreter's own
 * _SSLProtocolTransport. */
#include "core/python.h"

#include "core/args.h"
#include "core/method.h"
#include "core/mixin.h"
#include "stream/stream.h"
#include "tls/encrypt.h"
#include "tls/transport.h"

#include <stddef.h>

typedef struct {
    AC_MIXIN_SLOTS(loop)

    PyObject *ssl_protocol; /* None after the second close() */
    PyObject *closed;       /* bool */
    ac_state *state;        /* borrowed from the module, which the type keeps alive */
} TransportObject;

/* The TLS object, or NULL if the standard's method is to say what is wrong. Borrowed,
 * kept by the transport. */
static TLSObject *
protocol_borrowed(const TransportObject *self)
{
    PyObject *protocol = self->ssl_protocol;
    return protocol != NULL && PyObject_TypeCheck(protocol, self->state->TLSProtocol)
               ? (TLSObject *)protocol
               : NULL;
}

/* _SSLProtocolTransport.<name>(self, argument) of the interpreter. */
static PyObject *
call_standard(TransportObject *self, PyObject *name, PyObject *argument)
{
    return ac_method_call_of(self->state->SSLTransport, name, (PyObject *)self,
                             argument);
}

/* ------------------------------------------------------------------- methods -- */

PyDoc_STRVAR(transport_write_doc, "write($self, /, data)\n--\n\n"
                                  "Send bytes, bytearray or memoryview; never blocks.");

static PyObject *
transport_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    TransportObject *self = (TransportObject *)op;
    PyObject *data =
        ac_args_single("_SSLProtocolTransport.write", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    TLSObject *tls = protocol_borrowed(self);
    if (AC_FREE_THREADED && tls != NULL && ac_args_is_data(data)) {
        PyObject *bytes = PyBytes_FromObject(data);  // itself, if it is
        int handed = bytes == NULL ? -1 : ac_tls_hand_over(tls, op, "write", bytes);
        Py_XDECREF(bytes);
        if (handed != 0) {
            return handed < 0 ? NULL : Py_NewRef(Py_None);
        }
    }
    if (tls == NULL || !ac_args_is_data(data)) {
        return call_standard(self, self->state->str_write, data);
    }
    Py_INCREF(tls);
    int any =
        PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data) > 0 : PyObject_IsTrue(data);
    if (any > 0) {
        any = ac_encrypt_one(tls, data);
    }
    Py_DECREF(tls);
    if (any < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(transport_writelines_doc, "writelines($self, /, list_of_data)\n--\n\n"
                                       "Send several pieces, as one write.");

static PyObject *
transport_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    TransportObject *self = (TransportObject *)op;
    PyObject *lines = ac_args_single("_SSLProtocolTransport.writelines", "list_of_data",
                                     args, nargs, kwnames);
    if (lines == NULL) {
        return NULL;
    }
    TLSObject *tls = protocol_borrowed(self);
    if (tls == NULL) {
        return call_standard(self, self->state->str_writelines, lines);
    }
    int handed = ac_tls_hand_over(tls, op, "writelines", lines);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    Py_INCREF(tls);
    int rc = ac_encrypt_lines(tls, lines);
    Py_DECREF(tls);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(transport_is_closing_doc, "is_closing($self, /)\n--\n\n"
                                       "True if the transport is closing or closed.");

static PyObject *
transport_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TransportObject *self = (TransportObject *)op;
    TLSObject *tls = protocol_borrowed(self);
    // from 3.14 on the transport below is asked as well; ours is asked without a call
    if (self->closed == Py_False && tls != NULL && tls->transport != NULL
        && Py_IS_TYPE(tls->transport, self->state->Stream)
        && !(((StreamObject *)tls->transport)->flags & AC_STREAM_CLOSING))
    {
        Py_RETURN_FALSE;
    }
    return call_standard(self, self->state->str_is_closing, NULL);
}

static PyMethodDef transport_methods[] = {
    {"write", AC_CFUNCTION(transport_write), METH_FASTCALL | METH_KEYWORDS,
     transport_write_doc},
    {"writelines", AC_CFUNCTION(transport_writelines), METH_FASTCALL | METH_KEYWORDS,
     transport_writelines_doc},
    {"is_closing", transport_is_closing, METH_NOARGS, transport_is_closing_doc},
    {NULL, NULL, 0, NULL},
};

/* ---------------------------------------------------------------------- life -- */

static PyObject *
transport_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
              PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    TransportObject *self =
        module == NULL ? NULL : (TransportObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = ac_state_of(module);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(transport_doc, "TLSTransport(loop, ssl_protocol)\n--\n\n"
                            "The part of a TLS transport that writes.");

static int
transport_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", "ssl_protocol", NULL};
    TransportObject *self = (TransportObject *)op;
    PyObject *loop, *ssl_protocol;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:_SSLProtocolTransport", names,
                                     &loop, &ssl_protocol))
    {
        return -1;
    }
    Py_XSETREF(self->loop, Py_NewRef(loop));
    Py_XSETREF(self->ssl_protocol, Py_NewRef(ssl_protocol));
    Py_XSETREF(self->closed, Py_NewRef(Py_False));
    return 0;
}

/* __del__: the standard's warns of a transport that is not closed. */
static void
transport_finalize(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    if (self->closed == Py_True) {
        return;
    }
    PyObject *exc = ac_err_take();
    PyObject *result = call_standard(self, self->state->str___del__, NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable(op);
    }
    Py_XDECREF(result);
    ac_err_restore_steal(exc);
}

static int
transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    TransportObject *self = (TransportObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->ssl_protocol);
    Py_VISIT(self->closed);
    return ac_mixin_traverse(op, visit, arg);
}

static int
transport_clear(PyObject *op)
{
    TransportObject *self = (TransportObject *)op;
    ac_mixin_clear(op);
    Py_CLEAR(self->ssl_protocol);
    Py_CLEAR(self->closed);
    return 0;
}

static void
transport_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)transport_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef transport_members[] = {
    {"_ssl_protocol", Py_T_OBJECT_EX, offsetof(TransportObject, ssl_protocol), 0, NULL},
    {"_closed", Py_T_OBJECT_EX, offsetof(TransportObject, closed), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, (void *)transport_doc}, {Py_tp_new, transport_new},
    {Py_tp_init, transport_init},       {Py_tp_finalize, transport_finalize},
    {Py_tp_dealloc, transport_dealloc}, {Py_tp_traverse, transport_traverse},
    {Py_tp_clear, transport_clear},     {Py_tp_methods, transport_methods},
    {Py_tp_members, transport_members}, {0, NULL},
};

static PyType_Spec transport_spec = {
    .name = "asynccore._core.TLSTransport",
    .basicsize = sizeof(TransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = transport_slots,
};

int
ac_transport_register(PyObject *module, ac_state *state)
{
    state->TLSTransport =
        ac_state_add_type(module, &transport_spec, state->asyncio_FlowControlMixin);
    return state->TLSTransport == NULL ? -1 : 0;
}
