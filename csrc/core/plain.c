/* What is asked of plain sockets.
 *
 * The number and the time-out of a socket are read out of its struct, which is private
 * to the interpreter, if a trial at the first use has shown where they lie; else its
 * methods tell, at 560 more of the 6,700 instructions of an echo. */
#include "core/python.h"

#include "core/plain.h"

#include <sys/socket.h>

/* What C code does in their place; everything else goes through the object. */
static const char *const methods[] = {
    "recv",        "recv_into",  "recvfrom",    "recvfrom_into", "send",
    "sendmsg",     "sendto",     "_accept",     "connect",       "shutdown",
    "setblocking", "fileno",     "getpeername", "getsockname",   "gettimeout",
    "getsockopt",  "setsockopt",
};

/* Likewise those that are methods of socket.socket itself. */
static const char *const own_methods[] = {"__init__", "accept", "close", "detach"};
#define OWN_METHODS (sizeof(own_methods) / sizeof(own_methods[0]))

/* The latter as they are now, a tuple. */
static PyObject *
look_up_own(ac_state *state)
{
    PyObject *found = PyTuple_New(OWN_METHODS);
    for (size_t i = 0; found != NULL && i < OWN_METHODS; i++) {
        PyObject *method = PyObject_GetAttrString(state->socket_type, own_methods[i]);
        if (method == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyTuple_SET_ITEM(found, (Py_ssize_t)i, method);
    }
    return found;
}

int
ac_plain_note(ac_state *state)
{
    state->socket_stock = look_up_own(state);
    return state->socket_stock == NULL ? -1 : 0;
}

/* Looks whether the class has the methods of its C base class, which is immutable, and
 * its own as they were. A class that has is remembered by its version. Returns -1 with
 * an exception. */
static int
look_again(ac_state *state)
{
    unsigned int version = ac_type_version_to_note((PyTypeObject *)state->socket_type);
    bool unchanged = true;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        PyObject *base = PyObject_GetAttrString(state->socket_base, methods[i]);
        PyObject *actual = base == NULL
                               ? NULL
                               : PyObject_GetAttrString(state->socket_type, methods[i]);
        bool same = base == actual;
        Py_XDECREF(base);
        Py_XDECREF(actual);
        if (actual == NULL) {
            return -1;
        }
        unchanged = unchanged && same;
    }
    PyObject *own = look_up_own(state);
    if (own == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(own); i++) {
        unchanged =
            unchanged
            && PyTuple_GET_ITEM(own, i) == PyTuple_GET_ITEM(state->socket_stock, i);
    }
    Py_DECREF(own);
    if (unchanged) {
        AC_STORE(state->socket_version, version);
    }
    return unchanged;
}

int
ac_plain_class_is(ac_state *state)
{
    unsigned int version = ac_type_version((PyTypeObject *)state->socket_type);
    return version != 0 && version == AC_LOAD(state->socket_version)
               ? 1
               : look_again(state);
}

int
ac_plain_is(ac_state *state, PyObject *sock)
{
    return Py_IS_TYPE(sock, (PyTypeObject *)state->socket_type)
               ? ac_plain_class_is(state)
               : 0;
}

/* ----------------------------------------------------------------- the struct -- */

#define TYPE_MASK 0xf /* without SOCK_NONBLOCK, SOCK_CLOEXEC */

/* PySocketSockObject of Modules/socketmodule.h, as far as it is needed. */
typedef struct {
    PyObject_HEAD
    int fd;
    int family;
    int type;
    int proto;
    PyObject *(*errorhandler)(void);
    int64_t timeout; /* nanoseconds, negative: None */
} socket_struct;

enum {
    LAYOUT_UNKNOWN,
    LAYOUT_PROVEN,
    LAYOUT_OTHER
};

/* Whether the struct of a trial socket says what was set by the method `settimeout`. */
static bool
trial_agrees(PyObject *sock, PyObject *timeout, int64_t nanoseconds)
{
    PyObject *done = PyObject_CallMethod(sock, "settimeout", "O", timeout);
    PyObject *number = PyObject_CallMethod(sock, "fileno", NULL);
    const socket_struct *seen = (const socket_struct *)sock;
    bool agrees = done != NULL && number != NULL && PyLong_AsLong(number) == seen->fd
                  && seen->family == AF_UNIX && (seen->type & TYPE_MASK) == SOCK_STREAM
                  && seen->proto == 0 && seen->timeout == nanoseconds;
    Py_XDECREF(done);
    Py_XDECREF(number);
    return agrees;
}

/* Looks at a socket of our own. Without a free descriptor nothing is found out. */
static void
prove_layout(ac_state *state)
{
    PyTypeObject *base = (PyTypeObject *)state->socket_base;
    if (base->tp_basicsize < (Py_ssize_t)sizeof(socket_struct)) {
        AC_STORE(state->socket_layout, LAYOUT_OTHER);
        return;
    }
    PyObject *sock =
        PyObject_CallFunction(state->socket_base, "ii", AF_UNIX, SOCK_STREAM);
    PyObject *seconds = PyFloat_FromDouble(1.5);
    PyObject *zero = PyFloat_FromDouble(0.0);
    if (sock != NULL && seconds != NULL && zero != NULL) {
        bool proven = trial_agrees(sock, seconds, 1500000000)
                      && trial_agrees(sock, Py_None, -1000000000)
                      && trial_agrees(sock, zero, 0);
        PyObject *closed = PyObject_CallMethod(sock, "close", NULL);
        proven = closed != NULL && proven && ((socket_struct *)sock)->fd == -1;
        Py_XDECREF(closed);
        AC_STORE(state->socket_layout, proven ? LAYOUT_PROVEN : LAYOUT_OTHER);
    }
    PyErr_Clear();
    Py_XDECREF(sock);
    Py_XDECREF(seconds);
    Py_XDECREF(zero);
}

static inline bool
layout_is_known(ac_state *state)
{
    if (AC_LOAD(state->socket_layout) == LAYOUT_UNKNOWN) {
        prove_layout(state);
    }
    return AC_LOAD(state->socket_layout) == LAYOUT_PROVEN;
}

int
ac_plain_number(ac_state *state, PyObject *sock)
{
    if (layout_is_known(state)) {
        return ((socket_struct *)sock)->fd;
    }
    PyObject *number = PyObject_CallOneArg(state->socket_fileno, sock);
    if (number == NULL) {
        return -2;
    }
    int fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return fd;
}

bool
ac_plain_kind(ac_state *state, PyObject *sock, int *family, int *type, int *proto)
{
    if (!layout_is_known(state)) {
        return false;
    }
    const socket_struct *seen = (const socket_struct *)sock;
    *family = seen->family;
    *type = seen->type & TYPE_MASK;
    *proto = seen->proto;
    return true;
}

int
ac_plain_is_nonblocking(ac_state *state, PyObject *sock)
{
    if (layout_is_known(state)) {
        return ((socket_struct *)sock)->timeout == 0;
    }
    PyObject *timeout = PyObject_CallOneArg(state->socket_gettimeout, sock);
    if (timeout == NULL) {
        return -1;
    }
    int is_zero = PyFloat_CheckExact(timeout) && PyFloat_AS_DOUBLE(timeout) == 0.0;
    Py_DECREF(timeout);
    return is_zero;
}
