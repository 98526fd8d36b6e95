/* Receiving.
 *
 * sock_recv and sock_recv_into do the system call themselves, on a socket whose calls
 * do not wait; what is not usual goes to the method of the socket object, as do the
 * calls that give an address. */
#include "core/python.h"

#include "core/plain.h"
#include "loop/watcher.h"
#include "sock/receive.h"

#include <errno.h>
#include <sys/socket.h>

/* From this size on the next read is expected to be large as well. */
#define LARGE_READ (32 * 1024)

/* The size that sock_recv asks for, or -1: it is none, or no usual one. */
static Py_ssize_t
size_of(PyObject *number)
{
    if (!PyLong_CheckExact(number)) {
        return -1;
    }
    int overflow;
    long long size = PyLong_AsLongLongAndOverflow(number, &overflow);
    return overflow != 0 || size <= 0 || size > INT_MAX ? -1 : (Py_ssize_t)size;
}

/* Receives into a bytes object of its own, of which the rest is given back. Returns
 * as an attempt. */
static int
receive_fresh(OperationObject *self, int fd, Py_ssize_t size, PyObject **result)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes == NULL) {
        return -1;
    }
    ssize_t n = recv(fd, PyBytes_AS_STRING(bytes), (size_t)size, 0);
    if (n < 0) {
        int number = errno;
        Py_DECREF(bytes);
        return ac_operation_failed(-number);
    }
    self->loop->sock_reads_are_large = n >= LARGE_READ;
    if (n < size && _PyBytes_Resize(&bytes, n) < 0) {
        return -1;
    }
    *result = bytes;
    return 1;
}

/* The same through the loop's buffer: one copy, but memory of the right size. */
static int
receive_shared(OperationObject *self, int fd, Py_ssize_t size, PyObject **result)
{
    char *buffer = ac_loop_read_buffer(self->loop);
    if (buffer == NULL) {
        return -1;
    }
    ssize_t n = recv(fd, buffer, (size_t)size, 0);
    if (n < 0) {
        return ac_operation_failed(-errno);
    }
    self->loop->sock_reads_are_large = n >= LARGE_READ;
    *result = PyBytes_FromStringAndSize(buffer, n);
    return *result == NULL ? -1 : 1;
}

static int
recv_attempt(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    Py_ssize_t size = size_of(self->args[0]);
    if (size < 0 || !self->nonblocking) {
        return ac_operation_call(state->str_recv, self->sock, self->args, 1, result);
    }
    int fd = ac_plain_number(state, self->sock);
    if (fd == -2) {
        return -1;
    }
    if (size > AC_READ_BUFFER
        || (self->loop->sock_reads_are_large && size >= LARGE_READ)) {
        return receive_fresh(self, fd, size, result);
    }
    return receive_shared(self, fd, size, result);
}

const ac_operation_kind ac_receive_recv = {
    .min_args = 1,
    .max_args = 1,
    .event = AC_READ,
    .attempt = recv_attempt,
};

/* One recv into the memory of a view. Returns as an attempt. */
static int
receive_into(ac_state *state, PyObject *sock, const Py_buffer *view, PyObject **result)
{
    int fd = ac_plain_number(state, sock);
    if (fd == -2) {
        return -1;
    }
    ssize_t n = recv(fd, view->buf, (size_t)view->len, 0);
    if (n < 0) {
        return ac_operation_failed(-errno);
    }
    *result = PyLong_FromSsize_t(n);
    return *result == NULL ? -1 : 1;
}

static int
recv_into_attempt(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    // held: __buffer__() may close the coroutine
    PyObject *sock = Py_NewRef(self->sock), *buffer = Py_NewRef(self->args[0]);
    Py_buffer view;
    bool usual = self->nonblocking && PyObject_CheckBuffer(buffer);
    if (usual && PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();  // the method of the socket has its own words for it
        usual = false;
    }
    else if (usual && view.len == 0) {
        PyBuffer_Release(&view);
        usual = false;
    }
    int rc;
    if (usual) {
        rc = receive_into(state, sock, &view, result);
        PyBuffer_Release(&view);
    }
    else {
        rc = ac_operation_call(state->str_recv_into, sock, &buffer, 1, result);
    }
    Py_DECREF(buffer);
    Py_DECREF(sock);
    return rc;
}

const ac_operation_kind ac_receive_recv_into = {
    .min_args = 1,
    .max_args = 1,
    .event = AC_READ,
    .attempt = recv_into_attempt,
};

static int
recvfrom_attempt(OperationObject *self, PyObject **result)
{
    return ac_operation_call(self->loop->state->str_recvfrom, self->sock, self->args, 1,
                             result);
}

const ac_operation_kind ac_receive_recvfrom = {
    .min_args = 1,
    .max_args = 1,
    .event = AC_READ,
    .attempt = recvfrom_attempt,
};

/* `nbytes` that is not given or 0 means all of the buffer, when the method begins. */
static int
recvfrom_into_attempt(OperationObject *self, PyObject **result)
{
    if (!self->waited) {
        int given = self->args[1] == NULL ? 0 : PyObject_IsTrue(self->args[1]);
        if (given < 0) {
            return -1;
        }
        if (!given) {
            Py_ssize_t size = PyObject_Size(self->args[0]);
            PyObject *number = size < 0 ? NULL : PyLong_FromSsize_t(size);
            if (number == NULL) {
                return -1;
            }
            Py_XSETREF(self->args[1], number);
        }
    }
    return ac_operation_call(self->loop->state->str_recvfrom_into, self->sock,
                             self->args, 2, result);
}

const ac_operation_kind ac_receive_recvfrom_into = {
    .min_args = 1,
    .max_args = 2,
    .event = AC_READ,
    .attempt = recvfrom_into_attempt,
};
