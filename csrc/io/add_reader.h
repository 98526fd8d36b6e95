/* add_reader and add_writer: callbacks on descriptors of the user. */
#ifndef AC_ADD_READER_H
#define AC_ADD_READER_H

#include "core/state.h"

/* Registers the methods of _core.Loop. Returns 0, or -1 with an exception. */
int
ac_add_reader_register(ac_state *state);

#endif
