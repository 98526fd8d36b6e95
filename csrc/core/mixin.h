/* transports._FlowControlMixin, which transports of ours derive from: its slots are the
 * first members of their structs. */
#ifndef AC_MIXIN_H
#define AC_MIXIN_H

#include "core/state.h"

/* In the slot of `_loop` lies the member `in_loop`: a type whose descriptors shadow the
 * slot may have something else there. */
#define AC_MIXIN_SLOTS(in_loop)                                                   \
    PyObject_HEAD                                                                 \
    PyObject *extra;                                                              \
    PyObject *high_water; /* what set_write_buffer_limits() stored: any number */ \
    PyObject *in_loop;                                                            \
    PyObject *low_water;                                                          \
    PyObject *protocol_paused; /* bool: after pause_writing() */

/* Compares them with the interpreter's. Returns 0, or -1 with ImportError. */
int
ac_mixin_check(ac_state *state);

/* tp_traverse and tp_clear of the slots. */
int
ac_mixin_traverse(PyObject *self, visitproc visit, void *arg);
void
ac_mixin_clear(PyObject *self);

#endif
