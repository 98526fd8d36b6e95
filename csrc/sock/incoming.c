/* Accepting: through the socket object, which knows how its connections are made. */
#include "core/python.h"

#include "core/plain.h"
#include "loop/watcher.h"
#include "sock/incoming.h"

/* (connection, address) of what accept() gave (consumed), which somebody may have
 * replaced. NULL with an exception. */
static PyObject *
pair_of_steal(PyObject *given)
{
    if (PyTuple_CheckExact(given) && PyTuple_GET_SIZE(given) == 2) {
        return given;
    }
    PyObject *pair = PySequence_Tuple(given);
    Py_DECREF(given);
    Py_ssize_t size = pair == NULL ? 2 : PyTuple_GET_SIZE(pair);
    if (size < 2) {
        PyErr_Format(PyExc_ValueError,
                     "not enough values to unpack (expected 2, got %zd)", size);
        Py_CLEAR(pair);
    }
    else if (size > 2) {
        PyErr_SetString(PyExc_ValueError, "too many values to unpack (expected 2)");
        Py_CLEAR(pair);
    }
    return pair;
}

static int
accept_attempt(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    PyObject *pair;
    int rc = ac_operation_call(state->str_accept, self->sock, NULL, 0, &pair);
    if (rc <= 0) {
        return rc;
    }
    pair = pair_of_steal(pair);
    if (pair == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodOneArg(PyTuple_GET_ITEM(pair, 0),
                                               state->str_setblocking, Py_False);
    if (done == NULL) {
        Py_DECREF(pair);
        return -1;
    }
    Py_DECREF(done);
    PyObject *connection = PyTuple_GET_ITEM(pair, 0);
    if (Py_IS_TYPE(connection, (PyTypeObject *)state->socket_type)) {
        ac_watcher_number_is_new(self->loop, ac_plain_number(state, connection));
        PyErr_Clear();
    }
    *result = pair;
    return 1;
}

const ac_operation_kind ac_incoming_accept = {
    .min_args = 0,
    .max_args = 0,
    .event = AC_READ,
    .attempt = accept_attempt,
};
