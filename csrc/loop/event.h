/* The loop's event array: what a poll found, in its order, for the turn to dispatch. */
#ifndef AC_EVENT_H
#define AC_EVENT_H

#include "loop/watcher.h"

/* Records the part of `events` that is wanted. It allocates nothing and runs without
 * the GIL: see ac_event_reserve. */
void
ac_event_record(ac_watcher *watcher, unsigned int events);

/* Takes the watcher out of the array. */
void
ac_event_forget(ac_watcher *watcher);

/* Makes room for `more` events, if there is memory: else they come in smaller
 * batches. Only between polls, with the GIL. */
void
ac_event_reserve(LoopObject *loop, size_t more);

#endif
