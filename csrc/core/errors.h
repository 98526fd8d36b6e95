/* errno and libuv status codes as the exceptions that the standard loop raises, and the
 * statement `raise`. */
#ifndef AC_ERRORS_H
#define AC_ERRORS_H

#include "core/python.h"

#include <errno.h>

/* Raises the OSError subclass of an errno number. Always returns NULL. */
PyObject *
ac_errors_errno(int number);

/* Raises the OSError subclass of a libuv status (negative). Returns NULL. */
PyObject *
ac_errors_uv(int err);

/* `raise object`. Always returns -1. */
int
ac_errors_raise(PyObject *object);

/* What a setter says to `del object.attribute`, which gives it NULL. Returns 0, or -1
 * with AttributeError. */
int
ac_errors_refuse_delete(const PyObject *value);

/* An `except` clause: between the two, `exc` is the exception that is being handled,
 * and so the context of what is raised there; nothing changes for an object that is no
 * exception. The first returns what the second takes. */
PyObject *
ac_errors_except_begin(PyObject *exc);
void
ac_errors_except_end_steal(PyObject *handled);

/* A `finally`: between the two, the exception being raised, if any, is the one that is
 * being handled, and so the context of what is raised there. Afterwards it is raised
 * again, unless another is. */
typedef struct {
    PyObject *earlier; /* what was being raised; NULL: nothing */
    PyObject *handled; /* what was being handled before */
} ac_errors_finally;

void
ac_errors_finally_begin(ac_errors_finally *self);
void
ac_errors_finally_end(ac_errors_finally *self);

/* True for the negative errnos of a non-blocking call that mean "not now": those of
 * BlockingIOError and InterruptedError. */
static inline bool
ac_errors_is_transient(ssize_t err)
{
    return err == -EAGAIN || err == -EWOULDBLOCK || err == -EINTR || err == -EINPROGRESS
           || err == -EALREADY;
}

/* True for the negative errnos of a shortage that may pass: of descriptors, of memory,
 * of what the kernel may watch. */
static inline bool
ac_errors_is_shortage(int err)
{
    return err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOSPC;
}

#endif
