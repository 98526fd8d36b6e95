/* The classes of the ssl module, and whether they are as the module made them.
 *
 * Frames of its methods are left out only where nobody can tell: a class whose version
 * has changed, a subclass, an instance with attributes of its own goes the whole way.
 */
#include "core/python.h"

#include "core/code.h"
#include "tls/sslmodule.h"

/* Where a wrapper of a function has it; NULL for all that is none. */
static const char *
wrapped_name(PyObject *member)
{
    return Py_IS_TYPE(member, &PyProperty_Type) ? "fget"
           : Py_IS_TYPE(member, &PyClassMethod_Type)
                   || Py_IS_TYPE(member, &PyStaticMethod_Type)
               ? "__func__"
               : NULL;
}

/* Whether a member of a class is data, or code of the module whose names these are. */
static int
is_code_of(PyObject *member, PyObject *names)
{
    const char *name = wrapped_name(member);
    if (name != NULL) {
        PyObject *inner = PyObject_GetAttrString(member, name);
        int rc = inner == NULL ? -1 : is_code_of(inner, names);
        Py_XDECREF(inner);
        return rc;
    }
    if (PyFunction_Check(member)) {
        return PyFunction_GetGlobals(member) == names;
    }
    return PyType_Check(member) || Py_IS_TYPE(member, &PyGetSetDescr_Type)
           || (!PyCallable_Check(member) && Py_TYPE(member)->tp_descr_get == NULL);
}

/* The version of a class of the ssl module, 0 if somebody has put other functions into
 * it. Returns 0, or -1 with an exception. */
static int
find_version(PyObject *ssl, PyTypeObject *type, unsigned int *version)
{
    unsigned int before = ac_type_version_to_note(type);
    PyObject *members = PyObject_GetAttrString((PyObject *)type, "__dict__");
    PyObject *values = members == NULL ? NULL : PyMapping_Values(members);
    int rc = values == NULL ? -1 : 1;
    for (Py_ssize_t i = 0; rc > 0 && i < PyList_GET_SIZE(values); i++) {
        rc = is_code_of(PyList_GET_ITEM(values, i), PyModule_GetDict(ssl));
    }
    Py_XDECREF(members);
    Py_XDECREF(values);
    *version = rc > 0 ? before : 0;
    return rc < 0 ? -1 : 0;
}

/* Whether wrap_bio() for a server that checks no name does nothing but make the object:
 * what setup.c does without it. -1 with an exception. */
static int
is_wrapping_known(PyObject *ssl, PyObject *object, PyObject *context)
{
    static const char *const wrapped[] = {"sslobject_class", "_create",
                                          "_encode_hostname", NULL};
    static const char *const created[] = {"_check_sslobject_params", "__new__",
                                          "_wrap_bio", "_sslobj", NULL};
    static const char *const checked[] = {"ValueError", "check_hostname", NULL};
    PyObject *names = PyModule_GetDict(ssl);
    PyObject *wrap = PyObject_GetAttrString(context, "wrap_bio");
    PyObject *create = wrap == NULL ? NULL : PyObject_GetAttrString(object, "_create");
    int rc = create == NULL ? -1 : ac_code_uses_only(wrap, names, wrapped);
    if (rc > 0) {
        rc = PyMethod_Check(create)
                 ? ac_code_uses_only(PyMethod_GET_FUNCTION(create), names, created)
                 : 0;
    }
    PyObject *check = PyDict_GetItemString(names, created[0]);  // borrowed; since 3.14
    if (rc > 0 && check != NULL) {
        rc = ac_code_uses_only(check, names, checked);
    }
    Py_XDECREF(wrap);
    Py_XDECREF(create);
    return rc;
}

/* The two classes whose frames are left out, while they are as the module made them. */
static int
remember_classes(ac_state *state)
{
    PyObject *ssl = PyImport_ImportModule("ssl");
    if (ssl == NULL) {
        return -1;
    }
    PyObject *object = PyObject_GetAttrString(ssl, "SSLObject");
    PyObject *context = PyObject_GetAttrString(ssl, "SSLContext");
    PyObject *made =
        context == NULL ? NULL : PyObject_GetAttrString(context, "sslobject_class");
    int rc = object == NULL || made == NULL ? -1 : 0;
    if (rc == 0 && PyType_Check(object) && PyType_Check(context) && made == object) {
        Py_XSETREF(state->SSLObject, (PyTypeObject *)Py_NewRef(object));
        Py_XSETREF(state->SSLContext, (PyTypeObject *)Py_NewRef(context));
        rc = find_version(ssl, state->SSLObject, &state->ssl_version);
    }
    if (rc == 0 && state->SSLContext != NULL) {
        int known = is_wrapping_known(ssl, object, context);
        rc = known <= 0 ? known
                        : find_version(ssl, state->SSLContext, &state->context_version);
    }
    Py_DECREF(ssl);
    Py_XDECREF(object);
    Py_XDECREF(context);
    Py_XDECREF(made);
    return rc;
}

int
ac_sslmodule_remember(ac_state *state)
{
    PyObject *object = ac_state_import("ssl", "SSLObject");
    if (object == NULL) {
        return -1;
    }
    Py_XSETREF(state->ssl_read, PyObject_GetAttr(object, state->str_read));
    Py_XSETREF(state->ssl_write, PyObject_GetAttr(object, state->str_write));
    Py_XSETREF(state->ssl_pending, PyObject_GetAttr(object, state->str_pending));
    Py_DECREF(object);
    PyObject *type = ac_state_import("_ssl", "_SSLSocket");
    Py_XSETREF(state->SSLSocket, (PyTypeObject *)type);
    return state->ssl_read == NULL || state->ssl_write == NULL
                   || state->ssl_pending == NULL || type == NULL
               ? -1
               : remember_classes(state);
}

bool
ac_sslmodule_is_object(const ac_state *state, PyObject *sslobj)
{
    if (sslobj == NULL || !Py_IS_TYPE(sslobj, state->SSLObject)
        || state->ssl_version == 0
        || ac_type_version(state->SSLObject) != state->ssl_version)
    {
        return false;
    }
    PyObject *dict = ac_instance_dict_borrowed(sslobj);
    return dict != NULL && PyDict_GET_SIZE(dict) == 1;  // `_sslobj`
}

bool
ac_sslmodule_is_context(const ac_state *state, PyObject *context)
{
    if (!Py_IS_TYPE(context, state->SSLContext) || state->context_version == 0
        || ac_type_version(state->SSLContext) != state->context_version
        || state->ssl_version == 0
        || ac_type_version(state->SSLObject) != state->ssl_version)
    {
        return false;
    }
    PyObject *dict = ac_instance_dict_borrowed(context);
    return dict == NULL || PyDict_GET_SIZE(dict) == 0;
}

/* type(sslobj).<name> is the function that ssl.SSLObject had at first. */
static int
is_stock(PyObject *sslobj, PyObject *name, PyObject *stock)
{
    PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(sslobj), name);
    Py_XDECREF(found);
    return found == NULL ? -1 : found == stock;
}

int
ac_sslmodule_has_records(ac_state *state, PyObject *sslobj)
{
    int rc = is_stock(sslobj, state->str_read, state->ssl_read);
    if (rc == 1) {
        rc = is_stock(sslobj, state->str_write, state->ssl_write);
    }
    return rc == 1 ? is_stock(sslobj, state->str_pending, state->ssl_pending) : rc;
}
