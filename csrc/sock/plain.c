/* What is asked of plain sockets. */
#include "core/python.h"

#include "sock/plain.h"

#include <stddef.h>

/* What C code does in their place; everything else goes through the object. */
static const char *const methods[] = {"recv", "recv_into", "send", "fileno",
                                      "gettimeout"};

/* Looks whether the class has the methods of its C base class, which is immutable. */
static int
look_again(ac_state *state)
{
    state->socket_is_patched = false;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        PyObject *base = PyObject_GetAttrString(state->socket_base, methods[i]);
        PyObject *actual = PyObject_GetAttrString(state->socket_type, methods[i]);
        bool same = base == actual;
        Py_XDECREF(base);
        Py_XDECREF(actual);
        if (base == NULL || actual == NULL) {
            return -1;
        }
        if (!same) {
            state->socket_is_patched = true;
        }
    }
    // given by the look-ups
    state->socket_version = ac_type_version((PyTypeObject *)state->socket_type);
    return 0;
}

int
ac_plain_is(ac_state *state, PyObject *sock)
{
    if (!Py_IS_TYPE(sock, (PyTypeObject *)state->socket_type)) {
        return 0;
    }
    unsigned int version = ac_type_version((PyTypeObject *)state->socket_type);
    if ((version == 0 || version != state->socket_version) && look_again(state) < 0) {
        return -1;
    }
    return !state->socket_is_patched;
}

int
ac_plain_number(ac_state *state, PyObject *sock)
{
    PyObject *number = PyObject_CallOneArg(state->socket_fileno, sock);
    if (number == NULL) {
        return -2;
    }
    int fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return fd;
}

int
ac_plain_is_nonblocking(ac_state *state, PyObject *sock)
{
    PyObject *timeout = PyObject_CallOneArg(state->socket_gettimeout, sock);
    if (timeout == NULL) {
        return -1;
    }
    int is_zero = PyFloat_CheckExact(timeout) && PyFloat_AS_DOUBLE(timeout) == 0.0;
    Py_DECREF(timeout);
    return is_zero;
}
