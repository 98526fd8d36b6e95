/* Whether the dict of the module time has changed since it was looked at. */
#ifndef AC_DICTWATCH_H
#define AC_DICTWATCH_H

#include "core/state.h"

/* Sets state->time_changes to a number that is another one after each change of
 * state->time_dict; NULL if the interpreter cannot tell. Returns 0, or -1 with an
 * exception. */
int
ac_dictwatch_time(ac_state *state);

#endif
