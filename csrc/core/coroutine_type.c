/* What a coroutine written in C shows: its type, its attributes, its end with the
 * warning of one that was never awaited. How it is driven: coroutine.c. */
#include "core/python.h"

#include "core/coroutine.h"

#include <stddef.h>

/* --------------------------------------------------------------- life and death -- */

/* _PyErr_WarnUnawaitedCoroutine(), which is not for us. */
static void
warn_never_awaited(PyObject *op)
{
    PyObject *warn = NULL, *result = NULL;
    PyObject *warnings = PyImport_ImportModule("warnings");
    if (warnings != NULL) {
        warn = PyObject_GetAttrString(warnings, "_warn_unawaited_coroutine");
        Py_DECREF(warnings);
    }
    if (warn != NULL) {
        result = PyObject_CallOneArg(warn, op);
    }
    else if (PyErr_ExceptionMatches(PyExc_AttributeError)
             || PyErr_ExceptionMatches(PyExc_ImportError))
    {
        PyErr_Clear();  // at the end of the interpreter nothing is imported
        PyObject *name =
            PyObject_GetAttrString(((ac_coroutine *)op)->function, "__qualname__");
        if (name != NULL
            && PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                                "coroutine '%S' was never awaited", name)
                   == 0)
        {
            result = Py_NewRef(Py_None);
        }
        Py_XDECREF(name);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(op);
    }
    Py_XDECREF(warn);
    Py_XDECREF(result);
}

static void
coroutine_finalize(PyObject *op)
{
    ac_coroutine *self = (ac_coroutine *)op;
    if (self->phase == AC_COROUTINE_CLOSED) {
        return;
    }
    PyObject *raised = ac_err_take();
    if (self->phase == AC_COROUTINE_CREATED) {
        warn_never_awaited(op);
    }
    PyObject *result = ac_coroutine_close(op, NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable(op);
    }
    Py_XDECREF(result);
    ac_err_restore_steal(raised);
}

int
ac_coroutine_traverse(ac_coroutine *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->function);
    Py_VISIT(self->awaited);
    Py_VISIT(self->origin);
    return 0;
}

static int
coroutine_clear(PyObject *op)
{
    ac_coroutine *self = (ac_coroutine *)op;
    self->ops->end(op);
    Py_CLEAR(self->awaited);
    Py_CLEAR(self->origin);
    return 0;
}

static void
coroutine_dealloc(PyObject *op)
{
    ac_coroutine *self = (ac_coroutine *)op;
    if (self->phase != AC_COROUTINE_CLOSED && PyObject_CallFinalizerFromDealloc(op) < 0)
    {
        return;  // the warning has kept it
    }
    PyObject_GC_UnTrack(op);
    if (AC_LOAD(self->weakrefs) != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)coroutine_clear(op);
    Py_CLEAR(self->function);
    self->ops->free(op);
}

static PyObject *
coroutine_repr(PyObject *op)
{
    PyObject *name =
        PyObject_GetAttrString(((ac_coroutine *)op)->function, "__qualname__");
    PyObject *text = name == NULL ? NULL
                                  : PyUnicode_FromFormat("<coroutine object %S at %p>",
                                                         name, (void *)op);
    Py_XDECREF(name);
    return text;
}

/* ---------------------------------------------------------------- attributes -- */

/* __name__, __qualname__ and cr_code (`closure`: its attribute) of the function. */
static PyObject *
coroutine_get_of_function(PyObject *op, void *closure)
{
    return PyObject_GetAttrString(((ac_coroutine *)op)->function, closure);
}

/* What inspect.getcoroutinestate() says; since 3.15 it is asked of the object. */
static PyObject *
coroutine_get_state(PyObject *op, void *Py_UNUSED(closure))
{
    static const char *const names[] = {
        [AC_COROUTINE_CREATED] = "CORO_CREATED",
        [AC_COROUTINE_RUNNING] = "CORO_RUNNING",
        [AC_COROUTINE_SUSPENDED] = "CORO_SUSPENDED",
        [AC_COROUTINE_CLOSED] = "CORO_CLOSED",
    };
    return PyUnicode_FromString(names[((ac_coroutine *)op)->phase]);
}

static PyObject *
coroutine_is_running(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((ac_coroutine *)op)->phase == AC_COROUTINE_RUNNING);
}

static PyObject *
coroutine_is_suspended(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((ac_coroutine *)op)->phase == AC_COROUTINE_SUSPENDED);
}

/* A frame at the first line of the function, made when somebody asks: tools take its
 * code and line, and None for "it is over". */
static PyObject *
coroutine_get_frame(PyObject *op, void *Py_UNUSED(closure))
{
    ac_coroutine *self = (ac_coroutine *)op;
    if (self->phase == AC_COROUTINE_CLOSED) {
        Py_RETURN_NONE;
    }
    return (PyObject *)PyFrame_New(PyThreadState_Get(),
                                   (PyCodeObject *)PyFunction_GET_CODE(self->function),
                                   PyFunction_GET_GLOBALS(self->function), NULL);
}

static PyGetSetDef coroutine_getset[] = {
    {"__name__", coroutine_get_of_function, NULL, "The name of the method.",
     "__name__"},
    {"__qualname__", coroutine_get_of_function, NULL, "The name with its class.",
     "__qualname__"},
    {"cr_code", coroutine_get_of_function, NULL, "The code that it stands for.",
     "__code__"},
    {"cr_frame", coroutine_get_frame, NULL, "A frame of that code; None at the end.",
     NULL},
    {"cr_state", coroutine_get_state, NULL, "The name of its state.", NULL},
    {"cr_running", coroutine_is_running, NULL, "Whether it runs now.", NULL},
    {"cr_suspended", coroutine_is_suspended, NULL, "Whether it awaits.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef coroutine_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(ac_coroutine, weakrefs), Py_READONLY,
     NULL},
    {"cr_await", AC_T_OBJECT, offsetof(ac_coroutine, awaited), Py_READONLY,
     "What it awaits, or None."},
    {"cr_origin", AC_T_OBJECT, offsetof(ac_coroutine, origin), Py_READONLY,
     "Where it was made, in debug mode."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef coroutine_methods[] = {
    AC_COROUTINE_METHODS,
    {NULL, NULL, 0, NULL},
};

/* -------------------------------------------------------------------- the type -- */

static PyObject *
coroutine_await(PyObject *op)
{
    if (((ac_coroutine *)op)->phase == AC_COROUTINE_SUSPENDED) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(op);
}

PyTypeObject *
ac_coroutine_add_type(PyObject *module, const ac_coroutine_type *own)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)own->doc},
        {Py_tp_dealloc, coroutine_dealloc},
        {Py_tp_traverse, own->traverse},
        {Py_tp_clear, coroutine_clear},
        {Py_tp_finalize, coroutine_finalize},
        {Py_tp_repr, coroutine_repr},
        {Py_am_await, coroutine_await},
        {Py_am_send, ac_coroutine_send},
        {Py_tp_iternext, ac_coroutine_iternext},
        {Py_tp_methods, own->methods == NULL ? coroutine_methods : own->methods},
        {Py_tp_getset, coroutine_getset},
        {Py_tp_members, coroutine_members},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = own->name,
        .basicsize = (int)own->size,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
                 | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    PyTypeObject *type = ac_state_add_type(module, &spec, NULL);
    if (type != NULL) {
        type->tp_iter = ac_awaiter_iter;  // as a slot it would bring an `__iter__`
    }
    return type;
}
