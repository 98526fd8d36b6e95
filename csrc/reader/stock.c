/* What asyncio.streams had at import, and whether it still is so.
 *
 * state->stock_attributes is a list of pairs: a class, and a dict of the functions and
 * properties that it defines; for ours, of all that it defines, and None for what it
 * inherits. They are compared again when a type's version has changed, which it does
 * with any assignment to it or to a base. A method that is no function of its module
 * was patched before we came: then the classes count as changed for good, which an
 * empty list says. */
#include "core/python.h"

#include "reader/stock.h"

/* Hooks of the object model that none of the classes has, and that none may get. */
static const char *const hooks[] = {"__getattribute__", "__getattr__", "__setattr__",
                                    "__delattr__", "__new__"};

/* ------------------------------------------------------------------ comparing -- */

/* The dict of a class. Borrowed, kept by the class. */
static PyObject *
class_dict_borrowed(PyObject *type)
{
    return ((PyTypeObject *)type)->tp_dict;
}

static bool
class_is_unchanged(PyObject *type, PyObject *attributes)
{
    PyObject *now = class_dict_borrowed(type);
    PyObject *name, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(attributes, &pos, &name, &value)) {
        PyObject *found = PyDict_GetItemWithError(now, name);
        if (found != value && (found != NULL || value != Py_None)) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
        if (PyDict_GetItemString(now, hooks[i]) != NULL
            && PyDict_GetItemString(attributes, hooks[i]) == NULL)
        {
            return false;
        }
    }
    return true;
}

bool
ac_stock_compare(ac_state *state)
{
    PyTypeObject *types[] = {state->Reader, state->Writer,
                             (PyTypeObject *)state->stock_protocol};
    unsigned int versions[3];
    for (size_t i = 0; i < 3; i++) {
        versions[i] = ac_type_version_to_note(types[i]);
    }
    PyObject *list = state->stock_attributes;
    Py_ssize_t n = PyList_GET_SIZE(list);
    bool unchanged = n > 0;
    for (Py_ssize_t i = 0; unchanged && i < n; i++) {
        PyObject *pair = PyList_GET_ITEM(list, i);  // borrowed, kept by the list
        unchanged =
            class_is_unchanged(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    if (unchanged || !AC_FREE_THREADED) {  // see core/threads.h
        AC_STORE(state->stock_unchanged, unchanged);
        for (size_t i = 0; i < 3; i++) {
            AC_STORE(state->stock_versions[i], versions[i]);
        }
    }
    return unchanged;
}

/* -------------------------------------------------------------------- calling -- */

/* The method of a class, bound to an object that may be of another one. */
static PyObject *
bind(PyObject *type, PyObject *self, PyObject *name)
{
    PyObject *function = PyObject_GetAttr(type, name);
    if (function == NULL || Py_TYPE(function)->tp_descr_get == NULL) {
        return function;
    }
    PyObject *method =
        Py_TYPE(function)->tp_descr_get(function, self, (PyObject *)Py_TYPE(self));
    Py_DECREF(function);
    return method;
}

/* super(type, self).name */
static PyObject *
method_of_super(PyTypeObject *type, PyObject *self, PyObject *name)
{
    PyObject *super =
        PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type, type, self, NULL);
    PyObject *method = super == NULL ? NULL : PyObject_GetAttr(super, name);
    Py_XDECREF(super);
    return method;
}

PyObject *
ac_stock_call(PyTypeObject *type, PyObject *self, PyObject *name, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *method = PyObject_TypeCheck(self, type)
                           ? method_of_super(type, self, name)
                           : bind((PyObject *)type->tp_base, self, name);
    PyObject *result = method == NULL
                           ? NULL
                           : PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_XDECREF(method);
    return result;
}

PyObject *
ac_stock_call_named(PyTypeObject *type, PyObject *self, const char *name,
                    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *text = PyUnicode_InternFromString(name);
    if (text == NULL) {
        return NULL;
    }
    PyObject *result = ac_stock_call(type, self, text, args, nargs, kwnames);
    Py_DECREF(text);
    return result;
}

/* ------------------------------------------------------------------- at import -- */

/* Whether an attribute of a class counts. *foreign becomes true if it is code that its
 * module has not: a function of another one, or anything else that is called or bound
 * as one, such as a mock. */
static bool
is_code(PyObject *value, PyObject *globals, bool *foreign)
{
    PyObject *function = Py_NewRef(value);
    if (Py_IS_TYPE(value, &PyProperty_Type)) {
        Py_SETREF(function, PyObject_GetAttrString(value, "fget"));
        if (function == NULL) {
            PyErr_Clear();
            return false;
        }
    }
    bool is_function = PyFunction_Check(function);
    if (is_function) {
        *foreign = *foreign || PyFunction_GET_GLOBALS(function) != globals;
    }
    else if (!Py_IS_TYPE(value, &PyGetSetDescr_Type)) {  // `__dict__`, `__weakref__`
        *foreign =
            *foreign || PyCallable_Check(value) || Py_TYPE(value)->tp_descr_get != NULL;
    }
    Py_DECREF(function);
    return is_function;
}

/* A class and what it has (consumed; NULL: an exception is raised), into the list. */
static int
remember_steal(ac_state *state, PyObject *type, PyObject *attributes)
{
    PyObject *pair = attributes == NULL ? NULL : PyTuple_Pack(2, type, attributes);
    int rc = pair == NULL ? -1 : PyList_Append(state->stock_attributes, pair);
    Py_XDECREF(pair);
    Py_XDECREF(attributes);
    return rc;
}

/* A class of `module`, into the list. Returns 0, or -1 with an exception. */
static int
remember_class(ac_state *state, PyObject *type, PyObject *module, bool *foreign)
{
    PyObject *globals = PyModule_GetDict(module);
    PyObject *attributes = PyDict_New();
    PyObject *name, *value;
    Py_ssize_t pos = 0;
    int rc = attributes == NULL ? -1 : 0;
    while (rc == 0 && PyDict_Next(class_dict_borrowed(type), &pos, &name, &value)) {
        if (is_code(value, globals, foreign)) {
            rc = PyDict_SetItem(attributes, name, value);
        }
    }
    if (rc < 0) {
        Py_CLEAR(attributes);
    }
    return remember_steal(state, type, attributes);
}

int
ac_stock_register_ours(ac_state *state, PyTypeObject *type)
{
    if (PyList_GET_SIZE(state->stock_attributes) == 0) {
        return 0;  // changed for good
    }
    PyObject *attributes = PyDict_New();
    int rc = attributes == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(state->stock_attributes); i++)
    {
        PyObject *pair = PyList_GET_ITEM(state->stock_attributes, i);
        PyObject *name, *value;
        Py_ssize_t pos = 0;
        while (rc == 0 && PyTuple_GET_ITEM(pair, 0) == (PyObject *)type->tp_base
               && PyDict_Next(PyTuple_GET_ITEM(pair, 1), &pos, &name, &value))
        {
            rc = PyDict_SetItem(attributes, name, Py_None);
        }
    }
    if (rc < 0 || PyDict_Update(attributes, type->tp_dict) < 0) {
        Py_CLEAR(attributes);
    }
    return remember_steal(state, (PyObject *)type, attributes);
}

