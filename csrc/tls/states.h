/* What the methods of a connection's states share: SSLProtocolState, and the ways on to
 * the standard's methods for what is not the usual. */
#ifndef AC_STATES_H
#define AC_STATES_H

#include "tls/tls.h"

/* Sets a member to a borrowed object. */
static inline void
ac_states_member(PyObject **member, PyObject *value)
{
    Py_XSETREF(*member, Py_NewRef(value));
}

/* _set_state(new). Returns 0, or -1 with RuntimeError. */
int
ac_states_set(TLSObject *self, PyObject *new_state);

/* The standard's method of this name, with one argument or none, for `return`. */
PyObject *
ac_states_standard(TLSObject *self, PyObject *name, PyObject *argument);

/* Whether loop.get_debug(); -1 with an exception. */
int
ac_states_is_debug(TLSObject *self);

/* `except SSLAgainErrors: self._process_outgoing()` and
 * `except ssl.SSLError as exc: self.<name>(exc)` for the exception being raised.
 * Returns 0, or -1 with one that goes on. */
int
ac_states_raised(TLSObject *self, PyObject *name);

/* *member = loop.call_later(seconds, self.<name>). Returns 0, or -1 with an exception.
 */
int
ac_states_start_timeout(TLSObject *self, PyObject **member, PyObject *seconds,
                        PyObject *name);

/* `_closed = True` on the transport above, if there is one. Returns 0, or -1 with an
 * exception. */
int
ac_states_mark_closed(TLSObject *self);

extern PyMethodDef ac_states_methods[];

#endif
