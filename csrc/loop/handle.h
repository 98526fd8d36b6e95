/* Handle and TimerHandle: real asyncio.Handle and asyncio.TimerHandle objects.
 *
 * The structs mirror the __slots__ of the bases, which ac_handle_register
 * compares with the interpreter's. `args` holds what is cheapest: NULL for no
 * argument, the one argument itself (unless it is a tuple), or a tuple; the
 * attribute `_args` always reads as a tuple. */
#ifndef AC_HANDLE_H
#define AC_HANDLE_H

#include "loop/loop.h"

#define AC_DEBUG_STACK_DEPTH 10 /* asyncio.constants.DEBUG_STACK_DEPTH */

#define AC_HANDLE_SLOTS                                     \
    PyObject_HEAD                                           \
    PyObject *args;                                         \
    PyObject *callback;  /* NULL once cancelled */          \
    PyObject *cancelled; /* Py_True or Py_False */          \
    PyObject *context;   /* NULL: a copy of an empty one */ \
    PyObject *loop;                                         \
    PyObject *repr;             /* NULL reads as None */    \
    PyObject *source_traceback; /* NULL reads as None */    \
    AC_BASE_WEAKREFS

typedef struct {
    AC_HANDLE_SLOTS
} HandleObject;

typedef struct {
    AC_HANDLE_SLOTS
    PyObject *scheduled; /* Py_True or Py_False */
    PyObject *when;      /* as given to call_at; NULL: a float of `deadline` */
    double deadline;     /* `when` in seconds, -inf for nan: due at once */
    uint64_t order;      /* of creation, between equal deadlines */
    bool in_heap;        /* also while it waits there cancelled */
    Py_ssize_t young;    /* in the list of those the collector does not see, or -1 */
} TimerHandleObject;

int
ac_handle_register(PyObject *module, ac_state *state);

/* A Handle with borrowed arguments. `context` NULL or None: a copy of the current
 * one. Returns a new reference, NULL with an exception.
 *
 * The collector does not see it yet: most handles die young, and a running loop
 * that holds them is no garbage. Whoever keeps a handle for longer, or gives it
 * away outside of a run, calls ac_handle_track.
 *
 * `own_frames`: how many frames of asyncio itself the standard loop counts, and then
 * drops, when debug mode traces the creation. */
PyObject *
ac_handle_new(LoopObject *loop, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context, int own_frames);

/* The same for a TimerHandle, not yet in the heap; `when` is borrowed, the number
 * that `deadline` was made of, or NULL: a float of it is made when it is read. */
PyObject *
ac_handle_new_timer(LoopObject *loop, PyObject *when, double deadline,
                    PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *context, int own_frames);

/* Handle.cancel() of a Handle of ours, not of a timer. May run Python. Returns 0, or -1
 * with the exception of a repr in debug mode. */
int
ac_handle_cancel(PyObject *handle);

/* The member `args` as a tuple: new reference, NULL with MemoryError. */
PyObject *
ac_handle_args_tuple(PyObject *args);

/* Drops a reference to a handle of any class that has been run. The last one of
 * ours goes to the freelist. May run Python; the caller holds the loop. */
void
ac_handle_done_steal(LoopObject *loop, PyObject *handle);

/* The context to run in, which is made here if it is a copy of an empty one. Borrowed
 * from the handle, NULL with MemoryError. */
PyObject *
ac_handle_context(LoopObject *loop, HandleObject *handle);

/* Shows a handle to the collector; nothing happens if it knows it already. */
static inline void
ac_handle_track(PyObject *handle)
{
    if (!PyObject_GC_IsTracked(handle)) {
        PyObject_GC_Track(handle);
    }
}

/* True if `object` is exactly a Handle or TimerHandle of ours. */
static inline bool
ac_handle_is_ours(const ac_state *state, PyObject *object)
{
    return Py_IS_TYPE(object, state->Handle) || Py_IS_TYPE(object, state->TimerHandle);
}

#endif
