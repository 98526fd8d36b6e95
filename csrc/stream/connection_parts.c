/* The parts of create_connection(), as they were when our class had been made: methods
 * of the loop, of the standard loop, and what they look up in their modules. */
#include "core/python.h"

#include "core/code.h"
#include "core/dictwatch.h"
#include "core/method.h"
#include "core/plain.h"
#include "loop/overrides.h"
#include "stream/connection_parts.h"

/* Methods that are looked up in the class of the loop. An instance's own are noticed
 * when they are assigned: loop/overrides.c. */
static const char *const methods[] = {
    "_connect_sock",    "_create_connection_transport",
    "_ensure_resolved", "_make_socket_transport",
    "sock_connect",
};
#define METHODS (sizeof(methods) / sizeof(methods[0]))

/* Those of the standard loop, which ours call or stand in for. */
enum {
    CONNECT_SOCK,
    CREATE_CONNECTION,
    CREATE_UNIX_CONNECTION,
};
static const char *const standard[] = {
    [CONNECT_SOCK] = "_connect_sock",
    [CREATE_CONNECTION] = "create_connection",
    [CREATE_UNIX_CONNECTION] = "create_unix_connection",
};
#define STANDARD (sizeof(standard) / sizeof(standard[0]))

/* What they may make use of, for us to know what they do: all of it in the way of
 * options, errors and debug mode, but for the parts. */
static const char *const known_names[] = {
    "AF_INET",
    "AF_INET6",
    "AF_UNIX",
    "AF_UNSPEC",
    "BaseException",
    "ExceptionGroup",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "OSError",
    "SOCK_DGRAM",
    "SOCK_STREAM",
    "TimeoutError",
    "TypeError",
    "ValueError",
    "_HAS_IPv6",
    "_check_ssl_socket",
    "_connect_sock",
    "_create_connection_transport",
    "_debug",
    "_ensure_resolved",
    "_interleave_addrinfos",
    "_ipaddr_info",
    "_make_socket_transport",
    "_make_ssl_transport",
    "all",
    "append",
    "bind",
    "bool",
    "bytes",
    "close",
    "contextvars",
    "copy_context",
    "create_future",
    "debug",
    "decode",
    "errno",
    "extend",
    "family",
    "format",
    "fspath",
    "functools",
    "get_extra_info",
    "getaddrinfo",
    "hasattr",
    "inet_pton",
    "int",
    "isinstance",
    "join",
    "len",
    "logger",
    "lower",
    "os",
    "partial",
    "pop",
    "setblocking",
    "sock_connect",
    "socket",
    "staggered",
    "staggered_race",
    "str",
    "strerror",
    "type",
    NULL,
};

static int
is_known(PyObject *owner, const char *name, PyObject *globals)
{
    PyObject *function = PyObject_GetAttrString(owner, name);
    int known =
        function == NULL ? -1 : ac_code_uses_only(function, globals, known_names);
    Py_XDECREF(function);
    return known;
}

/* Whether the interpreter's own code is what we know, and which of it. Returns -1 with
 * an exception. */
static int
standard_is_known(ac_state *state)
{
    PyObject *base = PyModule_GetDict(state->base_events);
    PyObject *loop = state->standard_loop;
    int known = 1;
    for (size_t i = 0; known > 0 && i < STANDARD; i++) {
        known = is_known(
            loop, standard[i],
            i == CREATE_UNIX_CONNECTION ? PyModule_GetDict(state->unix_events) : base);
    }
    known = known > 0 ? is_known(loop, "_ensure_resolved", base) : known;
    known = known > 0 ? is_known(loop, "_create_connection_transport", base) : known;
    known = known > 0 ? is_known(state->base_events, "_ipaddr_info", base) : known;
    if (known > 0) {
        PyObject *function =
            PyObject_GetAttrString(loop, "_create_connection_transport");
        int copies = function == NULL ? -1 : ac_code_uses(function, "copy_context");
        Py_XDECREF(function);
        state->connection_has_context = copies > 0;
        known = copies < 0 ? -1 : known;
    }
    return known;
}

