/* loop.create_task. */
#ifndef AC_TASK_H
#define AC_TASK_H

#include "loop/loop.h"

/* Remembers the interpreter's own create_task, before _core.Loop is made. Returns 0, or
 * -1 with an exception. */
int
ac_task_register(ac_state *state);

extern PyMethodDef ac_task_methods[];

#endif
