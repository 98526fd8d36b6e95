/* loop.create_task. */
#ifndef AC_TASK_H
#define AC_TASK_H

#include "loop/loop.h"

/* Remembers the interpreter's own create_task, before _core.Loop is made. Returns 0, or
 * -1 with an exception. */
int
ac_task_register(ac_state *state);

/* create_task with the parameters that the interpreter's own one has, which differ from
 * one release to the next: a table as in PyMethodDef. */
PyMethodDef *
ac_task_methods(const ac_state *state);

#endif
