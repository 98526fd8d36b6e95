/* The clients of a server, since 3.13 a WeakSet of transports.
 *
 * Its methods and the server's are five frames of Python for a connection, a fifth
 * of its instructions. What they do to the set is done here, as long as the classes are
 * those of the interpreter as they were at import and do no more than is known; else
 * they are called. */
#include "core/python.h"

#include "core/code.h"
#include "stream/clients.h"

#include <string.h>

/* The methods that are left out, and all that these make use of. */
static const struct {
    bool of_server;
    const char *name;
} methods[] = {{true, "_attach"},
               {true, "_detach"},
               {false, "add"},
               {false, "discard"},
               {false, "__len__"}};
#define METHODS ((Py_ssize_t)(sizeof(methods) / sizeof(methods[0])))

static const char *const known_names[] = {
    "_clients",         "_sockets", "_wakeup", "_pending_removals",
    "_commit_removals", "_remove",  "add",     "data",
    "discard",          "len",      "ref",     NULL};

/* -------------------------------------------------------------- the classes -- */

/* The methods as they are now: a new tuple. */
static PyObject *
look_up(ac_state *state)
{
    PyObject *found = PyTuple_New(METHODS);
    for (Py_ssize_t i = 0; found != NULL && i < METHODS; i++) {
        PyObject *type =
            methods[i].of_server ? state->server_type : state->weakset_type;
        PyObject *method = PyObject_GetAttrString(type, methods[i].name);
        if (method == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyTuple_SET_ITEM(found, i, method);
    }
    return found;
}

/* Compares them. Those that are unchanged are remembered by their versions. */
static int
look_again(ac_state *state)
{
    unsigned int server = ac_type_version_to_note((PyTypeObject *)state->server_type);
    unsigned int set = ac_type_version_to_note((PyTypeObject *)state->weakset_type);
    PyObject *now = look_up(state);
    if (now == NULL) {
        return -1;
    }
    bool unchanged = true;
    for (Py_ssize_t i = 0; i < METHODS; i++) {
        if (PyTuple_GET_ITEM(now, i) != PyTuple_GET_ITEM(state->clients_stock, i)) {
            unchanged = false;
        }
    }
    Py_DECREF(now);
    if (unchanged) {
        AC_STORE(state->clients_versions[0], server);
        AC_STORE(state->clients_versions[1], set);
    }
    return unchanged;
}

/* Whether the two classes are as they were at import. Returns -1 with an exception. */
static int
is_unchanged(ac_state *state)
{
    unsigned int server = ac_type_version((PyTypeObject *)state->server_type);
    unsigned int set = ac_type_version((PyTypeObject *)state->weakset_type);
    return server != 0 && set != 0 && server == AC_LOAD(state->clients_versions[0])
                   && set == AC_LOAD(state->clients_versions[1])
               ? 1
               : look_again(state);
}

/* ------------------------------------------------------------------ the set -- */

/* What a WeakSet is made of; borrowed. */
typedef struct {
    PyObject *data;   /* a set of weak references */
    PyObject *remove; /* their callback */
} weak_set;

/* The set of a server that accepts, if nobody iterates over it. Returns false if the
 * methods are to be called. Runs no Python. */
static bool
clients_of(const ac_state *state, PyObject *server, weak_set *set)
{
    PyObject *dict = ac_instance_dict_borrowed(server);
    if (dict == NULL || PyDict_GetItemWithError(dict, state->str__attach) != NULL
        || PyDict_GetItemWithError(dict, state->str__detach) != NULL)
    {
        return false;
    }
    PyObject *sockets = PyDict_GetItemWithError(dict, state->str__sockets);
    PyObject *clients = PyDict_GetItemWithError(dict, state->str__clients);
    if (sockets == NULL || sockets == Py_None || clients == NULL
        || !Py_IS_TYPE(clients, (PyTypeObject *)state->weakset_type))
    {
        return false;
    }
    PyObject *parts = ac_instance_dict_borrowed(clients);
    if (parts == NULL || PyDict_GET_SIZE(parts) != state->weakset_parts) {
        return false;
    }
    // which 3.14 has no more
    PyObject *pending = PyDict_GetItemWithError(parts, state->str__pending_removals);
    set->data = PyDict_GetItemWithError(parts, state->str_data);
    set->remove = PyDict_GetItemWithError(parts, state->str__remove);
    return set->data != NULL && Py_IS_TYPE(set->data, &PySet_Type)
           && set->remove != NULL
           && (pending == NULL
               || (PyList_CheckExact(pending) && PyList_GET_SIZE(pending) == 0));
}

/* server.name(transport), or server.name() before 3.13. */
static int
call_method(ac_state *state, PyObject *server, PyObject *name, PyObject *transport)
{
    PyObject *result = state->server_takes_transport
                           ? PyObject_CallMethodOneArg(server, name, transport)
                           : PyObject_CallMethodNoArgs(server, name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Adds to the set or discards from it. */
static int
change(ac_state *state, PyObject *server, PyObject *name, PyObject *transport)
{
    weak_set set;
    int usual = 0;
    if (state->clients_stock != NULL
        && Py_IS_TYPE(server, (PyTypeObject *)state->server_type))
    {
        usual = is_unchanged(state);
    }
    if (usual <= 0 || !clients_of(state, server, &set)) {
        return usual < 0 ? -1 : call_method(state, server, name, transport);
    }
    bool adds = name == state->str__attach;
    PyObject *data = Py_NewRef(set.data);
    PyObject *ref = PyWeakref_NewRef(transport, adds ? set.remove : NULL);
    int rc = -1;
    if (ref != NULL) {
        rc = adds ? PySet_Add(data, ref) : PySet_Discard(data, ref);
        Py_DECREF(ref);
    }
    Py_DECREF(data);
    return rc < 0 ? -1 : 0;
}

int
ac_clients_attach(ac_state *state, PyObject *server, PyObject *transport)
{
    return change(state, server, state->str__attach, transport);
}

int
ac_clients_detach(ac_state *state, PyObject *server, PyObject *transport)
{
    return change(state, server, state->str__detach, transport);
}

/* ---------------------------------------------------------------- at import -- */

/* Whether all of them are of their own modules and do nothing that is not known. */
static int
are_stock(PyObject *found)
{
    PyObject *servers = PyImport_ImportModule("asyncio.base_events");
    PyObject *sets = servers == NULL ? NULL : PyImport_ImportModule("_weakrefset");
    int stock = sets == NULL ? -1 : 1;
    for (Py_ssize_t i = 0; stock > 0 && i < METHODS; i++) {
        PyObject *globals = PyModule_GetDict(methods[i].of_server ? servers : sets);
        stock = ac_code_uses_only(PyTuple_GET_ITEM(found, i), globals, known_names);
    }
    Py_XDECREF(servers);
    Py_XDECREF(sets);
    return stock;
}

int
ac_clients_register(ac_state *state)
{
    if (!state->server_takes_transport) {
        return 0;
    }
    state->server_type = ac_state_import("asyncio.base_events", "Server");
    state->weakset_type = ac_state_import("_weakrefset", "WeakSet");
    PyObject *found = NULL, *fresh = NULL;
    if (state->server_type != NULL && state->weakset_type != NULL) {
        found = look_up(state);
        fresh = PyObject_CallNoArgs(state->weakset_type);
    }
    int stock = found == NULL || fresh == NULL ? -1 : are_stock(found);
    PyObject *parts = stock > 0 ? ac_instance_dict_borrowed(fresh) : NULL;
    if (parts != NULL) {
        state->weakset_parts = PyDict_GET_SIZE(parts);
        state->clients_stock = Py_NewRef(found);
    }
    Py_XDECREF(found);
    Py_XDECREF(fresh);
    return stock < 0 ? -1 : 0;
}
