/* The class StreamWriter. Each method does what the standard's does with its
 * `_transport`; what is not here (start_tls, __repr__, __del__) is inherited. */
#include "core/python.h"

#include "core/method.h"
#include "reader/drain.h"
#include "reader/writer.h"
#include "stream/stream.h"
#include "stream/write.h"

#include <stddef.h>

/* ---------------------------------------------------------------------- helpers -- */

static PyObject *
call_standard(ac_state *state, PyObject *op, PyObject *name, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    return ac_stock_call(state->Writer, op, name, args, nargs, kwnames);
}

/* self._transport; NULL with AttributeError. */
static PyObject *
transport_borrowed(PyObject *op)
{
    PyObject *transport = ((WriterObject *)op)->transport;
    if (transport == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_transport");
    }
    return transport;
}

/* self._transport.<name>(argument), without argument if that is NULL. */
static PyObject *
call_transport(PyObject *op, PyObject *name, PyObject *argument)
{
    PyObject *transport = transport_borrowed(op);
    return transport == NULL ? NULL : ac_method_call(transport, name, argument);
}

/* The same for a method that returns None, whatever the transport's does. */
static PyObject *
give_transport(PyObject *op, PyObject *name, PyObject *data)
{
    PyObject *result = call_transport(op, name, data);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

/* A method without arguments: the transport's, of the same name. */
static PyObject *
forward(PyObject *op, PyObject *name)
{
    ac_state *state = ac_state_of_object(op);
    return ac_stock_is_unchanged(state) ? call_transport(op, name, NULL)
                                        : call_standard(state, op, name, NULL, 0, NULL);
}

/* --------------------------------------------------------------------- methods -- */

PyDoc_STRVAR(writer_write_doc, "write($self, /, data)\n--\n\n"
                               "Give bytes to the transport, which sends them.");

static PyObject *
writer_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ac_state *state = ac_state_of_object(op);
    if (nargs != 1 || kwnames != NULL || !ac_stock_is_unchanged(state)) {
        return call_standard(state, op, state->str_write, args, nargs, kwnames);
    }
    PyObject *transport = ((WriterObject *)op)->transport;
    if (transport != NULL && Py_IS_TYPE(transport, state->Stream)
        && ac_stream_is_plain((StreamObject *)transport, state))
    {
        Py_INCREF(transport);
        PyObject *result = ac_write_method((StreamObject *)transport, args[0]);
        Py_DECREF(transport);
        return result;
    }
    return give_transport(op, state->str_write, args[0]);
}

PyDoc_STRVAR(writer_writelines_doc, "writelines($self, /, data)\n--\n\n"
                                    "Give several pieces to the transport.");

static PyObject *
writer_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    ac_state *state = ac_state_of_object(op);
    if (nargs != 1 || kwnames != NULL || !ac_stock_is_unchanged(state)) {
        return call_standard(state, op, state->str_writelines, args, nargs, kwnames);
    }
    return give_transport(op, state->str_writelines, args[0]);
}

PyDoc_STRVAR(writer_write_eof_doc, "write_eof($self, /)\n--\n\n"
                                   "Close the writing end.");

static PyObject *
writer_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return forward(op, ac_state_of_object(op)->str_write_eof);
}

PyDoc_STRVAR(writer_can_write_eof_doc,
             "can_write_eof($self, /)\n--\n\n"
             "Whether the transport can close its writing end.");

static PyObject *
writer_can_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return forward(op, ac_state_of_object(op)->str_can_write_eof);
}

PyDoc_STRVAR(writer_close_doc, "close($self, /)\n--\n\n"
                               "Close the transport.");

static PyObject *
writer_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return forward(op, ac_state_of_object(op)->str_close);
}

PyDoc_STRVAR(writer_is_closing_doc, "is_closing($self, /)\n--\n\n"
                                    "Whether the transport is closing or closed.");

static PyObject *
writer_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return forward(op, ac_state_of_object(op)->str_is_closing);
}

PyDoc_STRVAR(writer_get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "What the transport knows.");

static PyObject *
writer_get_extra_info(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    ac_state *state = ac_state_of_object(op);
    if (nargs < 1 || nargs > 2 || kwnames != NULL || !ac_stock_is_unchanged(state)) {
        return call_standard(state, op, state->str_get_extra_info, args, nargs,
                             kwnames);
    }
    PyObject *transport = transport_borrowed(op);
    if (transport == NULL) {
        return NULL;
    }
    return ac_method_call_two(transport, state->str_get_extra_info, args[0],
                              nargs == 2 ? args[1] : Py_None);
}

