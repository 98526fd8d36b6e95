/* Sending: a datagram that the kernel takes at once.
 *
 * What is not the usual way goes to the standard's sendto(), before anything was
 * sent: empty datagrams (which the versions treat differently), transports that are
 * closing, addresses that need a look-up or are wrong, and whatever has to wait. The
 * queue is the standard's as well, and copies. */
#include "core/python.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/method.h"
#include "core/nosignal.h"
#include "datagram/call.h"
#include "datagram/elsewhere.h"
#include "datagram/sending.h"

#include <errno.h>
#include <sys/socket.h>

typedef enum {
    RAISED = -1,
    DONE,    /* sent, or the protocol was told of an error */
    UNKNOWN, /* nothing was sent: the standard's code shall see to it */
} outcome;

/* Where a datagram goes. */
typedef struct {
    PyObject *address; /* borrowed from the caller, or from the transport; NULL: the
                          socket is connected */
    struct sockaddr_storage bytes;
    socklen_t len; /* 0: the socket is connected */
} target;

/* True for an object that is true and that no Python code is needed to ask. */
static bool
is_plainly_true(PyObject *object)
{
    return (PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) > 0)
           || (PyUnicode_CheckExact(object) && PyUnicode_GET_LENGTH(object) > 0)
           || (PyBytes_CheckExact(object) && PyBytes_GET_SIZE(object) > 0);
}

/* The socket's address family; AF_UNSPEC if it does not tell. */
static int
socket_family(DatagramObject *self)
{
    if (self->family == AF_UNSPEC) {
        long number = ac_method_attribute_number(self->sock, self->state->str_family);
        PyErr_Clear();
        self->family = number > 0 && number < INT_MAX ? (int)number : AF_UNSPEC;
    }
    return self->family;
}

/* Finds out where a datagram goes that is sent to `address` (None: not given). */
static bool
find_target(DatagramObject *self, PyObject *address, target *to)
{
    PyObject *fixed = self->address;
    if (fixed != NULL && fixed != Py_None) {
        if (!is_plainly_true(fixed) || (address != Py_None && address != fixed)) {
            return false;
        }
        address = fixed;
    }
    if (self->extra == NULL || !PyDict_CheckExact(self->extra)) {
        return false;
    }
    PyObject *peer = PyDict_GetItemWithError(self->extra, self->state->str_peername);
    if (peer == NULL) {
        PyErr_Clear();
        return false;
    }
    to->address = NULL;
    to->len = 0;
    if (peer != Py_None) {
        return is_plainly_true(peer);
    }
    to->address = address;
    return address != Py_None
           && ac_address_parse(&self->addresses, socket_family(self), address,
                               &to->bytes, &to->len);
}

/* What socket.sendto() tells of its use. Runs the hooks, if there are any. */
static int
audit(DatagramObject *self, const target *to)
{
    if (to->address == NULL) {
        return 0;
    }
    PyObject *sock = Py_NewRef(self->sock);
    PyObject *address = Py_NewRef(to->address);
    int rc = PySys_Audit("socket.sendto", "OO", sock, address);
    Py_DECREF(sock);
    Py_DECREF(address);
    return rc;
}

/* One system call. Returns 0 or an errno. */
static int
transmit(DatagramObject *self, const Py_buffer *view, const target *to)
{
    int fd = ac_datagram_fd(self);  // a hook may have closed it
    if (fd < 0) {
        return EBADF;
    }
    const struct sockaddr *address =
        to->len == 0 ? NULL : (const struct sockaddr *)&to->bytes;
    ssize_t n = sendto(fd, view->buf, (size_t)view->len, MSG_NOSIGNAL | MSG_DONTWAIT,
                       address, to->len);
    return n < 0 ? errno : 0;
}

static outcome
send_now(DatagramObject *self, PyObject *data, PyObject *address)
{
    target to;
    if (self->conn_lost != 0 || !ac_datagram_queue_is_empty(self)
        || !(PyBytes_CheckExact(data) || PyByteArray_CheckExact(data)
             || PyMemoryView_Check(data))
        || ac_datagram_fd(self) < 0 || !find_target(self, address, &to))
    {
        return UNKNOWN;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return UNKNOWN;
    }
    if (view.len == 0) {
        PyBuffer_Release(&view);
        return UNKNOWN;
    }
    int rc = audit(self, &to);
    int error = rc < 0 ? 0 : transmit(self, &view, &to);
    PyBuffer_Release(&view);  // before the protocol is called, which may use the object
    if (rc < 0) {
        rc = ac_call_failed_raised(self, "Fatal write error on datagram transport");
    }
    else if (ac_errors_is_transient(-error)) {
        return UNKNOWN;
    }
    else if (error != 0) {
        rc = ac_call_error_received(self, error);
    }
    return rc < 0 ? RAISED : DONE;
}

PyDoc_STRVAR(datagram_sendto_doc,
             "sendto($self, /, data, addr=None)\n--\n\n"
             "Send bytes, bytearray or memoryview as one datagram; never blocks.\n\n"
             "Sent at once if the kernel takes it, else copied and queued.");

static PyObject *
datagram_sendto(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    DatagramObject *self = (DatagramObject *)op;
    ac_state *state = self->state;
    Py_ssize_t nkeywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *address = NULL;
    if (nkeywords == 0 && (nargs == 1 || nargs == 2)) {
        address = nargs == 2 ? args[1] : Py_None;
    }
    else if (nkeywords == 1 && nargs == 1
             && ac_args_is(PyTuple_GET_ITEM(kwnames, 0), state->str_addr))
    {
        address = args[1];
    }
    int handed = address == NULL ? 0 : ac_elsewhere_send(self, args[0], address);
    if (handed != 0) {
        return handed < 0 ? NULL : Py_NewRef(Py_None);
    }
    outcome result = address == NULL ? UNKNOWN : send_now(self, args[0], address);
    if (result == RAISED) {
        return NULL;
    }
    if (result == DONE) {
        Py_RETURN_NONE;
    }
    return ac_method_pass_on(state->datagram_sendto, op, args, nargs, kwnames);
}

PyMethodDef ac_sending_methods[] = {
    {"sendto", AC_CFUNCTION(datagram_sendto), METH_FASTCALL | METH_KEYWORDS,
     datagram_sendto_doc},
    {NULL, NULL, 0, NULL},
};
