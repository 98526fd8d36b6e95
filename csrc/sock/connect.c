/* Connecting: once, then by SO_ERROR, when the socket is writable. */
#include "core/python.h"

#include "core/errors.h"
#include "core/plain.h"
#include "core/sockaddr.h"
#include "loop/watcher.h"
#include "sock/connect.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Addresses that take no look-up: `_ensure_resolved` gives them as they are. */
static bool
connect_accepts(ac_state *state, PyObject *const *args)
{
    int family, type, proto;
    if (!ac_plain_kind(state, args[0], &family, &type, &proto)) {
        return false;
    }
    if (family != AF_INET && family != AF_INET6) {
        return true;
    }
    struct sockaddr_storage address;
    socklen_t len;
    return (type == SOCK_STREAM || type == SOCK_DGRAM)
           && (proto == 0 || proto == IPPROTO_TCP || proto == IPPROTO_UDP)
           && ac_sockaddr_parse(family, args[1], &address, &len);
}

/* The address as `_ensure_resolved` gives it: those of IPv6 have four members. New
 * reference, NULL with an exception. */
static PyObject *
resolved(OperationObject *self)
{
    PyObject *address = self->args[0];
    int family, type, proto;
    if (!ac_plain_kind(self->loop->state, self->sock, &family, &type, &proto)
        || family != AF_INET6)
    {
        return Py_NewRef(address);
    }
    PyObject *all = PyTuple_New(4);
    for (Py_ssize_t i = 0; all != NULL && i < 4; i++) {
        PyObject *member = i < PyTuple_GET_SIZE(address)
                               ? Py_NewRef(PyTuple_GET_ITEM(address, i))
                               : PyLong_FromLong(0);
        PyTuple_SET_ITEM(all, i, member);
        if (member == NULL) {
            Py_CLEAR(all);
        }
    }
    return all;
}

/* raise OSError(err, f'Connect call failed {address}'), but for one that says that the
 * connection is still being made. Returns as an attempt. */
static int
raise_failed(OperationObject *self, int err)
{
    if (ac_errors_is_transient(-err)) {
        return 0;
    }
    PyObject *address = resolved(self);
    PyObject *text = address == NULL
                         ? NULL
                         : PyUnicode_FromFormat("Connect call failed %S", address);
    PyObject *exc =
        text == NULL ? NULL : PyObject_CallFunction(PyExc_OSError, "iO", err, text);
    Py_XDECREF(address);
    Py_XDECREF(text);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return -1;
}

/* sock.connect(address). What is not usual goes to the method. */
static int
connect_first(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    struct sockaddr_storage address;
    socklen_t len;
    int family, type, proto;
    if (!self->nonblocking || !ac_plain_kind(state, self->sock, &family, &type, &proto)
        || !ac_sockaddr_parse(family, self->args[0], &address, &len))
    {
        return ac_operation_call(state->str_connect, self->sock, self->args, 1, result);
    }
    if (PySys_Audit("socket.connect", "OO", self->sock, self->args[0]) < 0) {
        return -1;
    }
    int fd = ac_plain_number(state, self->sock);  // a hook may have closed it
    if (fd == -2) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&address, len) < 0) {
        return ac_operation_failed(-errno);
    }
    *result = Py_NewRef(Py_None);
    return 1;
}

static int
connect_attempt(OperationObject *self, PyObject **result)
{
    if (!self->waited) {
        return connect_first(self, result);
    }
    int fd = ac_plain_number(self->loop->state, self->sock);
    if (fd == -2) {
        return -1;
    }
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) {
        return ac_operation_failed(-errno);
    }
    if (err != 0) {
        return raise_failed(self, err);
    }
    *result = Py_NewRef(Py_None);
    return 1;
}

const ac_operation_kind ac_connect = {
    .name = "sock_connect",
    .min_args = 1,
    .max_args = 1,
    .event = AC_WRITE,
    .accepts = connect_accepts,
    .attempt = connect_attempt,
};
