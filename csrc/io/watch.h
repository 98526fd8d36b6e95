/* add_reader and add_writer: callbacks on descriptors of the user. */
#ifndef AC_WATCH_H
#define AC_WATCH_H

#include "loop/loop.h"

/* Registers the type of the table's entries and the methods of _core.Loop. */
int
ac_watch_register(PyObject *module, ac_state *state);

#endif
