/* The wake-up descriptor of signals: while a loop runs in the main thread, a signal
 * interrupts its poll, so that Python's own handlers run at once and the
 * callbacks of add_signal_handler after. */
#ifndef AC_SIGNALS_H
#define AC_SIGNALS_H

#include "loop/loop.h"

/* Sets the wake-up descriptor for a run in the main thread (elsewhere: nothing).
 * Returns 1 if done, 0 if there is no descriptor left, or -1 with an exception. */
int
ac_signals_begin(LoopObject *loop);

/* Makes sure before a wait that nobody has taken the descriptor away since: code that
 * knows nothing of the loop sets -1 when it has finished (another loop's last
 * add_signal_handler is removed). Somebody else's descriptor stays. */
void
ac_signals_keep(LoopObject *loop);

/* Puts back what was set before, unless somebody else has changed it meanwhile or
 * add_signal_handler callbacks are registered. Keeps a raised exception. */
void
ac_signals_end(LoopObject *loop);

/* In a forked child: a pipe of its own in the place of the parent's. Returns 0, or -1
 * with an exception. */
int
ac_signals_after_fork(LoopObject *loop);

/* Closes the descriptors; calls no user code. */
void
ac_signals_close(LoopObject *loop);

extern PyMethodDef ac_signals_methods[];

#endif
