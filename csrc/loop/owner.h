/* Whose a loop is: the thread's that runs it. With a GIL, of whoever holds that, and
 * nothing here costs an instruction; without one see core/threads.h. */
#ifndef AC_OWNER_H
#define AC_OWNER_H

#include "loop/loop.h"

/* Whether this thread runs the loop: then it may use all of it. */
static inline bool
ac_owner_is_me(const LoopObject *loop)
{
#if AC_FREE_THREADED
    return AC_LOAD(loop->running) && AC_LOAD(loop->thread_id) == ac_thread_id();
#else
    (void)loop;
    return true;
#endif
}

/* Whether it is another thread's: one runs it, or was the last to do so. What is called
 * here is left to that one then (ac_ready_hand_over_steal). */
static inline bool
ac_owner_is_another(const LoopObject *loop)
{
#if AC_FREE_THREADED
    return AC_LOAD(loop->thread_id) != ac_thread_id() && !AC_LOAD(loop->closed);
#else
    (void)loop;
    return false;
#endif
}

/* Raises the RuntimeError with which debug mode refuses other threads; returns -1. */
int
ac_owner_raise(void);

/* The same if another thread runs the loop, for what cannot be left to it. Returns 0,
 * or -1. */
static inline int
ac_owner_check(const LoopObject *loop)
{
    return AC_FREE_THREADED && AC_LOAD(loop->running) && !ac_owner_is_me(loop)
               ? ac_owner_raise()
               : 0;
}

/* This thread begins to run the loop. Returns false if another one runs it. */
bool
ac_owner_begin_run(LoopObject *loop);

/* Takes a loop for a moment: nobody begins to run or to close it before ac_owner_leave.
 * Waits for another thread that does this; nests. Returns false if another one runs
 * it. */
#if AC_FREE_THREADED
bool
ac_owner_enter(LoopObject *loop);
void
ac_owner_leave(LoopObject *loop);

/* Drops a reference in the middle of closing the loop, and lets others enter meanwhile:
 * a finalizer may wait for another thread. The loop is closed, and stays entered. */
void
ac_owner_drop_steal(LoopObject *loop, PyObject *object);
#else
#define ac_owner_enter(loop) ((void)(loop), true)
#define ac_owner_leave(loop) ((void)(loop))
#define ac_owner_drop_steal(loop, object) ((void)(loop), Py_DECREF(object))
#endif

/* The same for a call of the program: another thread's is refused with RuntimeError.
 * Returns 0, or -1; ends with ac_owner_leave. */
static inline int
ac_owner_enter_or_raise(LoopObject *loop)
{
    return ac_owner_enter(loop) ? 0 : ac_owner_raise();
}

#endif
