/* Timers: call_later, call_at, and which of them are due. */
#ifndef AC_TIMER_H
#define AC_TIMER_H

#include "loop/handle.h"

/* The heap; made with the loop. Returns 0, or -1 with MemoryError. */
int
ac_timer_init(LoopObject *loop);

/* Drops every timer; the loop is being closed or collected. May run Python. */
void
ac_timer_clear(LoopObject *loop);
void
ac_timer_free(LoopObject *loop);
int
ac_timer_traverse(LoopObject *loop, visitproc visit, void *arg);

/* The earliest deadline, INFINITY if there is none. Drops cancelled timers that
 * come first: may run Python. */
double
ac_timer_first(LoopObject *loop);

/* Whether there is no more than one timer, cancelled ones included. */
bool
ac_timer_is_only(const LoopObject *loop);

/* A timer that leaves the list of those that the collector does not see: it dies or
 * is shown to it. */
void
ac_timer_grown(LoopObject *loop, TimerHandleObject *timer);

/* Shows all timers to the collector: the loop stops running and may be garbage. */
void
ac_timer_track(LoopObject *loop);

/* Counts a timer that the caller marks as cancelled right after it. */
void
ac_timer_cancelling(LoopObject *loop, TimerHandleObject *timer);

/* Rebuilds the heap if more than half of it is cancelled. May run Python. */
void
ac_timer_compact(LoopObject *loop);

/* Moves what is due before `end` to loop->due, in order of the deadline, then of
 * creation. Returns 0, or -1 with MemoryError and nothing lost. */
int
ac_timer_pop_due(LoopObject *loop, double end);

/* The timers as a list, in the order in which they fire; new reference. */
PyObject *
ac_timer_list(const LoopObject *loop);

extern PyMethodDef ac_timer_methods[];

#endif
