#include "core/python.h"

#include "loop/flood.h"

#define MICROSECONDS 1000

/* A lock that is held but for the moment between a turn's end and the end of the wait.
 * When more than one thread waits, the others do for another turn. */
static PyThread_type_lock
lock_of(LoopObject *loop)
{
    ac_flood *flood = &loop->flood;
    AC_LOCK(loop->mutex);
    if (flood->turn_over == NULL) {
        flood->turn_over = PyThread_allocate_lock();
        if (flood->turn_over != NULL) {
            (void)PyThread_acquire_lock(flood->turn_over, NOWAIT_LOCK);
        }
    }
    AC_UNLOCK(loop->mutex);
    return flood->turn_over;
}

/* Counts a call. */
static unsigned int
count_call(ac_flood *flood)
{
    AC_INCREMENT(flood->calls);  // about: without a GIL another thread may be between
    return AC_LOAD(flood->calls);
}

void
ac_flood_called(LoopObject *loop)
{
    ac_flood *flood = &loop->flood;
    if (!AC_LOAD(loop->running) || AC_LOAD(loop->thread_id) == ac_thread_id()
        || count_call(flood) < AC_FLOOD_CALLS)
    {
        return;
    }
    AC_STORE(flood->calls, 0);
    PyThread_type_lock lock = lock_of(loop);
    if (lock == NULL) {
        return;
    }
    AC_STORE(flood->waiting, true);
    Py_BEGIN_ALLOW_THREADS(void)
    PyThread_acquire_lock_timed(lock, MICROSECONDS, 0);
    Py_END_ALLOW_THREADS
}

void
ac_flood_release(LoopObject *loop)
{
    AC_STORE(loop->flood.waiting, false);
    // one whose time was over has left the lock free: then it stays so
    (void)PyThread_acquire_lock(loop->flood.turn_over, NOWAIT_LOCK);
    PyThread_release_lock(loop->flood.turn_over);
}

void
ac_flood_free(LoopObject *loop)
{
    if (loop->flood.turn_over != NULL) {
        PyThread_free_lock(loop->flood.turn_over);
    }
}
