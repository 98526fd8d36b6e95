/* Pieces: see pieces.h. */
#include "core/python.h"

#include "tls/pieces.h"

PyObject *
ac_pieces_get(ac_state *state)
{
    // without a GIL a count of one may be another thread's: none is kept
    for (size_t i = 0; !AC_FREE_THREADED && i < AC_TLS_PIECES; i++) {
        PyObject **place = &state->tls_pieces[i];
        if (*place == NULL) {
            *place = PyBytes_FromStringAndSize(NULL, AC_PIECE);
            if (*place == NULL) {
                PyErr_Clear();  // a smaller one may be had
                return NULL;
            }
            return Py_NewRef(*place);
        }
        if (Py_REFCNT(*place) == 1) {
            Py_SET_SIZE((PyVarObject *)*place, AC_PIECE);
            return Py_NewRef(*place);
        }
    }
    return NULL;
}

void
ac_pieces_clear(ac_state *state)
{
    for (size_t i = 0; i < AC_TLS_PIECES; i++) {
        Py_CLEAR(state->tls_pieces[i]);
    }
}
