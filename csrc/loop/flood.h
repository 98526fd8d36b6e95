/* Threads that call call_soon_threadsafe() faster than the loop runs.
 *
 * The standard's gives up the GIL each time, to write into the self-pipe, and so the
 * loop's thread runs beside the flood. Ours makes no system call: the queue would grow
 * for a GIL interval before each turn, and each turn with it. So a thread that makes
 * the last of AC_FLOOD_CALLS in one turn waits for the turn's end, a millisecond at
 * most: the loop may itself wait for that thread. */
#ifndef AC_FLOOD_H
#define AC_FLOOD_H

#include "loop/loop.h"

#define AC_FLOOD_CALLS 512

/* After another thread has queued a handle. May give up the GIL. */
void
ac_flood_called(LoopObject *loop);

/* Lets a thread that waits go on. */
void
ac_flood_release(LoopObject *loop);

void
ac_flood_free(LoopObject *loop);

static inline void
ac_flood_turn_over(LoopObject *loop)
{
    AC_STORE(loop->flood.calls, 0);
    if (AC_LOAD(loop->flood.waiting)) {
        ac_flood_release(loop);
    }
}

#endif
