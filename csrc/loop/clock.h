/* The loop's clock: time.monotonic(), or what a program put in its place. */
#ifndef AC_CLOCK_H
#define AC_CLOCK_H

#include "loop/loop.h"

/* Sets *now to the loop's time in seconds, by a replaced loop.time() if there is one.
 * Returns 0, or -1 with an exception. */
int
ac_clock_now(LoopObject *loop, double *now);

/* Loop.time */
extern PyMethodDef ac_clock_methods[];

#endif