/* All the parts, a tuple: first those of `type`, then the standard's. */
static PyObject *
look_up(ac_state *state, PyObject *type)
{
    PyObject *found = PyTuple_New(METHODS + STANDARD);
    for (size_t i = 0; found != NULL && i < METHODS + STANDARD; i++) {
        PyObject *part =
            i < METHODS ? ac_method_get(type, methods[i])
                        : ac_method_get(state->standard_loop, standard[i - METHODS]);
        if (part == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyTuple_SET_ITEM(found, (Py_ssize_t)i, part);
    }
    return found;
}

/* Compares those of the loop's class, and remembers its version where they are as they
 * were. */
static int
look_again(LoopObject *loop)
{
    ac_state *state = loop->state;
    unsigned int version = ac_type_version_to_note(Py_TYPE(loop));
    PyObject *now = look_up(state, (PyObject *)Py_TYPE(loop));
    bool same = now != NULL;
    for (Py_ssize_t i = 0; same && i < PyTuple_GET_SIZE(now); i++) {
        same = PyTuple_GET_ITEM(now, i) == PyTuple_GET_ITEM(state->connection_parts, i);
    }
    if (same) {
        loop->connection_version = version;
    }
    int rc = now == NULL ? -1 : same;
    Py_XDECREF(now);
    return rc;
}

/* Whether the modules have these names for what they had. Returns -1 with an exception.
 */
static int
names_are_same(ac_state *state)
{
    const struct {
        PyObject *module, *name, *value;
    } names[] = {
        {state->base_events, state->str_socket, state->socket_module},
        {state->base_events, state->str__ipaddr_info, state->stock_ipaddr_info},
        {state->base_events, state->str__set_nodelay, state->stock_set_nodelay},
        {state->unix_events, state->str_socket, state->socket_module},
        {state->socket_module, state->str_socket, state->socket_type},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        PyObject *found =
            ac_dictwatch_get(PyModule_GetDict(names[i].module), names[i].name);
        Py_XDECREF(found);
        if (found == NULL && PyErr_Occurred()) {
            return -1;
        }
        if (found == NULL || found != names[i].value) {
            return 0;
        }
    }
    return 1;
}

int
ac_connection_is_known(LoopObject *loop)
{
    ac_state *state = loop->state;
    if (state->connection_parts == NULL || loop->debug || loop->instrumented
        || loop->instance_overridden & AC_OVERRIDE_CONNECTION)
    {
        return 0;
    }
    unsigned int version = ac_type_version(Py_TYPE(loop));
    int known =
        version != 0 && version == loop->connection_version ? 1 : look_again(loop);
    known = known > 0 ? names_are_same(state) : known;
    return known > 0 ? ac_plain_class_is(state) : known;
}

PyObject *
ac_connection_function_borrowed(LoopObject *loop, bool is_unix)
{
    size_t of = METHODS + (is_unix ? CREATE_UNIX_CONNECTION : CREATE_CONNECTION);
    return PyTuple_GET_ITEM(loop->state->connection_parts, (Py_ssize_t)of);
}

/* ---------------------------------------------------------------- at import -- */

PyDoc_STRVAR(core_set_loop_class_doc,
             "_set_loop_class(type, /)\n--\n\n"
             "Tell the class of loops whose methods connections are made by.");

static PyObject *
core_set_loop_class(PyObject *module, PyObject *type)
{
    ac_state *state = ac_state_of(module);
    int known = standard_is_known(state);
    if (known > 0) {
        Py_XSETREF(state->connection_parts, look_up(state, type));
        known = state->connection_parts == NULL ? -1 : 1;
    }
    if (known < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef connection_parts_functions[] = {
    {"_set_loop_class", core_set_loop_class, METH_O, core_set_loop_class_doc},
    {NULL, NULL, 0, NULL},
};

int
ac_connection_parts_register(PyObject *module, ac_state *state)
{
    state->standard_loop = ac_state_import("asyncio", "SelectorEventLoop");
    state->unix_events = PyImport_ImportModule("asyncio.unix_events");
    state->socket_module = PyImport_ImportModule("socket");
    state->stock_ipaddr_info =
        PyObject_GetAttr(state->base_events, state->str__ipaddr_info);
    return state->standard_loop == NULL || state->unix_events == NULL
                   || state->socket_module == NULL || state->stock_ipaddr_info == NULL
               ? -1
               : PyModule_AddFunctions(module, connection_parts_functions);
}