/* Whether readuntil() of this version takes a tuple: it sorts it. */
static int
inspect_readuntil(ac_state *state)
{
    PyObject *function = ac_stock_function_borrowed(state, AC_STOCK_READUNTIL);
    PyObject *names = NULL;
    if (PyFunction_Check(function)) {
        names = PyObject_GetAttrString(PyFunction_GET_CODE(function), "co_names");
    }
    PyObject *sorted = names == NULL ? NULL : PyUnicode_FromString("sorted");
    int found = sorted == NULL ? -1 : PySequence_Contains(names, sorted);
    Py_XDECREF(names);
    Py_XDECREF(sorted);
    state->stock_tuples = found > 0;
    return found < 0 && PyErr_Occurred() ? -1 : 0;
}

static int
remember_functions(ac_state *state)
{
    static const char *const names[AC_STOCK_FUNCTIONS] = {
        [AC_STOCK_READ] = "read",           [AC_STOCK_READEXACTLY] = "readexactly",
        [AC_STOCK_READUNTIL] = "readuntil", [AC_STOCK_READLINE] = "readline",
        [AC_STOCK_ANEXT] = "__anext__",
    };
    state->stock_functions = PyTuple_New(AC_STOCK_FUNCTIONS);
    for (int i = 0; state->stock_functions != NULL && i < AC_STOCK_FUNCTIONS; i++) {
        PyObject *function = PyObject_GetAttrString(state->stock_reader, names[i]);
        if (function == NULL) {
            return -1;
        }
        PyTuple_SET_ITEM(state->stock_functions, i, function);
    }
    return state->stock_functions == NULL ? -1 : inspect_readuntil(state);
}

int
ac_stock_register(ac_state *state)
{
    state->streams = PyImport_ImportModule("asyncio.streams");
    if (state->streams == NULL) {
        return -1;
    }
    state->stock_reader = PyObject_GetAttr(state->streams, state->str_StreamReader);
    state->stock_writer = PyObject_GetAttr(state->streams, state->str_StreamWriter);
    state->stock_protocol =
        PyObject_GetAttrString(state->streams, "StreamReaderProtocol");
    state->IncompleteReadError =
        ac_state_import("asyncio.exceptions", "IncompleteReadError");
    state->LimitOverrunError =
        ac_state_import("asyncio.exceptions", "LimitOverrunError");
    state->stock_attributes = PyList_New(0);
    PyObject *mixin = PyObject_GetAttrString(state->streams, "FlowControlMixin");
    bool foreign = false;
    int rc = -1;
    if (!PyErr_Occurred()
        && remember_class(state, state->stock_reader, state->streams, &foreign) == 0
        && remember_class(state, state->stock_writer, state->streams, &foreign) == 0
        && remember_class(state, state->stock_protocol, state->streams, &foreign) == 0
        && remember_class(state, mixin, state->streams, &foreign) == 0)
    {
        rc = remember_functions(state);
    }
    Py_XDECREF(mixin);
    if (rc == 0 && foreign) {
        rc = PyList_SetSlice(state->stock_attributes, 0, PY_SSIZE_T_MAX, NULL);
    }
    return rc;
}
