/* ReaderState, and the class StreamReader: its attributes and its methods that are no
 * coroutines. */
#include "core/python.h"

#include "core/errors.h"
#include "reader/feed.h"
#include "reader/read_calls.h"
#include "reader/reader.h"

#include <stddef.h>

#define SIZE_MIN 256                   /* of a chunk with room */
#define SIZE_KEPT (4 * AC_READ_BUFFER) /* of one that is mostly empty */
#define AHEAD 8 /* times as many as there are: the most that is made room for */
#define NO_LIMIT (PY_SSIZE_T_MAX / 4) /* twice this does not overflow */

/* -------------------------------------------------------------------- the bytes -- */

static void
drop_bytes(ReaderState *self)
{
    self->start = self->len = 0;
    self->roomy = false;
    Py_CLEAR(self->chunk);
}

static size_t
chunk_size(const ReaderState *self)
{
    return self->chunk == NULL ? 0 : (size_t)PyBytes_GET_SIZE(self->chunk);
}

/* Whether there will soon be as many bytes as somebody waits for: with a chunk of that
 * very size they need not be copied again. */
static bool
expects(const ReaderState *self, size_t need)
{
    return self->wanted > need && self->wanted / AHEAD <= need;
}

/* Into a chunk for `need` bytes, and some more. */
static int
move_bytes(ReaderState *self, size_t need)
{
    PyObject *chunk = NULL;
    if (expects(self, need)) {
        chunk = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->wanted);
        if (chunk == NULL) {
            PyErr_Clear();  // most of it may never come: less will do for now
        }
    }
    if (chunk == NULL) {
        size_t size = need + need / 2;
        chunk = PyBytes_FromStringAndSize(
            NULL, (Py_ssize_t)(size < SIZE_MIN ? SIZE_MIN : size));
    }
    if (chunk == NULL) {
        return -1;
    }
    size_t len = self->len;
    if (len > 0) {
        memcpy(PyBytes_AS_STRING(chunk), ac_reader_bytes(self), len);
    }
    drop_bytes(self);
    self->chunk = chunk;
    self->len = len;
    self->roomy = true;
    return 0;
}

/* A chunk with room for `more` bytes behind those there are. */
static int
make_room(ReaderState *self, size_t more)
{
    size_t size = chunk_size(self), need = self->len + more;
    if (self->roomy && self->start + need <= size) {
        return 0;
    }
    if (self->roomy && need <= size && self->start >= self->len) {
        memcpy(PyBytes_AS_STRING(self->chunk), ac_reader_bytes(self), self->len);
        self->start = 0;
        return 0;
    }
    return move_bytes(self, need);
}

int
ac_reader_append(ReaderState *self, const char *data, size_t len, PyObject *whole)
{
    if (self->chunk == NULL && !expects(self, len)) {
        self->chunk = whole == NULL ? PyBytes_FromStringAndSize(data, (Py_ssize_t)len)
                                    : Py_NewRef(whole);
        if (self->chunk == NULL) {
            return -1;
        }
        self->len = len;
        return 0;
    }
    if (make_room(self, len) < 0) {
        return -1;
    }
    memcpy(PyBytes_AS_STRING(self->chunk) + self->start + self->len, data, len);
    self->len += len;
    return 0;
}

void
ac_reader_consume(ReaderState *self, size_t n)
{
    assert(n <= self->len);
    self->start += n;
    self->len -= n;
    if (self->len == 0) {
        drop_bytes(self);
        return;
    }
    size_t size = chunk_size(self);
    if (size > SIZE_KEPT && self->len < size / 4 && move_bytes(self, self->len) < 0) {
        PyErr_Clear();  // it can stay where it is
    }
}

PyObject *
ac_reader_take(ReaderState *self, size_t n)
{
    assert(n <= self->len);
    if (self->chunk != NULL && n == chunk_size(self)) {
        PyObject *chunk = Py_NewRef(self->chunk);
        drop_bytes(self);
        return chunk;
    }
    PyObject *taken =
        PyBytes_FromStringAndSize(n == 0 ? NULL : ac_reader_bytes(self), (Py_ssize_t)n);
    if (taken != NULL) {
        ac_reader_consume(self, n);
    }
    return taken;
}

