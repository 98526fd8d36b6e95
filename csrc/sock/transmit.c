/* Sending. */
#include "core/python.h"

#include "core/nosignal.h"
#include "core/plain.h"
#include "loop/watcher.h"
#include "sock/transmit.h"

#include <errno.h>
#include <sys/socket.h>

/* Data whose len() is its size in bytes, which the standard's counts with. */
static bool
sendall_accepts(ac_state *Py_UNUSED(state), PyObject *const *args)
{
    PyObject *data = args[1];
    if (PyMemoryView_Check(data)) {
        const Py_buffer *view = PyMemoryView_GET_BUFFER(data);
        return view->ndim == 1 && view->itemsize == 1
               && PyBuffer_IsContiguous(view, 'C');
    }
    return PyBytes_CheckExact(data) || PyByteArray_CheckExact(data);
}

/* send() on a socket that may wait: the method of the object. Returns as an attempt,
 * *sent is the number of bytes. */
static int
send_by_method(OperationObject *self, Py_ssize_t *sent)
{
    PyObject *rest = PyMemoryView_FromObject(self->args[0]);
    if (rest != NULL && self->sent > 0) {
        Py_SETREF(rest, PySequence_GetSlice(rest, self->sent, self->view.len));
    }
    if (rest == NULL) {
        return -1;
    }
    PyObject *number = NULL;
    int rc =
        ac_operation_call(self->loop->state->str_send, self->sock, &rest, 1, &number);
    Py_DECREF(rest);
    if (rc == 1) {
        *sent = PyLong_AsSsize_t(number);
        Py_DECREF(number);
    }
    return rc;
}

static int
send_some(OperationObject *self, Py_ssize_t *sent)
{
    if (!self->nonblocking) {
        return send_by_method(self, sent);
    }
    int fd = ac_plain_number(self->loop->state, self->sock);
    if (fd == -2) {
        return -1;
    }
    ssize_t n = send(fd, (char *)self->view.buf + self->sent,
                     (size_t)(self->view.len - self->sent), MSG_NOSIGNAL);
    if (n < 0) {
        return ac_operation_failed(-errno);
    }
    *sent = n;
    return 1;
}

/* One send, as the standard's: what is left waits for the next event. The view is held
 * as long as the data is needed, so that a bytearray cannot shrink meanwhile. */
static int
sendall_attempt(OperationObject *self, PyObject **result)
{
    if (!self->waited
        && PyObject_GetBuffer(self->args[0], &self->view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    Py_ssize_t sent = 0;
    int rc = send_some(self, &sent);
    if (rc < 0) {
        return -1;
    }
    self->sent += sent;
    if (self->sent < self->view.len) {
        return 0;
    }
    *result = Py_NewRef(Py_None);
    return 1;
}

const ac_operation_kind ac_transmit_sendall = {
    .min_args = 1,
    .max_args = 1,
    .event = AC_WRITE,
    .accepts = sendall_accepts,
    .attempt = sendall_attempt,
};

static int
sendto_attempt(OperationObject *self, PyObject **result)
{
    return ac_operation_call(self->loop->state->str_sendto, self->sock, self->args, 2,
                             result);
}

const ac_operation_kind ac_transmit_sendto = {
    .min_args = 2,
    .max_args = 2,
    .event = AC_WRITE,
    .attempt = sendto_attempt,
};
