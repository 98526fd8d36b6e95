/* Contexts without variables, of which one is as good as another. */
#ifndef AC_CONTEXT_H
#define AC_CONTEXT_H

#include "core/state.h"

/* Finds out where a context has its variables. Returns 0, also if that stays unknown,
 * or -1 with an exception. */
int
ac_context_prove(ac_state *state);

/* Whether a context is known to have no variables. Runs no Python. */
static inline bool
ac_context_is_empty(const ac_state *state, PyObject *context)
{
    return state->no_variables != NULL
           && *(PyObject **)((char *)context + state->context_offset)
                  == state->no_variables;
}

/* Whether an object of which the caller has a reference is a context as PyContext_New()
 * makes them: nobody else has it, and nothing is in it. Runs no Python. */
static inline bool
ac_context_is_new(const ac_state *state, PyObject *context)
{
    return PyContext_CheckExact(context) && Py_REFCNT(context) == 1
           && ac_context_is_empty(state, context)
           && *(PyObject **)((char *)context + PyContext_Type.tp_weaklistoffset)
                  == NULL;
}

#endif
