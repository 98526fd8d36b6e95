/* The classes of the ssl module, and whether they are as the module made them. */
#ifndef AC_SSLMODULE_H
#define AC_SSLMODULE_H

#include "core/state.h"

/* Takes the functions and types that records depend on, as they are now. Returns 0, or
 * -1 with an exception. */
int
ac_sslmodule_remember(ac_state *state);

/* Whether an object, perhaps NULL, is an ssl.SSLObject whose methods only pass on to
 * the `_ssl._SSLSocket` in it. */
bool
ac_sslmodule_is_object(const ac_state *state, PyObject *sslobj);

/* Whether wrap_bio() of an ssl.SSLContext makes such an object. */
bool
ac_sslmodule_is_context(const ac_state *state, PyObject *context);

/* Whether nobody can tell records by libssl from those by the methods of an SSLObject,
 * perhaps of a subclass. -1 with an exception. */
int
ac_sslmodule_has_records(ac_state *state, PyObject *sslobj);

#endif