static PyMethodDef writer_methods[] = {
    {"write", AC_CFUNCTION(writer_write), METH_FASTCALL | METH_KEYWORDS,
     writer_write_doc},
    {"writelines", AC_CFUNCTION(writer_writelines), METH_FASTCALL | METH_KEYWORDS,
     writer_writelines_doc},
    {"write_eof", writer_write_eof, METH_NOARGS, writer_write_eof_doc},
    {"can_write_eof", writer_can_write_eof, METH_NOARGS, writer_can_write_eof_doc},
    {"close", writer_close, METH_NOARGS, writer_close_doc},
    {"is_closing", writer_is_closing, METH_NOARGS, writer_is_closing_doc},
    {"get_extra_info", AC_CFUNCTION(writer_get_extra_info),
     METH_FASTCALL | METH_KEYWORDS, writer_get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

/* ----------------------------------------------------------------- attributes -- */

/* `_complete_fut`: a future with the result None. */
static PyObject *
writer_get_complete(PyObject *op, void *Py_UNUSED(closure))
{
    WriterObject *self = (WriterObject *)op;
    ac_state *state = ac_state_of_object(op);
    if (self->complete == NULL) {
        PyObject *future = ac_method_call(self->loop, state->str_create_future, NULL);
        PyObject *result = NULL;
        if (future != NULL) {
            result = PyObject_CallMethodOneArg(future, state->str_set_result, Py_None);
        }
        if (result != NULL) {
            Py_XSETREF(self->complete, Py_NewRef(future));
        }
        Py_XDECREF(future);
        Py_XDECREF(result);
    }
    return Py_XNewRef(self->complete);
}

static int
writer_set_complete(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(((WriterObject *)op)->complete, Py_XNewRef(value));
    return 0;
}

static PyGetSetDef writer_getset[] = {
    {"_complete_fut", writer_get_complete, writer_set_complete, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef writer_members[] = {
    {"_transport", Py_T_OBJECT_EX, offsetof(WriterObject, transport), 0, NULL},
    {"_protocol", Py_T_OBJECT_EX, offsetof(WriterObject, protocol), 0, NULL},
    {"_reader", Py_T_OBJECT_EX, offsetof(WriterObject, reader), 0, NULL},
    {"_loop", Py_T_OBJECT_EX, offsetof(WriterObject, loop), 0, NULL},
    {"_complete", Py_T_OBJECT_EX, offsetof(WriterObject, complete), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---------------------------------------------------------------------- making -- */

PyObject *
ac_writer_make(ac_state *state, PyObject *plain)
{
    static const ac_reader_attribute wanted[] = {
        {offsetof(ac_state, str__transport), offsetof(WriterObject, transport)},
        {offsetof(ac_state, str__protocol), offsetof(WriterObject, protocol)},
        {offsetof(ac_state, str__reader), offsetof(WriterObject, reader)},
        {offsetof(ac_state, str__loop), offsetof(WriterObject, loop)},
    };
    PyObject *dict = ac_instance_dict_borrowed(plain);
    if (dict == NULL || !Py_IS_TYPE(plain, (PyTypeObject *)state->stock_writer)) {
        return NULL;
    }
    PyTypeObject *type = state->Writer;
    WriterObject *self = (WriterObject *)type->tp_alloc(type, 0);
    if (self != NULL
        && !ac_reader_copy(state, dict, self, wanted,
                           sizeof(wanted) / sizeof(wanted[0])))
    {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* StreamWriter(*args): a plain one. */
static PyObject *
writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    return module == NULL
               ? NULL
               : PyObject_Call(ac_state_of(module)->stock_writer, args, kwargs);
}

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "asyncio.StreamWriter, in C; that of an accepted connection."},
    {Py_tp_new, writer_new},
    {Py_tp_methods, writer_methods},
    {Py_tp_getset, writer_getset},
    {Py_tp_members, writer_members},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "asynccore._core.StreamWriter",
    .basicsize = sizeof(WriterObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = writer_slots,
};

int
ac_writer_register(PyObject *module, ac_state *state)
{
    if (((PyTypeObject *)state->stock_writer)->tp_basicsize
        != (Py_ssize_t)offsetof(WriterObject, transport))
    {
        PyErr_SetString(PyExc_ImportError,
                        "asynccore was not built for this asyncio: StreamWriter has "
                        "another size");
        return -1;
    }
    state->Writer = ac_state_add_type(module, &writer_spec, state->stock_writer);
    return state->Writer == NULL || ac_drain_register(module, state) < 0 ? -1 : 0;
}
