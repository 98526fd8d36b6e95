/* The descriptor of a method that makes a coroutine. The interpreter's own for C
 * methods has no `__code__`, by which `inspect.iscoroutinefunction()` and with it
 * `unittest.mock` know a coroutine function. */
#include "core/python.h"

#include "core/coroutine_method.h"

#include <stddef.h>

/* --------------------------------------------------------------------- calling -- */

static PyObject *
method_vectorcall(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    ac_coroutine_method *self = (ac_coroutine_method *)op;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs == 0 || !PyObject_TypeCheck(args[0], self->owner)) {
        return PyObject_Vectorcall(self->function, args, nargsf, kwnames);
    }
    return self->def->call(args[0], self, args + 1, nargs - 1, kwnames);
}

static PyObject *
method_descr_get(PyObject *op, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL || object == Py_None ? Py_NewRef(op)
                                               : PyMethod_New(op, object);
}

/* ------------------------------------------------------------------ attributes -- */

/* Its own, else those of the function. */
static PyObject *
method_getattro(PyObject *op, PyObject *name)
{
    PyObject *found = PyObject_GenericGetAttr(op, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        found = PyObject_GetAttr(((ac_coroutine_method *)op)->function, name);
    }
    return found;
}

/* An attribute (`closure`) of the function that each class has as well. */
static PyObject *
method_get_of_function(PyObject *op, void *closure)
{
    return PyObject_GetAttrString(((ac_coroutine_method *)op)->function, closure);
}

static PyObject *
method_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<coroutine method of %s in C for %R>",
                                ((ac_coroutine_method *)op)->owner->tp_name,
                                ((ac_coroutine_method *)op)->function);
}

PyDoc_STRVAR(method___reduce___doc, "__reduce__($self, /)\n--\n\n"
                                    "For pickle: the attribute of its class.");

static PyObject *
method___reduce__(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ac_coroutine_method *self = (ac_coroutine_method *)op;
    PyObject *getattr = ac_state_import("builtins", "getattr");
    return getattr == NULL ? NULL
                           : Py_BuildValue("N(Os)", getattr, (PyObject *)self->owner,
                                           self->def->name);
}

static PyMethodDef method_methods[] = {
    {"__reduce__", method___reduce__, METH_NOARGS, method___reduce___doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef method_getset[] = {
    {"__doc__", method_get_of_function, NULL, NULL, "__doc__"},
    {"__module__", method_get_of_function, NULL, NULL, "__module__"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(ac_coroutine_method, vectorcall),
     Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(ac_coroutine_method, weakrefs),
     Py_READONLY, NULL},
    {"__wrapped__", Py_T_OBJECT_EX, offsetof(ac_coroutine_method, function),
     Py_READONLY, "The function that it stands for."},
    {NULL, 0, 0, 0, NULL},
};

/* --------------------------------------------------------------- life and death -- */

// no tp_clear: its cycle with the class ends at the class's dict
static int
method_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((ac_coroutine_method *)op)->owner);
    Py_VISIT(((ac_coroutine_method *)op)->function);
    return 0;
}

static void
method_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (((ac_coroutine_method *)op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    Py_CLEAR(((ac_coroutine_method *)op)->owner);
    Py_CLEAR(((ac_coroutine_method *)op)->function);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyObject *
method_new_steal(ac_state *state, PyTypeObject *owner,
                 const ac_coroutine_method_def *def, PyObject *function)
{
    ac_coroutine_method *self =
        PyObject_GC_New(ac_coroutine_method, state->CoroutineMethod);
    if (self == NULL) {
        Py_DECREF(function);
        return NULL;
    }
    self->vectorcall = method_vectorcall;
    self->def = def;
    self->owner = (PyTypeObject *)Py_NewRef((PyObject *)owner);
    self->function = function;
    self->weakrefs = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* -------------------------------------------------------------------- the type -- */

static PyType_Slot method_slots[] = {
    {Py_tp_dealloc, method_dealloc},     {Py_tp_traverse, method_traverse},
    {Py_tp_repr, method_repr},           {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, method_descr_get}, {Py_tp_getattro, method_getattro},
    {Py_tp_methods, method_methods},     {Py_tp_getset, method_getset},
    {Py_tp_members, method_members},     {0, NULL},
};

static PyType_Spec method_spec = {
    .name = "asynccore._core.CoroutineMethod",
    .basicsize = sizeof(ac_coroutine_method),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = method_slots,
};

/* Whether it is a function of one of asyncio's modules. */
static bool
is_asyncios(PyObject *function)
{
    static const char prefix[] = "asyncio.";
    PyObject *name =
        PyFunction_Check(function)
            ? PyDict_GetItemString(PyFunction_GET_GLOBALS(function), "__name__")
            : NULL;
    const char *text =
        name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (text == NULL) {
        PyErr_Clear();  // a name that UTF-8 does not have
        return false;
    }
    return strncmp(text, prefix, sizeof(prefix) - 1) == 0;
}

int
ac_coroutine_method_add_all(ac_state *state, PyTypeObject *type, PyObject *standard,
                            const ac_coroutine_method_def *defs)
{
    int rc = 0;
    for (; rc == 0 && defs->name != NULL; defs++) {
        PyObject *function = PyObject_GetAttrString(standard, defs->name);
        if (function != NULL && !is_asyncios(function)) {
            Py_DECREF(function);
            continue;
        }
        PyObject *method =
            function == NULL ? NULL : method_new_steal(state, type, defs, function);
        rc = method == NULL
                 ? -1
                 : PyObject_SetAttrString((PyObject *)type, defs->name, method);
        Py_XDECREF(method);
    }
    return rc;
}

int
ac_coroutine_method_register(PyObject *module, ac_state *state)
{
    state->CoroutineMethod = ac_state_add_type(module, &method_spec, NULL);
    return state->CoroutineMethod == NULL ? -1 : 0;
}
