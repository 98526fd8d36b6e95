/* Receiving: the event of a transport that reads.
 *
 * The standard transport takes one datagram in a turn. Here the turns are joined as
 * long as nobody can tell (ac_run_may_go_on): a datagram that makes the protocol
 * schedule something, write to a stream, pause or close is the last of its event, and
 * what else is ready or due comes first. recvmmsg would take datagrams out of the
 * kernel that then could not be delivered. */
#include "core/python.h"

#include "core/errors.h"
#include "datagram/call.h"
#include "datagram/reading.h"
#include "loop/run.h"
#include "loop/watcher.h"

#include <errno.h>
#include <sys/socket.h>

/* So many datagrams an event at most; as many as libuv takes. */
#define BATCH 32

typedef enum {
    RAISED = -1,
    DRAINED,   /* the kernel has no more */
    DELIVERED, /* the protocol has got a datagram */
    FAILED,    /* it was told of an error */
    UNKNOWN,   /* not a socket that can be read here: the standard's code shall look */
} outcome;

/* What the standard's does with the exception being raised. */
static outcome
failed(DatagramObject *self)
{
    int rc = ac_call_failed_raised(self, "Fatal read error on datagram transport");
    return rc < 0 ? RAISED : FAILED;
}

/* The protocol's part: `n` bytes at `bytes`. */
static outcome
deliver(DatagramObject *self, const char *bytes, ssize_t n,
        const struct sockaddr_storage *from, socklen_t from_len)
{
    PyObject *data = PyBytes_FromStringAndSize(bytes, n);
    PyObject *address = NULL;
    if (data != NULL) {
        address = ac_address_object(&self->addresses, from, from_len);
    }
    if (address == NULL) {
        Py_XDECREF(data);
        return failed(self);
    }
    int rc = ac_call_datagram_received(self, data, address);
    Py_DECREF(data);
    Py_DECREF(address);
    return rc < 0 ? RAISED : DELIVERED;
}

static outcome
receive(DatagramObject *self, LoopObject *loop, int fd)
{
    char *buffer = ac_loop_read_buffer(loop);
    if (buffer == NULL) {
        return failed(self);
    }
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(fd, buffer, AC_READ_BUFFER, MSG_DONTWAIT,
                         (struct sockaddr *)&from, &from_len);
    if (n >= 0) {
        from_len = from_len < sizeof(from) ? from_len : sizeof(from);
        return deliver(self, buffer, n, &from, from_len);
    }
    if (ac_errors_is_transient(-errno)) {
        return DRAINED;
    }
    return ac_call_error_received(self, errno) < 0 ? RAISED : FAILED;
}

/* Whether the standard transport would be called again, with nothing in between. */
static bool
may_go_on(DatagramObject *self, LoopObject *loop, int fd)
{
    if (!ac_run_may_go_on(loop) || self->conn_lost != 0 || self->closing != Py_False
        || self->paused != Py_False || !ac_datagram_queue_is_empty(self))
    {
        return false;
    }
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    return watcher != NULL && watcher->wanted & AC_READ && ac_datagram_fd(self) == fd;
}

/* As _SelectorDatagramTransport._read_ready. */
static outcome
read_ready(DatagramObject *self)
{
    if (self->conn_lost != 0) {
        return DRAINED;
    }
    PyObject *max_size = PyObject_GetAttr((PyObject *)self, self->state->str_max_size);
    bool usual = max_size == self->state->datagram_max_size;
    if (max_size == NULL) {
        PyErr_Clear();  // the standard's code finds it as well
    }
    Py_XDECREF(max_size);
    if (!usual || self->loop == NULL
        || !PyObject_TypeCheck(self->loop, self->state->Loop)) {
        return UNKNOWN;
    }
    int fd = ac_datagram_fd(self);
    if (fd < 0) {
        return UNKNOWN;
    }
    LoopObject *loop = (LoopObject *)Py_NewRef(self->loop);
    outcome result = receive(self, loop, fd);
    for (int i = 1; i < BATCH && result == DELIVERED && may_go_on(self, loop, fd); i++)
    {
        result = receive(self, loop, fd);
    }
    Py_DECREF(loop);
    return result;
}

PyDoc_STRVAR(datagram__read_ready_doc, "_read_ready($self, /)\n--\n\n"
                                       "Receive and tell the protocol.");

static PyObject *
datagram__read_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DatagramObject *self = (DatagramObject *)op;
    outcome result = read_ready(self);
    if (result == UNKNOWN) {
        return PyObject_CallOneArg(self->state->datagram_read_ready, op);
    }
    if (result == RAISED) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef ac_reading_methods[] = {
    {"_read_ready", datagram__read_ready, METH_NOARGS, datagram__read_ready_doc},
    {NULL, NULL, 0, NULL},
};
