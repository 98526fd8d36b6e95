/* Accepting: through the socket object, which knows how its connections are made. */
#include "core/python.h"

#include "loop/poller.h"
#include "sock/incoming.h"

static int
accept_attempt(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    PyObject *pair;
    int rc = ac_operation_call(state->str_accept, self->sock, NULL, 0, &pair);
    if (rc <= 0) {
        return rc;
    }
    PyObject *done = PyObject_CallMethodOneArg(PyTuple_GET_ITEM(pair, 0),
                                               state->str_setblocking, Py_False);
    if (done == NULL) {
        Py_DECREF(pair);
        return -1;
    }
    Py_DECREF(done);
    *result = pair;
    return 1;
}

const ac_operation_kind ac_incoming_accept = {
    .name = "sock_accept",
    .min_args = 0,
    .max_args = 0,
    .event = AC_READ,
    .attempt = accept_attempt,
};
