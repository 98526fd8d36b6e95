/* Methods of the loop that a subclass or an assignment replaced: then our own code
 * calls them through the instance, as the standard loop does. */
#ifndef AC_OVERRIDES_H
#define AC_OVERRIDES_H

#include "loop/loop.h"

/* Works out `overridden` anew if the class was changed. Returns 0, or -1 with an
 * exception. */
int
ac_overrides_refresh(LoopObject *loop);

/* tp_setattro of the loop: notices `loop.call_soon = ...` and its removal. */
int
ac_overrides_setattro(PyObject *self, PyObject *name, PyObject *value);

#endif
