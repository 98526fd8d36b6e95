#include "core/python.h"

#include "core/errors.h"
#include "core/connecting.h"

#include <errno.h>
#include <sys/socket.h>

PyObject *
ac_connecting_address(void *of)
{
    const ac_connecting_target *target = of;
    PyObject *address = target->address;
    if (target->family != AF_INET6) {
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
 * connection is still being made. */
static int
failed(int err, ac_connecting_target *target)
{
    if (ac_errors_is_transient(-err)) {
        return 0;
    }
    PyObject *all = ac_connecting_address(target);
    PyObject *text =
        all == NULL ? NULL : PyUnicode_FromFormat("Connect call failed %S", all);
    PyObject *exc =
        text == NULL ? NULL : PyObject_CallFunction(PyExc_OSError, "iO", err, text);
    Py_XDECREF(all);
    Py_XDECREF(text);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return -1;
}

int
ac_connecting_audit(PyObject *(*sock)(void *), void *of, ac_connecting_target *target)
{
    return PySys_Audit("socket.connect", "O&O&", sock, of, ac_connecting_address,
                       target);
}

int
ac_connecting_result(int fd, ac_connecting_target *target)
{
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0) {
        return err == 0 ? 1 : failed(err, target);
    }
    if (ac_errors_is_transient(-errno)) {
        return 0;
    }
    (void)ac_errors_errno(errno);
    return -1;
}
