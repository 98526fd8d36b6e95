/* What `__await__()` of a coroutine returns.
 *
 * `await` takes the coroutine itself as the iterator, without an object in between. A
 * coroutine must not be iterable, though, and `yield from coroutine.__await__()` asks
 * for an iterator that is: this one, as CPython's coroutine_wrapper. */
#include "core/python.h"

#include "core/awaiter.h"
#include "core/coroutine.h"

typedef struct {
    PyObject_HEAD
    PyObject *coroutine; /* owned */
} AwaiterObject;

PyObject *
ac_awaiter_new(PyObject *coroutine, PyObject *Py_UNUSED(ignored))
{
    AwaiterObject *self =
        PyObject_GC_New(AwaiterObject, ac_state_of_object(coroutine)->Awaiter);
    if (self == NULL) {
        return NULL;
    }
    self->coroutine = Py_NewRef(coroutine);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

PyObject *
ac_awaiter_iter(PyObject *coroutine)
{
    PyFrameObject *frame = PyEval_GetFrame();  // borrowed, kept by the thread state
    int flags = 0;
    if (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        flags = code->co_flags;
        Py_DECREF(code);
    }
    if (flags & CO_ITERABLE_COROUTINE) {
        return Py_NewRef(coroutine);
    }
    PyErr_Format(PyExc_TypeError, "'%.200s' object is not iterable",
                 Py_TYPE(coroutine)->tp_name);
    return NULL;
}

/* -------------------------------------------------------------------- the type -- */

static PyObject *
coroutine_of(PyObject *op)
{
    return ((AwaiterObject *)op)->coroutine;
}

static PyObject *
awaiter_iternext(PyObject *op)
{
    return ac_coroutine_next(coroutine_of(op));
}

static PySendResult
awaiter_am_send(PyObject *op, PyObject *value, PyObject **result)
{
    return ac_coroutine_send(coroutine_of(op), value, result);
}

static PyObject *
awaiter_send(PyObject *op, PyObject *value)
{
    return ac_coroutine_send_method(coroutine_of(op), value);
}

static PyObject *
awaiter_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return ac_coroutine_throw(coroutine_of(op), args, nargs);
}

static PyObject *
awaiter_close(PyObject *op, PyObject *ignored)
{
    return ac_coroutine_close(coroutine_of(op), ignored);
}

static int
awaiter_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(coroutine_of(op));
    return 0;
}

static void
awaiter_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((AwaiterObject *)op)->coroutine);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyMethodDef awaiter_methods[] = {
    {"send", awaiter_send, METH_O, ac_coroutine_send_doc},
    {"throw", AC_CFUNCTION(awaiter_throw), METH_FASTCALL, ac_coroutine_throw_doc},
    {"close", awaiter_close, METH_NOARGS, ac_coroutine_close_doc},
    {NULL, NULL, 0, NULL},
};

// no tp_clear: what it refers to is cleared by the coroutine, and no method needs to
// know of an awaiter without one
static PyType_Slot awaiter_slots[] = {
    {Py_tp_doc, "What __await__() of a coroutine returns."},
    {Py_tp_dealloc, awaiter_dealloc},
    {Py_tp_traverse, awaiter_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, awaiter_iternext},
    {Py_am_send, awaiter_am_send},
    {Py_tp_methods, awaiter_methods},
    {0, NULL},
};

static PyType_Spec awaiter_spec = {
    .name = "asynccore._core.CoroutineAwaiter",
    .basicsize = sizeof(AwaiterObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = awaiter_slots,
};

int
ac_awaiter_register(PyObject *module, ac_state *state)
{
    state->Awaiter = ac_state_add_type(module, &awaiter_spec, NULL);
    return state->Awaiter == NULL ? -1 : 0;
}