bool
ac_reader_take_back(ReaderState *self)
{
    PyObject *shown = self->shown;
    if (!PyByteArray_CheckExact(shown) || !ac_has_references(shown, 1)) {
        return false;
    }
    size_t len = (size_t)PyByteArray_GET_SIZE(shown);
    if (len > 0 && ac_reader_append(self, PyByteArray_AS_STRING(shown), len, NULL) < 0)
    {
        PyErr_Clear();  // the standard's code can do with less
        return false;
    }
    Py_CLEAR(self->shown);
    return true;
}

/* `_buffer` as a bytearray, from now on. Borrowed; NULL with MemoryError. */
static PyObject *
show(ReaderState *self)
{
    if (self->shown == NULL) {
        self->shown = PyByteArray_FromStringAndSize(
            self->len == 0 ? NULL : ac_reader_bytes(self), (Py_ssize_t)self->len);
        if (self->shown != NULL) {
            drop_bytes(self);
        }
    }
    return self->shown;
}

/* --------------------------------------------------------------------- the state -- */

/* Works out what depends on the attributes. Runs no Python. */
static void
look_at_attributes(ReaderState *self)
{
    int overflow = 0;
    Py_ssize_t limit = 0;
    if (PyLong_CheckExact(self->limit)) {
        long long value = PyLong_AsLongLongAndOverflow(self->limit, &overflow);
        limit = overflow > 0 || value > NO_LIMIT ? NO_LIMIT : (Py_ssize_t)value;
    }
    self->limit_value = limit;
    self->odd = self->odd || limit <= 0 || overflow < 0
                || !PyObject_TypeCheck(self->loop, self->state->Loop)
                || !PyBool_Check(self->eof) || !PyBool_Check(self->paused);
}

bool
ac_reader_copy(const ac_state *state, PyObject *dict, void *object,
               const ac_reader_attribute *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PyObject *name = *(PyObject *const *)((const char *)state + wanted[i].name);
        PyObject *value = ac_dict_get(dict, name);
        if (value == NULL) {
            return false;
        }
        *(PyObject **)((char *)object + wanted[i].member) = value;
    }
    return true;
}

int
ac_reader_make(ac_state *state, PyObject *attributes, ReaderState **made)
{
    static const ac_reader_attribute wanted[AC_READER_ATTRIBUTES] = {
        {offsetof(ac_state, str__limit), offsetof(ReaderState, limit)},
        {offsetof(ac_state, str__loop), offsetof(ReaderState, loop)},
        {offsetof(ac_state, str__eof), offsetof(ReaderState, eof)},
        {offsetof(ac_state, str__waiter), offsetof(ReaderState, waiter)},
        {offsetof(ac_state, str__exception), offsetof(ReaderState, exception)},
        {offsetof(ac_state, str__transport), offsetof(ReaderState, transport)},
        {offsetof(ac_state, str__paused), offsetof(ReaderState, paused)},
        {offsetof(ac_state, str__buffer), offsetof(ReaderState, shown)},
    };
    *made = NULL;
    PyTypeObject *type = state->ReaderState;
    ReaderState *self =
        (ReaderState *)PyDict_Type.tp_new(type, state->empty_tuple, NULL);
    if (self == NULL) {
        return -1;
    }
    self->state = state;
    bool complete =
        ac_reader_copy(state, attributes, self, wanted, AC_READER_ATTRIBUTES);
    if (complete) {
        look_at_attributes(self);
    }
    if (complete && PyByteArray_CheckExact(self->shown) && !self->odd) {
        // the other reference is that of the dict, which goes, if perhaps later
        if (PyByteArray_GET_SIZE(self->shown) == 0 && ac_has_references(self->shown, 2))
        {
            Py_CLEAR(self->shown);
        }
        *made = self;
        return 0;
    }
    Py_DECREF(self);
    return 0;
}

static int
state_traverse(PyObject *op, visitproc visit, void *arg)
{
    ReaderState *self = (ReaderState *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->limit);
    Py_VISIT(self->loop);
    Py_VISIT(self->eof);
    Py_VISIT(self->waiter);
    Py_VISIT(self->exception);
    Py_VISIT(self->transport);
    Py_VISIT(self->paused);
    Py_VISIT(self->shown);
    return PyDict_Type.tp_traverse(op, visit, arg);
}

