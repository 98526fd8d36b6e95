/* What guards what in a build without the GIL; empty in one that has it.
 *
 * A loop belongs to the thread that runs it (loop/owner.h). What other threads touch as
 * well:
 *
 *  loop->mutex      the ready ring, `polling`, what wakes a poll, who runs the loop,
 *                   and that it is closed
 *  a handle's lock  its callback, arguments, context and whether it is cancelled: that
 *                   of the object itself
 *  state->mutex     the list of the loops' pipes for signals
 *  a watched dict's what is looked up in it: who changes it has its lock from where the
 *                   watcher counts until it is changed
 *  a stream's lock  what others may ask it for: loop, server, protocol; that of the
 *                   object itself
 *  a StreamReader   what it holds: its critical section, which is left where Python
 *                   waits
 *  AC_LOAD and      single words: flags of a loop, the counts of changed dicts, how
 *  AC_STORE         often a timer was cancelled, what was found out about classes
 *
 * While a mutex is held nothing is called that may run Python: references are taken
 * out, and dropped behind it. What was found out about several classes is remembered
 * by their versions, each for itself, and only while nothing is patched: so it does not
 * matter whose look comes first.
 *
 * Freelists, spare objects and what is kept for the next call are used by the thread
 * that runs the loop, or not at all. What the collector or a dropped reference ends in
 * another thread, and what is called there, is left to that thread
 * (ac_ready_hand_over_steal). */
#ifndef AC_THREADS_H
#define AC_THREADS_H

#include "core/python.h"

#if AC_FREE_THREADED

#define AC_MUTEX(member) PyMutex member;
#define AC_LOCK(mutex) PyMutex_Lock(&(mutex))
#define AC_UNLOCK(mutex) PyMutex_Unlock(&(mutex))
#define AC_LOCK_OBJECT(object) PyMutex_Lock(&((PyObject *)(object))->ob_mutex)
#define AC_UNLOCK_OBJECT(object) PyMutex_Unlock(&((PyObject *)(object))->ob_mutex)
#define AC_BEGIN_OBJECT(object) Py_BEGIN_CRITICAL_SECTION(object)
#define AC_END_OBJECT() Py_END_CRITICAL_SECTION()

/* A word that other threads read or write; what was stored before is seen after. */
#define AC_LOAD(place) __atomic_load_n(&(place), __ATOMIC_ACQUIRE)
#define AC_STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_RELEASE)
#define AC_INCREMENT(place) ((void)__atomic_add_fetch(&(place), 1, __ATOMIC_ACQ_REL))

#else

#define AC_MUTEX(member)
#define AC_LOCK(mutex) ((void)0)
#define AC_UNLOCK(mutex) ((void)0)
#define AC_LOCK_OBJECT(object) ((void)0)
#define AC_UNLOCK_OBJECT(object) ((void)0)
#define AC_BEGIN_OBJECT(object) {
#define AC_END_OBJECT() }
#define AC_LOAD(place) (place)
#define AC_STORE(place, value) ((void)((place) = (value)))
#define AC_INCREMENT(place) ((void)(place)++)

#endif

/* What is in a slot that the lock of its object guards: a new reference, or NULL. */
static inline PyObject *
ac_slot_get(PyObject *object, PyObject *const *slot)
{
    (void)object;
    AC_LOCK_OBJECT(object);
    PyObject *value = Py_XNewRef(*slot);
    AC_UNLOCK_OBJECT(object);
    return value;
}

/* Puts a value (consumed, may be NULL) there, whoever reads it meanwhile. */
static inline void
ac_slot_set_steal(PyObject *object, PyObject **slot, PyObject *value)
{
    (void)object;
    AC_LOCK_OBJECT(object);
    PyObject *former = *slot;
    AC_STORE(*slot, value);
    AC_UNLOCK_OBJECT(object);
    Py_XDECREF(former);
}

#endif
