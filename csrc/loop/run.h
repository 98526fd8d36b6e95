/* Running a loop: one turn, and run_forever around it. */
#ifndef AC_RUN_H
#define AC_RUN_H

#include "loop/loop.h"

extern PyMethodDef ac_run_methods[];

/* Whether the callback of an event may go on with what else its descriptor has, in
 * place of the next turn, as if that found nothing else: nothing was scheduled or
 * corked meanwhile, nothing waits in this turn, no timer is due, the next poll is not
 * overdue. False outside of a turn and with a replaced clock. Runs no Python but a
 * clock that was patched in. */
bool
ac_run_may_go_on(LoopObject *loop);

/* Drops every handle and event that waits to be run; the loop is being closed or
 * collected. May run Python (finalizers). */
void
ac_run_clear(LoopObject *loop);

/* Shows what waits to be run to the collector: the loop stops running and may become
 * garbage with it. */
void
ac_run_track(LoopObject *loop);

#endif