/* Replaces all members, by None while a reader may still use them. */
static void
drop_members(ReaderState *self, PyObject *replacement)
{
    PyObject **members[] = {&self->limit,  &self->loop,      &self->eof,
                            &self->waiter, &self->exception, &self->transport,
                            &self->paused};
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        Py_XSETREF(*members[i], Py_XNewRef(replacement));
    }
    Py_CLEAR(self->shown);
}

static int
state_clear(PyObject *op)
{
    ((ReaderState *)op)->odd = true;
    drop_members((ReaderState *)op, Py_None);
    return PyDict_Type.tp_clear(op);
}

static void
state_dealloc(PyObject *op)
{
    ReaderState *self = (ReaderState *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    drop_bytes(self);
    drop_members(self, NULL);
    PyDict_Type.tp_dealloc(op);  // frees it
    Py_DECREF(type);
}

static PyType_Slot state_slots[] = {
    {Py_tp_doc, "What a StreamReader holds, its `__dict__`."},
    {Py_tp_dealloc, state_dealloc},
    {Py_tp_traverse, state_traverse},
    {Py_tp_clear, state_clear},
    {0, NULL},
};

static PyType_Spec state_spec = {
    .name = "asynccore._core.ReaderState",
    .basicsize = sizeof(ReaderState),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = state_slots,
};

/* ----------------------------------------------------------------- attributes -- */

/* NULL with TypeError for a reader that has got another class, and lost its state as
 * well: a bound method may be older than that. */
static ac_state *
module_state_of(PyObject *op)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(op), &ac_module_def);
    if (module == NULL) {
        PyObject *dict = ac_instance_dict_borrowed(op);
        PyErr_Clear();
        module =
            PyType_GetModuleByDef(Py_TYPE(dict == NULL ? op : dict), &ac_module_def);
    }
    return module == NULL ? NULL : ac_state_of(module);
}

ReaderState *
ac_reader_usual_borrowed(PyObject *op)
{
    ac_state *state = module_state_of(op);
    if (state == NULL) {
        PyErr_Clear();
        return NULL;
    }
    ReaderState *self = ac_reader_state_borrowed(state, op);
    return self != NULL && ac_reader_is_usual(self) ? self : NULL;
}

PyObject *
ac_reader_call_standard(PyObject *op, const char *name, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    ac_state *state = module_state_of(op);
    return state == NULL
               ? NULL
               : ac_stock_call_named(state->Reader, op, name, args, nargs, kwnames);
}

/* The state, or NULL with AttributeError. Borrowed, kept by the reader. */
static ReaderState *
state_of(PyObject *op)
{
    // the type is right: a descriptor has compared it
    ReaderState *self = ac_reader_state_borrowed(module_state_of(op), op);
    if (self == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the reader has lost its attributes");
    }
    return self;
}

static PyObject *
reader_get(PyObject *op, void *closure)
{
    PyObject *value = NULL;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = state_of(op);
    if (self != NULL) {
        value = Py_NewRef(*(PyObject **)((char *)self + (Py_ssize_t)closure));
    }
    AC_END_OBJECT();
    return value;
}

static int
reader_set(PyObject *op, PyObject *value, void *closure)
{
    PyObject *former = NULL;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = state_of(op);
    if (self != NULL && ac_errors_refuse_delete(value) == 0) {
        PyObject **member = (PyObject **)((char *)self + (Py_ssize_t)closure);
        former = *member;
        *member = Py_NewRef(value);
        look_at_attributes(self);
    }
    AC_END_OBJECT();
    if (former == NULL) {
        return -1;
    }
    Py_DECREF(former);
    return 0;
}

static PyObject *
reader_get_buffer(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *buffer = NULL;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = state_of(op);
    if (self != NULL) {
        buffer = Py_XNewRef(show(self));
    }
    AC_END_OBJECT();
    return buffer;
}

static int
reader_set_buffer(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *former = NULL;
    int rc = -1;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = state_of(op);
    if (self != NULL && ac_errors_refuse_delete(value) == 0) {
        drop_bytes(self);
        former = self->shown;
        self->shown = Py_NewRef(value);
        rc = 0;
    }
    AC_END_OBJECT();
    Py_XDECREF(former);
    return rc;
}

#define ATTRIBUTE(name, member)                                                   \
    {                                                                             \
        name, reader_get, reader_set, NULL, (void *)offsetof(ReaderState, member) \
    }

