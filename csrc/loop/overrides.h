/* Methods of the loop that a subclass or an assignment replaced: then our own code
 * calls them through the instance, as the standard loop does. */
#ifndef AC_OVERRIDES_H
#define AC_OVERRIDES_H

#include "loop/loop.h"

/* Works out `overridden` anew. Returns 0, or -1 with an exception. */
int
ac_overrides_refresh(LoopObject *loop);

/* Whether `overridden` is that of the class as it is now. */
static inline bool
ac_overrides_are_known(const LoopObject *loop)
{
    unsigned int version = ac_type_version(Py_TYPE(loop));
    return version != 0 && version == AC_LOAD(loop->type_version);
}

/* The same in two instructions where the class was not changed: before each look at
 * `overridden`, for a class may be patched in the middle of a callback. */
static inline int
ac_overrides_check(LoopObject *loop)
{
    return ac_overrides_are_known(loop) ? 0 : ac_overrides_refresh(loop);
}

/* tp_setattro of the loop: notices `loop.call_soon = ...` and its removal. */
int
ac_overrides_setattro(PyObject *self, PyObject *name, PyObject *value);

#endif
