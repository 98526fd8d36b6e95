/* Memory of dead objects of one type, kept by a loop and linked through the objects. */
#ifndef AC_FREELIST_H
#define AC_FREELIST_H

#include "loop/loop.h"
#include "loop/owner.h"

/* The link is the first member after the head, whatever that is in a live object. */
static inline PyObject **
ac_freelist_link(PyObject *dead)
{
    return (PyObject **)(dead + 1);
}

/* A freelist of a loop, NULL for a thread that may not use it. */
#define AC_FREELIST_OF(loop, member) (ac_owner_is_me(loop) ? &(loop)->member : NULL)

/* An object of `size` bytes, which the collector does not see. Its members are NULL, or
 * what they were at its end if it was kept; the first is NULL. NULL with MemoryError.
 */
static inline PyObject *
ac_freelist_new(ac_freelist *freelist, PyTypeObject *type, size_t size)
{
    PyObject *self = AC_FREE_THREADED && freelist == NULL ? NULL : freelist->head;
    if (self != NULL) {
        freelist->head = *ac_freelist_link(self);
        freelist->len--;
        *ac_freelist_link(self) = NULL;
        return PyObject_Init(self, type);
    }
    self = PyObject_GC_New(PyObject, type);
    if (self != NULL) {
        memset(ac_freelist_link(self), 0, size - sizeof(PyObject));
    }
    return self;
}

/* The same with all members NULL, for objects that leave more behind. */
static inline PyObject *
ac_freelist_new_clear(ac_freelist *freelist, PyTypeObject *type, size_t size)
{
    PyObject *self = ac_freelist_new(freelist, type, size);
    if (self != NULL) {
        memset(ac_freelist_link(self), 0, size - sizeof(PyObject));
    }
    return self;
}

/* Ends an object, the last part of tp_dealloc: to the freelist of `loop_steal`, or
 * freed if that is NULL, closed or has many. */
static inline void
ac_freelist_free(PyObject *self, LoopObject *loop_steal, ac_freelist *freelist)
{
    PyTypeObject *type = Py_TYPE(self);
    if (loop_steal != NULL && ac_owner_is_me(loop_steal) && !loop_steal->closed
        && freelist->len < AC_FREELIST_MAX)
    {
        *ac_freelist_link(self) = freelist->head;
        freelist->head = self;
        freelist->len++;
    }
    else {
        PyObject_GC_Del(self);
    }
    Py_XDECREF((PyObject *)loop_steal);
    Py_DECREF(type);
}

/* Keeps a living object, cleared and unseen by the collector, of which the caller has
 * the only reference. Where the interpreter counts all references it is freed. */
static inline void
ac_freelist_keep_steal(PyObject *self, ac_freelist *freelist)
{
#ifdef Py_REF_DEBUG
    (void)freelist;
    Py_DECREF(self);
#else
    PyTypeObject *type = Py_TYPE(self);
    Py_SET_REFCNT(self, 0);
    *ac_freelist_link(self) = freelist->head;
    freelist->head = self;
    freelist->len++;
    Py_DECREF(type);
#endif
}

/* The same for a type with a finalizer. */
static inline void
ac_freelist_free_finalized(PyObject *self, LoopObject *loop_steal,
                           ac_freelist *freelist)
{
    if (!PyObject_GC_IsFinalized(self)) {
        ac_freelist_free(self, loop_steal, freelist);
        return;
    }
    PyTypeObject *type = Py_TYPE(self);  // a second life would have no finalizer
    PyObject_GC_Del(self);
    Py_DECREF((PyObject *)loop_steal);
    Py_DECREF(type);
}

/* Frees all but `kept` objects. */
static inline void
ac_freelist_trim(ac_freelist *freelist, unsigned int kept)
{
    while (freelist->len > kept) {
        PyObject *self = freelist->head;
        freelist->head = *ac_freelist_link(self);
        freelist->len--;
        PyObject_GC_Del(self);
    }
}

#endif
