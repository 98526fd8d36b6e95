#include "core/python.h"

#include "loop/flood.h"

#define MICROSECONDS 1000

/* A lock that is held but for the moment between a turn's end and the end of the wait.
 * When more than one thread waits, the others do for another turn. */
static PyThread_type_lock
lock_of(ac_flood *flood)
{
    if (flood->turn_over == NULL) {
        flood->turn_over = PyThread_allocate_lock();
        if (flood->turn_over != NULL) {
            (void)PyThread_acquire_lock(flood->turn_over, NOWAIT_LOCK);
        }
    }
    return flood->turn_over;
}

void
ac_flood_called(LoopObject *loop)
{
    ac_flood *flood = &loop->flood;
    if (!loop->running || loop->thread_id == ac_thread_id()
        || ++flood->calls < AC_FLOOD_CALLS)
    {
        return;
    }
    flood->calls = 0;
    PyThread_type_lock lock = lock_of(flood);
    if (lock == NULL) {
        return;
    }
    flood->waiting = true;
    Py_BEGIN_ALLOW_THREADS(void)
    PyThread_acquire_lock_timed(lock, MICROSECONDS, 0);
    Py_END_ALLOW_THREADS
}

void
ac_flood_release(LoopObject *loop)
{
    loop->flood.waiting = false;
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
