/* The coroutine type of the sock_* methods.
 *
 * An operation checks its socket when it first runs, tries, and either returns or
 * waits (wait.c) and returns what the future gives. It is made for plain sockets and
 * the usual arguments only; the method of the standard loop, which this class derives
 * from, gets everything else, and knows each exception. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "core/plain.h"
#include "loop/freelist.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "sock/operation.h"
#include "sock/wait.h"

/* ------------------------------------------------------------------- stepping -- */

/* What the methods check when they begin. Returns 0, or -1 with an exception. */
static int
operation_check(OperationObject *self)
{
    int nonblocking = ac_plain_is_nonblocking(self->loop->state, self->sock);
    if (nonblocking < 0) {
        return -1;
    }
    if (!nonblocking && self->loop->debug) {
        PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
        return -1;
    }
    self->nonblocking = nonblocking;
    return 0;
}

static PySendResult
operation_step(PyObject *op, PyObject *value, PyObject **result)
{
    OperationObject *self = (OperationObject *)op;
    if (value != NULL) {  // of the future
        *result = Py_NewRef(value);
        return PYGEN_RETURN;
    }
    if (ac_owner_check(self->loop) < 0 || operation_check(self) < 0) {
        return PYGEN_ERROR;
    }
    int rc = self->kind->attempt(self, result);
    if (rc != 0) {
        return rc < 0 ? PYGEN_ERROR : PYGEN_RETURN;
    }
    *result = ac_wait_begin(self);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

static void
operation_end(PyObject *op)
{
    OperationObject *self = (OperationObject *)op;
    // it has waited, and the loop may be about to tell it
    if (self->future != NULL
        && ac_ready_is_left_to_loop(self->loop, op, &ac_coroutine_end_method))
    {
        return;
    }
    ac_wait_end(self);
    PyBuffer_Release(&self->view);
    Py_CLEAR(self->future);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->args[0]);
    Py_CLEAR(self->args[1]);
}

/* The reference to the loop is not tp_clear's: each cycle through the loop also ends at
 * what the loop refers to the coroutine by. */
static void
operation_free(PyObject *op)
{
    LoopObject *loop = ((OperationObject *)op)->loop;
    ac_freelist_free_finalized(op, loop, &loop->operations);
}

static const ac_coroutine_ops operation_ops = {
    .step = operation_step,
    .end = operation_end,
    .free = operation_free,
};

int
ac_operation_call(PyObject *method_name, PyObject *sock, PyObject *const *args,
                  Py_ssize_t nargs, PyObject **result)
{
    // held: while the call waits, another thread may close the coroutine
    PyObject *stack[4] = {Py_NewRef(sock)};
    assert(nargs < 4);
    for (Py_ssize_t i = 0; i < nargs; i++) {
        stack[i + 1] = Py_XNewRef(args[i]);
    }
    *result = PyObject_VectorcallMethod(method_name, stack, (size_t)nargs + 1, NULL);
    for (Py_ssize_t i = 0; i <= nargs; i++) {
        Py_XDECREF(stack[i]);
    }
    if (*result != NULL) {
        return 1;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError))
    {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

int
ac_operation_failed(ssize_t err)
{
    if (ac_errors_is_transient(err)) {
        return 0;
    }
    (void)ac_errors_errno((int)-err);
    return -1;
}

/* --------------------------------------------------------------- life and death -- */

static int
operation_traverse(PyObject *op, visitproc visit, void *arg)
{
    OperationObject *self = (OperationObject *)op;
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->args[0]);
    Py_VISIT(self->args[1]);
    Py_VISIT(self->future);
    Py_VISIT(self->view.obj);
    return ac_coroutine_traverse((ac_coroutine *)self, visit, arg);
}

static PyObject *
operation_make(LoopObject *loop, const ac_operation_kind *kind, PyObject *function,
               PyObject *const *args, Py_ssize_t nargs)
{
    OperationObject *self = (OperationObject *)ac_freelist_new_clear(
        AC_FREELIST_OF(loop, operations), loop->state->Operation,
        sizeof(OperationObject));
    if (self == NULL) {
        return NULL;
    }
    self->kind = kind;
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    self->sock = Py_NewRef(args[0]);
    for (Py_ssize_t i = 1; i < nargs; i++) {
        self->args[i - 1] = Py_NewRef(args[i]);
    }
    PyObject_GC_Track(self);
    if (ac_coroutine_init((ac_coroutine *)self, &operation_ops, function) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyObject *
ac_operation_new(PyObject *op, const ac_coroutine_method *method, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames)
{
    LoopObject *loop = (LoopObject *)op;
    ac_state *state = loop->state;
    const ac_operation_kind *kind = method->def->kind;
    if (kwnames == NULL && nargs > kind->min_args && nargs <= kind->max_args + 1) {
        int plain = ac_plain_is(state, args[0]);
        if (plain < 0) {
            return NULL;
        }
        if (plain && (kind->accepts == NULL || kind->accepts(state, args))) {
            return operation_make(loop, kind, method->function, args, nargs);
        }
    }
    return ac_method_pass_on(method->function, op, args, nargs, kwnames);
}

/* -------------------------------------------------------------------- the type -- */

PyDoc_STRVAR(operation__ready_doc, "_ready($self, /)\n--\n\n"
                                   "The socket is ready.");

static PyObject *
operation__ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (ac_wait_ready(op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef operation_methods[] = {
    AC_COROUTINE_METHODS,
    {"_ready", operation__ready, METH_NOARGS, operation__ready_doc},
    {NULL, NULL, 0, NULL},
};

static const ac_coroutine_type operation_type = {
    .name = "asynccore._core.SockCoroutine",
    .size = sizeof(OperationObject),
    .doc = "The coroutine of a sock_* method.",
    .traverse = operation_traverse,
    .methods = operation_methods,
};

int
ac_operation_register(PyObject *module, ac_state *state)
{
    state->Operation = ac_coroutine_add_type(module, &operation_type);
    return state->Operation == NULL ? -1 : 0;
}
