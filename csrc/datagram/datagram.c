/* The type DatagramTransport: its attributes, its end.
 *
 * The attributes are data descriptors, so they win over an instance's dictionary and
 * the constructor of the standard class fills the struct. */
#include "core/python.h"

#include "core/errors.h"
#include "datagram/datagram.h"
#include "datagram/elsewhere.h"
#include "datagram/reading.h"
#include "datagram/sending.h"

#include <stddef.h>
#include <sys/socket.h>

int
ac_datagram_fd(DatagramObject *self)
{
    PyObject *method = self->state->socket_fileno;  // of the C base class
    if (self->sock == NULL || !PyObject_TypeCheck(self->sock, PyDescr_TYPE(method))) {
        return -1;
    }
    PyObject *number = PyObject_CallOneArg(method, self->sock);
    if (number == NULL) {
        PyErr_Clear();  // out of memory
        return -1;
    }
    int fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return fd;
}

bool
ac_datagram_queue_is_empty(DatagramObject *self)
{
    return self->queue != NULL
           && Py_IS_TYPE(self->queue, (PyTypeObject *)self->state->deque_type)
           && Py_SIZE(self->queue) == 0;
}

/* --------------------------------------------------------------------- life -- */

static PyObject *
datagram_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    if (module == NULL) {
        return NULL;
    }
    DatagramObject *self = (DatagramObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = ac_state_of(module);
        self->family = AF_UNSPEC;
    }
    return (PyObject *)self;
}

static int
datagram_traverse(PyObject *op, visitproc visit, void *arg)
{
    DatagramObject *self = (DatagramObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->dict);
    Py_VISIT(self->protocol);
    Py_VISIT(self->sock);
    Py_VISIT(self->queue);
    Py_VISIT(self->address);
    Py_VISIT(self->closing);
    Py_VISIT(self->paused);
    return ac_mixin_traverse(op, visit, arg);
}

static int
datagram_clear(PyObject *op)
{
    DatagramObject *self = (DatagramObject *)op;
    ac_mixin_clear(op);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->queue);
    Py_CLEAR(self->address);
    Py_CLEAR(self->closing);
    Py_CLEAR(self->paused);
    return 0;
}

static void
datagram_dealloc(PyObject *op)
{
    DatagramObject *self = (DatagramObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (AC_LOAD(self->weakrefs) != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)datagram_clear(op);
    ac_address_free(self->addresses);
    type->tp_free(op);
    Py_DECREF(type);
}

/* --------------------------------------------------------------- attributes -- */

/* An object attribute; `closure` is the offset of the member. */
static PyObject *
datagram_get_object(PyObject *self, void *closure)
{
    AC_LOCK_OBJECT(self);
    PyObject *value = *(PyObject **)((char *)self + (Py_ssize_t)closure);
    value = Py_NewRef(value == NULL ? Py_None : value);
    AC_UNLOCK_OBJECT(self);
    return value;
}

static int
datagram_set_object(PyObject *op, PyObject *value, void *closure)
{
    DatagramObject *self = (DatagramObject *)op;
    if (ac_errors_refuse_delete(value) < 0 || ac_elsewhere_check(self) < 0) {
        return -1;
    }
    PyObject **member = (PyObject **)((char *)self + (Py_ssize_t)closure);
    if (member == &self->sock) {  // what is kept was made for the old one
        self->family = AF_UNSPEC;
        ac_address_free(self->addresses);
        self->addresses = NULL;
    }
    AC_LOCK_OBJECT(self);
    PyObject *former = *member;
    *member = Py_NewRef(value);
    AC_UNLOCK_OBJECT(self);
    Py_XDECREF(former);
    return 0;
}

#define OBJECT(name, member)                                  \
    {                                                         \
        name, datagram_get_object, datagram_set_object, NULL, \
            (void *)offsetof(DatagramObject, member)          \
    }

static PyGetSetDef datagram_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    OBJECT("_address", address),
    OBJECT("_buffer", queue),
    OBJECT("_closing", closing),
    OBJECT("_paused", paused),
    OBJECT("_protocol", protocol),
    OBJECT("_sock", sock),
    {NULL, NULL, NULL, NULL, NULL},
};
#undef OBJECT

static PyMemberDef datagram_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(DatagramObject, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(DatagramObject, weakrefs),
     Py_READONLY, NULL},
    {"_conn_lost", Py_T_INT, offsetof(DatagramObject, conn_lost), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(datagram_doc,
             "DatagramTransport()\n--\n\n"
             "What asynccore's datagram transport does per datagram; the rest comes\n"
             "from the standard class, which it is a base of too.");

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, (void *)datagram_doc}, {Py_tp_new, datagram_new},
    {Py_tp_dealloc, datagram_dealloc}, {Py_tp_traverse, datagram_traverse},
    {Py_tp_clear, datagram_clear},     {Py_tp_members, datagram_members},
    {Py_tp_getset, datagram_getset},   {0, NULL},
};

static PyType_Spec datagram_spec = {
    .name = "asynccore._core.DatagramTransport",
    .basicsize = sizeof(DatagramObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = datagram_slots,
};

/* ----------------------------------------------------------------- register -- */

/* What is taken from the standard class. */
static int
import_standard(ac_state *state)
{
    PyObject *standard =
        ac_state_import("asyncio.selector_events", "_SelectorDatagramTransport");
    if (standard == NULL) {
        return -1;
    }
    state->datagram_read_ready = PyObject_GetAttrString(standard, "_read_ready");
    state->datagram_sendto = PyObject_GetAttrString(standard, "sendto");
    state->datagram_max_size = PyObject_GetAttr(standard, state->str_max_size);
    Py_DECREF(standard);
    state->deque_type = ac_state_import("collections", "deque");
    return state->datagram_read_ready == NULL || state->datagram_sendto == NULL
                   || state->datagram_max_size == NULL || state->deque_type == NULL
               ? -1
               : 0;
}

int
ac_datagram_register(PyObject *module, ac_state *state)
{
    if (import_standard(state) < 0) {
        return -1;
    }
    state->Datagram =
        ac_state_add_type(module, &datagram_spec, state->asyncio_FlowControlMixin);
    if (state->Datagram == NULL) {
        return -1;
    }
    if (ac_state_add_methods(state->Datagram, ac_reading_methods) < 0) {
        return -1;
    }
#if AC_FREE_THREADED
    if (ac_state_add_methods(state->Datagram, ac_elsewhere_methods) < 0) {
        return -1;
    }
#endif
    return ac_state_add_methods(state->Datagram, ac_sending_methods);
}