static PyGetSetDef reader_getset[] = {
    ATTRIBUTE("_limit", limit),
    ATTRIBUTE("_loop", loop),
    ATTRIBUTE("_eof", eof),
    ATTRIBUTE("_waiter", waiter),
    ATTRIBUTE("_exception", exception),
    ATTRIBUTE("_transport", transport),
    ATTRIBUTE("_paused", paused),
    {"_buffer", reader_get_buffer, reader_set_buffer, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
#undef ATTRIBUTE

/* The state of a reader, to be used where another thread may give it another one: a new
 * reference, or NULL without an exception. */
static ReaderState *
held_state(const ac_state *state, PyObject *op)
{
    ReaderState *self;
    AC_BEGIN_OBJECT(op);
    self = (ReaderState *)Py_XNewRef(ac_reader_state_borrowed(state, op));
    AC_END_OBJECT();
    return self;
}

static void
make_odd(PyObject *op, ReaderState *self)
{
    (void)op;
    AC_BEGIN_OBJECT(op);
    self->odd = true;
    AC_END_OBJECT();
}

/* The reader gets another class: its attributes go back into its dict, and whoever
 * still holds the state finds it odd. */
static int
give_back(PyObject *op, ReaderState *self)
{
    bool shown;
    AC_BEGIN_OBJECT(op);
    shown = show(self) != NULL;
    AC_END_OBJECT();
    if (!shown) {
        return -1;
    }
    for (const PyGetSetDef *def = reader_getset; def->name != NULL; def++) {
        PyObject *value = def->get(op, def->closure);
        int rc = value == NULL
                     ? -1
                     : PyDict_SetItemString((PyObject *)self, def->name, value);
        Py_XDECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    make_odd(op, self);
    return 0;
}

/* Notices a method that is overridden in the reader itself. */
static int
notice_override(const ac_state *state, PyObject *op, PyObject *name)
{
    ReaderState *self = held_state(state, op);
    int own = self == NULL ? 0 : PyDict_Contains((PyObject *)self, name);
    if (own > 0 && PyObject_HasAttr((PyObject *)Py_TYPE(op), name)) {
        make_odd(op, self);
    }
    Py_XDECREF(self);
    return own < 0 ? -1 : 0;
}

static int
reader_setattro(PyObject *op, PyObject *name, PyObject *value)
{
    ac_state *state = module_state_of(op);
    if (state == NULL) {
        return -1;
    }
    ReaderState *self = held_state(state, op);
    bool ours = self != NULL;
    int rc = 0;
    if (ours && PyUnicode_Check(name)
        && PyUnicode_Compare(name, state->str___class__) == 0) {
        rc = give_back(op, self);
    }
    Py_XDECREF(self);
    if (rc == 0) {
        rc = PyObject_GenericSetAttr(op, name, value);
    }
    return rc < 0 || value == NULL || !ours || Py_TYPE(op) != state->Reader
               ? rc
               : notice_override(state, op, name);
}

/* ---------------------------------------------------------------- the class -- */

/* StreamReader(*args): a plain one, as type(reader)(limit=...) means it. */
static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    return module == NULL
               ? NULL
               : PyObject_Call(ac_state_of(module)->stock_reader, args, kwargs);
}

static PyObject *
reader_aiter(PyObject *op)
{
    ac_state *state = module_state_of(op);
    if (state != NULL && ac_stock_is_unchanged(state)) {
        return Py_NewRef(op);
    }
    PyErr_Clear();
    return ac_reader_call_standard(op, "__aiter__", NULL, 0, NULL);
}

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "asyncio.StreamReader, in C; made of one when a connection is made."},
    {Py_tp_new, reader_new},
    {Py_tp_setattro, reader_setattro},
    {Py_tp_getset, reader_getset},
    {Py_am_aiter, reader_aiter},
    {Py_am_anext, ac_read_calls_next},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "asynccore._core.StreamReader",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = reader_slots,
};

int
ac_reader_register(PyObject *module, ac_state *state)
{
    state->ReaderState =
        ac_state_add_type(module, &state_spec, (PyObject *)&PyDict_Type);
    state->Reader = ac_state_add_type(module, &reader_spec, state->stock_reader);
    return state->ReaderState == NULL || state->Reader == NULL
                   || ac_state_add_methods(state->Reader, ac_feed_methods) < 0
                   || ac_coroutine_method_add_all(state, state->Reader,
                                                  state->stock_reader,
                                                  ac_read_calls_methods)
                          < 0
               ? -1
               : 0;
}
