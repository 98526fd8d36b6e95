/* Running a loop: one turn, and run_forever around it. */
#ifndef AC_RUN_H
#define AC_RUN_H

#include "loop/loop.h"

extern PyMethodDef ac_run_methods[];

/* Drops every handle and event that waits to be run; the loop is being closed or
 * collected. May run Python (finalizers). */
void
ac_run_clear(LoopObject *loop);

/* Shows what waits to be run to the collector: the loop stops running and may become
 * garbage with it. */
void
ac_run_track(LoopObject *loop);

#endif
