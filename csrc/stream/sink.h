/* Protocols that take bytes in C: TLS and the stream reader.
 *
 * A stream, or a TLS connection for what it has decrypted, asks once whose protocol it
 * has, and then hands over the bytes where they are, without a call of data_received().
 * The layers above install their tables. */
#ifndef AC_SINK_H
#define AC_SINK_H

#include "core/dictwatch.h"

/* What a sink keeps with the stream that calls it. */
typedef struct {
    ac_dict_note attributes; /* of the protocol */
    PyObject *reader;        /* borrowed: a weak reference among them */
} ac_sink_note;

typedef struct ac_sink_ops {
    /* Whether this protocol, which is being taken up, is such a sink. May run Python.
     * Returns 1 or 0, or -1 with an exception. */
    int (*accepts)(ac_state *state, PyObject *protocol);
    /* Bytes have come. They stay where they are during the call; `whole` is the bytes
     * object that holds exactly them, or NULL. `note` may be NULL. Returns 1; 0 if they
     * are for data_received() now, and no Python has run; -1 with an exception. */
    int (*data)(ac_state *state, PyObject *protocol, ac_sink_note *note,
                const char *data, size_t len, PyObject *whole);
    const char *failed; /* what a failure is reported as */
} ac_sink_ops;

/* Installs a table, when the module is set up. */
static inline void
ac_sink_add(ac_state *state, const ac_sink_ops *ops)
{
    size_t i = 0;
    while (state->sinks[i] != NULL) {
        i++;
    }
    state->sinks[i] = ops;
}

/* The table of a protocol, or NULL in *found. May run Python. Returns 0, or -1 with an
 * exception. */
static inline int
ac_sink_find(ac_state *state, PyObject *protocol, const ac_sink_ops **found)
{
    const size_t n = sizeof(state->sinks) / sizeof(state->sinks[0]);
    *found = NULL;
    for (size_t i = 0; i < n && state->sinks[i] != NULL; i++) {
        int accepts = state->sinks[i]->accepts(state, protocol);
        if (accepts != 0) {
            *found = accepts < 0 ? NULL : state->sinks[i];
            return accepts < 0 ? -1 : 0;
        }
    }
    return 0;
}

#endif
