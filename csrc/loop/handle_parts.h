/* What every kind of handle is made of; for the files that define one. */
#ifndef AC_HANDLE_PARTS_H
#define AC_HANDLE_PARTS_H

#include "loop/handle.h"

#include <stddef.h>

/* Fills the common slots of a new object, with borrowed arguments as for ac_handle_new.
 * They are NULL. Returns 0, or -1 with an exception. */
int
ac_handle_fill(LoopObject *loop, HandleObject *handle, PyObject *callback,
               PyObject *const *args, Py_ssize_t nargs, PyObject *context,
               int own_frames);

/* tp_traverse and tp_clear of the common slots. */
int
ac_handle_traverse(PyObject *self, visitproc visit, void *arg);
int
ac_handle_clear(PyObject *self);

/* Takes the loop out of a handle that dies, for its freelist; NULL where there is
 * none (the collector cleared the handle). New reference. */
LoopObject *
ac_handle_take_loop(HandleObject *handle);

/* `_args` of a cancelled handle is None, as in Handle.cancel. */
PyObject *
ac_handle_get_args(PyObject *self, void *closure);
int
ac_handle_set_args(PyObject *self, PyObject *value, void *closure);

/* `_context` is made when somebody asks. */
PyObject *
ac_handle_get_context(PyObject *self, void *closure);

/* The other slots read as None while they are NULL; `closure` is the offset. What C
 * code relies on (_cancelled, _context, _loop) cannot be assigned. */
PyObject *
ac_handle_get_slot(PyObject *self, void *closure);
int
ac_handle_set_slot(PyObject *self, PyObject *value, void *closure);

#define AC_HANDLE_SLOT(name, set, member)                                           \
    {                                                                               \
        name, ac_handle_get_slot, set, NULL, (void *)offsetof(HandleObject, member) \
    }

/* The entries of a table of attributes, for all kinds. */
#define AC_HANDLE_ATTRIBUTES                                       \
    {"_args", ac_handle_get_args, ac_handle_set_args, NULL, NULL}, \
        AC_HANDLE_SLOT("_cancelled", NULL, cancelled),             \
        AC_HANDLE_SLOT("_callback", ac_handle_set_slot, callback), \
        {"_context", ac_handle_get_context, NULL, NULL,            \
         (void *)offsetof(HandleObject, context)},                 \
        AC_HANDLE_SLOT("_loop", NULL, loop),                       \
        AC_HANDLE_SLOT("_repr", ac_handle_set_slot, repr),         \
        AC_HANDLE_SLOT("_source_traceback", ac_handle_set_slot, source_traceback)

/* The spec of a kind. Not immutable: the base is a class that programs may patch. */
#define AC_HANDLE_SPEC(kind, object, type_slots)                      \
    {                                                                 \
        .name = "asynccore._core." kind, .basicsize = sizeof(object), \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC              \
                 | Py_TPFLAGS_DISALLOW_INSTANTIATION,                 \
        .slots = type_slots,                                          \
    }

#endif
