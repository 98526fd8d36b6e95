/* A transport takes up a StreamReaderProtocol: its reader, if it is plain, becomes
 * ours, and the protocol is a sink from then on.
 *
 * The protocol stays the standard's object and its connection_made() runs: it makes a
 * StreamWriter and calls `_client_connected_cb`. There sits a Connected object until
 * then, which makes our writer of that one, puts the program's function back and calls
 * it.
 *
 * Before each piece of data the sink looks whether all is as it was: protocol and
 * reader are of their classes, nobody has overridden data_received() or put another
 * reader in its place. */
#include "core/python.h"

#include "reader/adopt.h"
#include "reader/feed.h"
#include "reader/reader.h"
#include "reader/reads.h"
#include "reader/writer.h"
#include "stream/sink.h"

#include <stddef.h>

/* ------------------------------------------------------------------- Connected -- */

typedef struct {
    PyObject_HEAD
    ac_state *state;    /* borrowed from the module, which the type keeps alive */
    PyObject *callback; /* the program's client_connected_cb */
} ConnectedObject;

/* The protocol has its function back, unless it was replaced meanwhile. */
static int
put_back(ConnectedObject *self, PyObject *protocol)
{
    PyObject *dict = ac_instance_dict_borrowed(protocol);
    PyObject *name = self->state->str__client_connected_cb;
    if (dict == NULL || PyDict_GetItemWithError(dict, name) != (PyObject *)self) {
        return 0;
    }
    return PyDict_SetItem(dict, name, self->callback);
}

/* Our writer in the place of the plain one, which forgets its transport, so that its
 * end does not close it. *made is NULL if that one has to stay. */
static int
make_writer(ConnectedObject *self, PyObject *plain, PyObject **made)
{
    ac_state *state = self->state;
    *made = ac_writer_make(state, plain);
    if (*made == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *protocol = ((WriterObject *)*made)->protocol;
    PyObject *dict = ac_instance_dict_borrowed(protocol);
    if (dict != NULL
        && PyDict_GetItemWithError(dict, state->str__stream_writer) == plain
        && PyDict_SetItem(dict, state->str__stream_writer, *made) < 0)
    {
        return -1;
    }
    return PyDict_SetItem(ac_instance_dict_borrowed(plain), state->str__transport,
                          (PyObject *)self);
}

/* After an exception: whoever reports it closes the connection first, and our writer
 * is to live until then, as long as the plain one, which connection_made() has. */
static void
keep_writer(ac_state *state, PyObject *plain, PyObject *writer)
{
    PyObject *exc = ac_err_take();
    if (PyObject_SetAttr(plain, state->str__stream_writer, writer) < 0) {
        PyErr_WriteUnraisable(plain);
    }
    ac_err_restore_steal(exc);
}

static PyObject *
connected_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
    ConnectedObject *self = (ConnectedObject *)op;
    ac_state *state = self->state;
    PyObject *writer = NULL;
    if (PyTuple_GET_SIZE(args) == 2 && kwargs == NULL) {
        PyObject *reader = PyTuple_GET_ITEM(args, 0);
        PyObject *plain = PyTuple_GET_ITEM(args, 1);
        PyObject *protocol = PyObject_GetAttr(plain, state->str__protocol);
        if (protocol == NULL || put_back(self, protocol) < 0) {
            Py_XDECREF(protocol);
            return NULL;
        }
        Py_DECREF(protocol);
        if (Py_IS_TYPE(reader, state->Reader) && ac_stock_is_unchanged(state)
            && make_writer(self, plain, &writer) < 0)
        {
            Py_XDECREF(writer);
            return NULL;
        }
        if (writer != NULL) {
            PyObject *ours[] = {NULL, reader, writer};
            PyObject *result = PyObject_Vectorcall(
                self->callback, ours + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
            if (result == NULL) {
                keep_writer(state, plain, writer);
            }
            Py_DECREF(writer);
            return result;
        }
    }
    return PyObject_Call(self->callback, args, kwargs);
}

PyDoc_STRVAR(connected_is_closing_doc,
             "is_closing($self, /)\n--\n\n"
             "True: the `_transport` of a writer that was replaced.");

static PyObject *
connected_is_closing(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

static PyMethodDef connected_methods[] = {
    {"is_closing", connected_is_closing, METH_NOARGS, connected_is_closing_doc},
    {NULL, NULL, 0, NULL},
};

static int
connected_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((ConnectedObject *)op)->callback);
    return 0;
}

