/* The loop's clock: time.monotonic(), or what a program put in its place. */
#ifndef AC_CLOCK_H
#define AC_CLOCK_H

#include "core/dictwatch.h"
#include "loop/overrides.h"

/* Sets *now to the loop's time in seconds, by a replaced loop.time() if there is one.
 * Returns 0, or -1 with an exception. */
int
ac_clock_now(LoopObject *loop, double *now);

/* Seconds of the system's monotonic clock, whatever programs put in its place: for what
 * they cannot see, how long a poll is left out. Runs no Python. */
double
ac_clock_real(void);

/* Sets *real to that and *now to the loop's time, by one look at the clock where they
 * are the same. Returns 0, or -1 with an exception. */
int
ac_clock_both(LoopObject *loop, double *now, double *real);

/* Whether time.monotonic is known to be what it was at import. */
static inline bool
ac_clock_module_is_unchanged(const ac_state *state)
{
    uint64_t changes = ac_dictwatch_modules(state);
    return changes != 0 && changes == AC_LOAD(state->time_unreplaced);
}

/* Whether the loop's time is known to be that of the system's clock. */
static inline bool
ac_clock_is_real(LoopObject *loop)
{
    return ac_overrides_are_known(loop) && !(loop->overridden & AC_OVERRIDE_TIME)
           && ac_clock_module_is_unchanged(loop->state);
}

/* Loop.time */
extern PyMethodDef ac_clock_methods[];

#endif
