/* Coroutines written in C, in the place of an `async def` of the standard library.
 *
 * They are coroutines for asyncio (collections.abc.Coroutine) and for inspect: send,
 * throw, close, await, the cr_* attributes, the warning of one that was never awaited.
 * As an `async def`, they do nothing before they are driven. */
#ifndef AC_COROUTINE_H
#define AC_COROUTINE_H

#include "core/awaiter.h"

typedef enum {
    AC_COROUTINE_CREATED,
    AC_COROUTINE_RUNNING,
    AC_COROUTINE_SUSPENDED, /* in `awaited` */
    AC_COROUTINE_CLOSED,
} ac_coroutine_phase;

typedef struct {
    /* Goes on until the coroutine returns or awaits something. `value` (borrowed) is
     * what the last awaited thing gave, NULL at first. Returns
     *   PYGEN_RETURN: *result is what the coroutine returns,
     *   PYGEN_NEXT:   *result is to be awaited: an iterator, as __await__ gives it,
     *   PYGEN_ERROR:  with an exception.
     * An exception of the awaited thing ends the coroutine. */
    PySendResult (*step)(PyObject *self, PyObject *value, PyObject **result);
    /* It returned, raised or was closed: lets go of what it used. May run Python.
     * tp_clear calls it once more. */
    void (*end)(PyObject *self);
    /* The last part of tp_dealloc: frees the memory, and the reference to the type. */
    void (*free)(PyObject *self);
} ac_coroutine_ops;

/* The first members of each coroutine type. */
#define AC_COROUTINE_HEAD                                                           \
    PyObject_HEAD                                                                   \
    PyObject *weakrefs;                                                             \
    const ac_coroutine_ops *ops;                                                    \
    PyObject *function; /* owned: the `async def` that it stands for; name, code */ \
    PyObject *awaited;  /* owned: the iterator that it is suspended in */           \
    PyObject *origin;   /* owned: cr_origin, NULL reads as None */                  \
    ac_coroutine_phase phase;

typedef struct {
    AC_COROUTINE_HEAD
} ac_coroutine;

/* Calls `end`, for the thread to which that is left. */
extern PyMethodDef ac_coroutine_end_method;

/* Sets up the head of a new object, whose members are all NULL. Returns 0, or -1 with
 * MemoryError. */
int
ac_coroutine_init(ac_coroutine *self, const ac_coroutine_ops *ops, PyObject *function);

/* The last part of a type's tp_traverse: the members of the head. */
int
ac_coroutine_traverse(ac_coroutine *self, visitproc visit, void *arg);

/* The iterator of an awaitable: what `await` drives. NULL with TypeError. */
PyObject *
ac_coroutine_awaitable(PyObject *object);

/* What a coroutine type has of its own. */
typedef struct {
    const char *name; /* with the module's */
    size_t size;      /* of an object */
    const char *doc;
    traverseproc traverse;
    PyMethodDef *methods; /* begins with AC_COROUTINE_METHODS; NULL: these are all */
} ac_coroutine_type;

/* Makes the type and adds it to the module. New reference, NULL with an exception. */
PyTypeObject *
ac_coroutine_add_type(PyObject *module, const ac_coroutine_type *own);

#define AC_COROUTINE_METHODS                                                           \
    {"__await__", ac_awaiter_new, METH_NOARGS | METH_COEXIST, ac_coroutine_await_doc}, \
        {"send", ac_coroutine_send_method, METH_O, ac_coroutine_send_doc},             \
        {"throw", AC_CFUNCTION(ac_coroutine_throw), METH_FASTCALL,                     \
         ac_coroutine_throw_doc},                                                      \
    {                                                                                  \
        "close", ac_coroutine_close, METH_NOARGS, ac_coroutine_close_doc               \
    }

/* These are called by the iterator that `__await__()` returns, too. */
PySendResult
ac_coroutine_send(PyObject *op, PyObject *value, PyObject **result);
PyObject *
ac_coroutine_next(PyObject *op);
PyObject *
ac_coroutine_iternext(PyObject *op);
PyObject *
ac_coroutine_send_method(PyObject *op, PyObject *value);
PyObject *
ac_coroutine_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs);
PyObject *
ac_coroutine_close(PyObject *op, PyObject *ignored);

extern const char ac_coroutine_await_doc[];
extern const char ac_coroutine_send_doc[];
extern const char ac_coroutine_throw_doc[];
extern const char ac_coroutine_close_doc[];

#endif
