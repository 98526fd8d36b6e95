/* Waiting as the standard's `_sock_recv(fut, sock, n)` does it: the call is tried again
 * in the callback of the event, and its result goes to a future, which wakes the task
 * a turn later. A future that is done (cancelled) by then reads nothing: the data stays
 * in the kernel.
 *
 * The number's registration holds the operation while it waits, as the standard's
 * holds the future. The place is given back when the future is settled, where the
 * standard's gives it back in the turn after. */
#include "core/python.h"

#include "core/plain.h"
#include "io/number.h"
#include "loop/future.h"
#include "loop/report.h"
#include "sock/wait.h"

static void
wait_dropped(PyObject *op)
{
    ((OperationObject *)op)->registration = NULL;
}

static const ac_waiter_ops waiter_ops = {
    .ready = ac_wait_ready,
    .dropped = wait_dropped,
};

PyObject *
ac_wait_begin(OperationObject *self)
{
    LoopObject *loop = self->loop;
    self->future = ac_future_new(loop);
    if (self->future == NULL) {
        return NULL;
    }
    int fd = ac_plain_number(loop->state, self->sock);
    if (fd == -2 || ac_number_ensure_free_int(loop, fd) < 0
        || ac_watch_wait(loop, fd, self->sock, self->kind->event, (PyObject *)self,
                         &waiter_ops, &self->registration)
               < 0)
    {
        return NULL;
    }
    self->waited = true;
    return ac_coroutine_awaitable(self->future);
}

void
ac_wait_end(OperationObject *self)
{
    ac_registration *registration = self->registration;
    if (registration != NULL) {
        self->registration = NULL;
        ac_watch_end(registration, self->kind->event);
    }
}

/* Tries, and settles the future. Returns -1 with what neither of them catches. */
static int
try_again(OperationObject *self, PyObject *future)
{
    ac_state *state = self->loop->state;
    int done = ac_future_is_done(state, future);
    if (done != 0) {
        ac_wait_end(self);  // cancelled
        return done < 0 ? -1 : 0;
    }
    if (self->future == NULL) {  // closed by done() of a future in Python
        return 0;
    }
    PyObject *result = NULL;
    int nonblocking = ac_plain_is_nonblocking(state, self->sock);
    self->nonblocking = nonblocking > 0;
    int rc = nonblocking < 0 ? -1 : self->kind->attempt(self, &result);
    if (rc == 0) {
        return 0;
    }
    if (rc < 0 && ac_err_is_exit()) {
        return -1;
    }
    if (self->future == NULL) {  // closed by what has run in the try
        Py_XDECREF(result);
        PyErr_Clear();
        return 0;
    }
    ac_wait_end(self);
    if (rc < 0) {
        return ac_future_set_raised(state, future);
    }
    rc = ac_future_set_result(state, future, result);
    Py_DECREF(result);
    return rc;
}

int
ac_wait_ready(PyObject *op)
{
    OperationObject *self = (OperationObject *)Py_NewRef(op);
    int rc = 0;
    PyObject *future = Py_XNewRef(self->future);
    if (future != NULL) {
        rc = try_again(self, future);
        Py_DECREF(future);
    }
    if (rc < 0) {
        rc = ac_report_unraised(self->loop, "Exception in callback of a socket");
    }
    Py_DECREF(self);
    return rc;
}
