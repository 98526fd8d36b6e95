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

/* Number of timers in the heap. */
size_t
ac_timer_count(const LoopObject *loop);

/* The earliest deadline; only while there is a timer. */
double
ac_timer_first(const LoopObject *loop);

/* Takes a timer out of the heap if it is there, and drops the heap's reference. */
void
ac_timer_remove(LoopObject *loop, TimerHandleObject *timer);

/* Moves what is due before `end` to loop->due, in order of the deadline, then of
 * creation. Returns 0, or -1 with MemoryError and nothing lost. */
int
ac_timer_pop_due(LoopObject *loop, double end);

/* The timers as a list, in no order; new reference. */
PyObject *
ac_timer_list(const LoopObject *loop);

extern PyMethodDef ac_timer_methods[];

#endif
