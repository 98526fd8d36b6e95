/* Whose a loop is.
 *
 * A finalizer may come in any thread, and take from a loop what it watches. Where there
 * is no GIL it leaves that to the thread that runs the loop. If none does, it enters:
 * `visitor` keeps others from running or closing the loop meanwhile. Entering nests. */
#include "core/python.h"

#include "loop/owner.h"

#include <time.h>

int
ac_owner_raise(void)
{
    PyErr_SetString(PyExc_RuntimeError, "Non-thread-safe operation invoked on an event "
                                        "loop other than the current one");
    return -1;
}

#if AC_FREE_THREADED

/* Tries to take the loop for this thread. Returns 1, 0 if it is run, or -1 if another
 * thread has entered. */
static int
try_to_take(LoopObject *loop, bool run)
{
    unsigned long me = ac_thread_id();
    int rc = 1;
    AC_LOCK(loop->mutex);
    if (ac_loop_is_forked(loop) && loop->visitor != me) {
        loop->visits = 0;  // that thread is not in this process
    }
    if (loop->running && loop->thread_id != me) {
        rc = 0;
    }
    else if (loop->visits > 0 && loop->visitor != me) {
        rc = -1;
    }
    else if (run) {
        AC_STORE(loop->thread_id, me);
        AC_STORE(loop->running, true);
    }
    else {
        loop->visitor = me;
        loop->visits++;
    }
    AC_UNLOCK(loop->mutex);
    return rc;
}

static void
wait_a_moment(void)
{
    const struct timespec moment = {.tv_nsec = 50000};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&moment, NULL);
    Py_END_ALLOW_THREADS
}

/* The same, but waits for the other thread, which is about to leave. */
static bool
take(LoopObject *loop, bool run)
{
    int rc;
    while ((rc = try_to_take(loop, run)) < 0) {
        wait_a_moment();
    }
    return rc > 0;
}

bool
ac_owner_begin_run(LoopObject *loop)
{
    return take(loop, true);
}

bool
ac_owner_enter(LoopObject *loop)
{
    return take(loop, false);
}

void
ac_owner_leave(LoopObject *loop)
{
    AC_LOCK(loop->mutex);
    loop->visits--;
    AC_UNLOCK(loop->mutex);
}

void
ac_owner_drop_steal(LoopObject *loop, PyObject *object)
{
    ac_owner_leave(loop);
    Py_DECREF(object);
    while (!take(loop, false)) {  // a run ends at once: the loop is closed
        wait_a_moment();
    }
}

#else

bool
ac_owner_begin_run(LoopObject *loop)
{
    loop->thread_id = ac_thread_id();
    loop->running = true;
    return true;
}

#endif