static int
connected_clear(PyObject *op)
{
    Py_CLEAR(((ConnectedObject *)op)->callback);
    return 0;
}

static void
connected_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)connected_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot connected_slots[] = {
    {Py_tp_doc, "Calls client_connected_cb with a writer in C."},
    {Py_tp_call, connected_call},
    {Py_tp_dealloc, connected_dealloc},
    {Py_tp_traverse, connected_traverse},
    {Py_tp_clear, connected_clear},
    {Py_tp_methods, connected_methods},
    {0, NULL},
};

static PyType_Spec connected_spec = {
    .name = "asynccore._core.Connected",
    .basicsize = sizeof(ConnectedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = connected_slots,
};

/* -------------------------------------------------------------------- adopting -- */

/* Puts a Connected in the place of the function that connection_made() will call. */
static int
put_connected(ac_state *state, PyObject *dict)
{
    PyObject *callback = PyDict_GetItemWithError(dict, state->str__client_connected_cb);
    if (callback == NULL || callback == Py_None
        || Py_IS_TYPE(callback, state->Connected)
        || PyDict_GetItemWithError(dict, state->str__transport) != Py_None)
    {
        return 0;
    }
    PyTypeObject *type = state->Connected;
    Py_INCREF(callback);  // the allocation may collect
    ConnectedObject *self = (ConnectedObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(callback);
        return -1;
    }
    self->state = state;
    self->callback = callback;
    int rc = PyDict_SetItem(dict, state->str__client_connected_cb, (PyObject *)self);
    Py_DECREF(self);
    return rc;
}

/* Into the dict of an adopted reader, what is none of its usual attributes. Returns 1,
 * 0 if it overrides a method or is no attribute, -1 with an exception. */
static int
keep_others(ac_state *state, PyObject *attributes, ReaderState *made)
{
    PyObject *name, *value;
    Py_ssize_t pos = 0;
    if (PyDict_GET_SIZE(attributes) == AC_READER_ATTRIBUTES) {
        return 1;  // which `made` has
    }
    while (PyDict_Next(attributes, &pos, &name, &value)) {
        if (!PyUnicode_CheckExact(name)) {  // its hash may run Python
            return 0;
        }
        PyObject *own = PyDict_GetItemWithError(state->Reader->tp_dict, name);
        PyObject *stock = PyDict_GetItemWithError(
            ((PyTypeObject *)state->stock_reader)->tp_dict, name);
        if (stock != NULL && PyFunction_Check(stock)) {
            return 0;
        }
        if (own == NULL && PyDict_SetItem((PyObject *)made, name, value) < 0) {
            return -1;
        }
    }
    return 1;
}

/* A plain reader becomes ours. Returns 1, 0 if it stays as it is, -1 with an
 * exception. */
static int
adopt_reader(ac_state *state, PyObject *reader)
{
    PyObject *attributes = Py_XNewRef(ac_instance_dict_borrowed(reader));
    ReaderState *made = NULL;
    int rc = attributes == NULL ? 0 : ac_reader_make(state, attributes, &made);
    if (made != NULL) {
        rc = keep_others(state, attributes, made);
    }
    if (rc > 0
        && (PyObject_SetAttr(reader, state->str___class__, (PyObject *)state->Reader)
                < 0
            || PyObject_GenericSetDict(reader, (PyObject *)made, NULL) < 0))
    {
        rc = -1;
    }
    Py_XDECREF(attributes);
    Py_XDECREF(made);
    return rc;
}

/* An empty list in the place of the empty deque that drain() may need: a deque takes
 * 620 bytes, and what is done to it a list can as well. */
static int
shrink_waiters(ac_state *state, PyObject *dict)
{
    PyObject *waiters = PyDict_GetItemWithError(dict, state->str__drain_waiters);
    if (waiters == NULL || !Py_IS_TYPE(waiters, (PyTypeObject *)state->deque_type)
        || PySequence_Size(waiters) != 0)
    {
        return 0;
    }
    PyObject *list = PyList_New(0);
    int rc = list == NULL ? -1 : PyDict_SetItem(dict, state->str__drain_waiters, list);
    Py_XDECREF(list);
    return rc;
}

/* Whether C may be used in this protocol's loop. */
static bool
is_switched_on(ac_state *state, PyObject *dict)
{
    PyObject *loop = PyDict_GetItemWithError(dict, state->str__loop);
    return loop != NULL && PyObject_TypeCheck(loop, state->Loop)
           && ((LoopObject *)loop)->c_streams;
}

/* The reader of a protocol: new reference, or NULL. Runs no Python. */
static PyObject *
reader_of(ac_state *state, PyObject *dict)
{
    PyObject *ref = PyDict_GetItemWithError(dict, state->str__stream_reader_wr);
    return ref != NULL && PyWeakref_CheckRef(ref) ? ac_weakref_get(ref) : NULL;
}

static int
sink_accepts(ac_state *state, PyObject *protocol)
{
    if (!Py_IS_TYPE(protocol, (PyTypeObject *)state->stock_protocol)
        || !ac_stock_is_unchanged(state))
    {
        return 0;
    }
    PyObject *dict = ac_instance_dict_borrowed(protocol);
    PyObject *reader =
        dict != NULL && is_switched_on(state, dict) ? reader_of(state, dict) : NULL;
    if (reader == NULL) {
        return 0;
    }
    Py_INCREF(dict);  // what runs may give the protocol another one
    int rc = Py_IS_TYPE(reader, state->Reader);
    if (Py_IS_TYPE(reader, (PyTypeObject *)state->stock_reader)) {
        rc = adopt_reader(state, reader);
    }
    Py_DECREF(reader);
    if (rc > 0 && (put_connected(state, dict) < 0 || shrink_waiters(state, dict) < 0)) {
        rc = -1;
    }
    Py_DECREF(dict);
    return rc;
}

/* --------------------------------------------------------------------- as a sink -- */

/* Whether a protocol is as asyncio made it and can write; then note->reader is set.
 * Runs no Python. */
static bool
is_as_made(ac_state *state, ac_sink_note *note, PyObject *dict)
{
    bool as_made;
    AC_BEGIN_OBJECT(dict);
    note->reader = PyDict_GetItemWithError(dict, state->str__stream_reader_wr);
    as_made = note->reader != NULL && PyWeakref_CheckRef(note->reader)
              && PyDict_GetItemWithError(dict, state->str_data_received) == NULL
              && PyDict_GetItemWithError(dict, state->str__drain_helper) == NULL
              && PyDict_GetItemWithError(dict, state->str__connection_lost) == Py_False
              && PyDict_GetItemWithError(dict, state->str__paused) == Py_False;
    AC_END_OBJECT();
    return as_made;
}

/* Looks at a protocol, and notes it if it is as asyncio made it. Runs no Python but
 * that of a dict that is freed. */
static void
note_protocol(ac_state *state, ac_sink_note *note, PyObject *dict)
{
    if (is_as_made(state, note, dict)) {
        ac_dictwatch_note(state, &note->attributes, dict);
        // another thread may have changed it before it was watched
        if (AC_FREE_THREADED && !is_as_made(state, note, dict)) {
            ac_dictwatch_drop(state, &note->attributes);
        }
    }
}

/* The reader that data_received() would feed: new reference, or NULL. */
static PyObject *
reader_to_feed(ac_state *state, PyObject *protocol, ac_sink_note *note)
{
    PyObject *dict = ac_instance_dict_borrowed(protocol);
    if (note != NULL && ac_dictwatch_is_noted(state, &note->attributes, dict)) {
        return ac_weakref_get(note->reader);
    }
    if (dict == NULL || PyDict_GetItemWithError(dict, state->str_data_received) != NULL)
    {
        return NULL;
    }
    PyObject *reader = reader_of(state, dict);
    if (reader != NULL && note != NULL && ac_dictwatch_can_tell(state)) {
        note_protocol(state, note, dict);
    }
    return reader;
}

static int
sink_data(ac_state *state, PyObject *protocol, ac_sink_note *note, const char *data,
          size_t len, PyObject *whole)
{
    if (!Py_IS_TYPE(protocol, (PyTypeObject *)state->stock_protocol)) {
        return 0;
    }
    PyObject *reader = reader_to_feed(state, protocol, note);
    if (reader == NULL) {
        return 0;
    }
    int rc = 0;
    AC_BEGIN_OBJECT(reader);
    ReaderState *found = Py_IS_TYPE(reader, state->Reader)
                             ? ac_reader_state_borrowed(state, reader)
                             : NULL;
    if (found != NULL && ac_reader_is_usual(found) && found->eof == Py_False) {
        Py_INCREF(found);
        rc = ac_feed_data(found, data, len, whole) < 0 ? -1 : 1;
        Py_DECREF(found);
    }
    AC_END_OBJECT();
    Py_DECREF(reader);
    return rc;
}

static const ac_sink_ops reader_sink = {
    .accepts = sink_accepts,
    .data = sink_data,
    .failed = "Fatal error: protocol.data_received() call failed.",
};

/* ------------------------------------------------------------------ register -- */

PyDoc_STRVAR(core_streams_are_stock_doc,
             "streams_are_stock()\n--\n\n"
             "Whether nobody has patched the classes of asyncio.streams.");

static PyObject *
core_streams_are_stock(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(ac_stock_is_unchanged(ac_state_of(module)));
}

PyDoc_STRVAR(
    core_adopt_reader_doc,
    "adopt_reader(loop, reader, /)\n--\n\n"
    "Make a plain StreamReader, or that of a StreamReaderProtocol, one of ours,\n"
    "if the loop has them.");

/* For a reader that no sink feeds: of a pipe. */
static PyObject *
core_adopt_reader(PyObject *module, PyObject *args)
{
    ac_state *state = ac_state_of(module);
    PyObject *loop, *reader;
    if (!PyArg_ParseTuple(args, "O!O:adopt_reader", state->Loop, &loop, &reader)) {
        return NULL;
    }
    if (!((LoopObject *)loop)->c_streams || !ac_stock_is_unchanged(state)) {
        Py_RETURN_NONE;
    }
    if (Py_IS_TYPE(reader, (PyTypeObject *)state->stock_protocol)) {
        PyObject *dict = ac_instance_dict_borrowed(reader);
        reader = dict == NULL ? NULL : reader_of(state, dict);
    }
    else {
        Py_INCREF(reader);
    }
    int rc = 0;
    if (reader != NULL && Py_IS_TYPE(reader, (PyTypeObject *)state->stock_reader)) {
        rc = adopt_reader(state, reader);
    }
    Py_XDECREF(reader);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef streams_functions[] = {
    {"adopt_reader", core_adopt_reader, METH_VARARGS, core_adopt_reader_doc},
    {"streams_are_stock", core_streams_are_stock, METH_NOARGS,
     core_streams_are_stock_doc},
    {NULL, NULL, 0, NULL},
};

int
ac_adopt_register(PyObject *module, ac_state *state)
{
    if (ac_stock_register(state) < 0 || ac_reader_register(module, state) < 0
        || ac_reads_register(module, state) < 0 || ac_writer_register(module, state) < 0
        || ac_stock_register_ours(state, state->Reader) < 0
        || ac_stock_register_ours(state, state->Writer) < 0)
    {
        return -1;
    }
    state->Connected = ac_state_add_type(module, &connected_spec, NULL);
    if (state->Connected == NULL) {
        return -1;
    }
    ac_sink_add(state, &reader_sink);
    return PyModule_AddFunctions(module, streams_functions);
}
