/* sock_recv() and its siblings: coroutines that try a call of a socket, and wait until
 * the socket is ready where that would block. */
#ifndef AC_OPERATION_H
#define AC_OPERATION_H

#include "core/coroutine.h"
#include "core/coroutine_method.h"
#include "io/watch.h"
#include "loop/loop.h"

typedef struct OperationObject OperationObject;

/* What tells the operations apart. */
typedef struct {
    Py_ssize_t min_args; /* after the socket */
    Py_ssize_t max_args;
    unsigned int event; /* AC_READ or AC_WRITE: what it waits for */
    /* Whether these arguments, the first of which is a plain socket, are of the usual
     * types; others are left to the interpreter's method. NULL: all are. Runs no
     * Python. */
    bool (*accepts)(ac_state *state, PyObject *const *args);
    /* One try. Returns 1 with *result, 0 if it would block, -1 with an exception. */
    int (*attempt)(OperationObject *self, PyObject **result);
} ac_operation_kind;

struct OperationObject {
    AC_COROUTINE_HEAD
    const ac_operation_kind *kind;
    LoopObject *loop;
    PyObject *sock;
    PyObject *args[2]; /* those after the socket; NULL where there is none */
    PyObject *future;  /* while it waits: gets the result */
    ac_registration *registration; /* borrowed, while it is in its place */
    bool nonblocking;              /* the socket's calls do not wait, at the last try */
    bool waited;                   /* this is not the first try */
    Py_buffer view; /* of what is sent, from the first try on; obj NULL: none */
    Py_ssize_t sent;
};

/* A try through a method of the socket object: `method(*args)`. Returns as
 * ac_operation_kind.attempt. */
int
ac_operation_call(PyObject *method_name, PyObject *sock, PyObject *const *args,
                  Py_ssize_t nargs, PyObject **result);

/* What a try returns for a negative errno of a system call. */
int
ac_operation_failed(ssize_t err);

/* sock_<x>(sock, *args) of the loop, `kind` an ac_operation_kind: the coroutine, or
 * what the interpreter's own method gives for sockets and arguments that are not plain.
 */
PyObject *
ac_operation_new(PyObject *loop, const ac_coroutine_method *method,
                 PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

int
ac_operation_register(PyObject *module, ac_state *state);

#endif
