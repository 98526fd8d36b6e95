/* _ThreadSafeHandle, what call_soon_threadsafe returns: from 3.14 on a class of its own
 * in asyncio.events, whose lock is held while the callback runs. */
#ifndef AC_THREADSAFE_H
#define AC_THREADSAFE_H

#include "core/args.h"
#include "loop/handle.h"

typedef struct {
    AC_HANDLE_SLOTS
    PyObject *lock;       /* an RLock; NULL until somebody asks for it or must wait */
    unsigned long holder; /* the thread that holds what is not made yet, */
    unsigned int held;    /* and how often */
} ThreadSafeHandleObject;

/* Registers the type; does nothing before 3.14. Returns 0, or -1 with an exception. */
int
ac_threadsafe_register(PyObject *module, ac_state *state);

/* A handle of asyncio.events._ThreadSafeHandle: ours, unless somebody replaced or
 * patched the class, which is then called. Before 3.14 a Handle. May run Python. New
 * reference, NULL with an exception. */
PyObject *
ac_threadsafe_new(LoopObject *loop, const ac_args *parsed);

/* Works out loop->threadsafe_patched. Returns 0, or -1 with an exception. */
int
ac_threadsafe_look_for_patches(LoopObject *loop);

/* The same in a few instructions where nothing was changed. */
static inline int
ac_threadsafe_check_patches(LoopObject *loop)
{
    unsigned int version =
        ac_type_version((PyTypeObject *)loop->state->asyncio_ThreadSafeHandle);
    return version != 0 && version == AC_LOAD(loop->threadsafe_version)
               ? 0
               : ac_threadsafe_look_for_patches(loop);
}

/* True if `object` is exactly a _ThreadSafeHandle of ours. */
static inline bool
ac_threadsafe_is_ours(const ac_state *state, PyObject *object)
{
    return AC_HAVE_THREADSAFE_HANDLE && Py_IS_TYPE(object, state->ThreadSafeHandle);
}

/* `with handle._lock:` of a handle of ours. The first may wait, in which time anything
 * runs. Each returns 0, or -1 with an exception; `rc` -1 says that one is raised when
 * the lock is left, and comes back. */
int
ac_threadsafe_acquire(PyObject *self);
int
ac_threadsafe_release(PyObject *self, int rc);

#endif
