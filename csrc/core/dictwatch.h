/* Whether dicts have changed since they were looked at: those of the modules whose
 * names the standard loop looks up each time, and those of which somebody keeps a note.
 */
#ifndef AC_DICTWATCH_H
#define AC_DICTWATCH_H

#include "core/state.h"
#include "core/threads.h"

#define AC_MODULE_DICTS \
    4 /* of the modules: time, asyncio.futures, tasks, base_events */

/* What the watcher of an interpreter counts. */
typedef struct ac_dict_changes {
    uint64_t modules;                        /* changes of the dicts of modules */
    uint64_t noted;                          /* of any that has a note */
    PyObject *module_dicts[AC_MODULE_DICTS]; /* to tell them apart by; owned */
    int watcher;
    bool instances; /* it is told of attributes, too; not so by 3.13.0 */
} ac_dict_changes;

/* A dict that was looked at. All NULL: none. */
typedef struct {
    PyObject *dict; /* owned */
    uint64_t seen;  /* what it was when it was looked at */
} ac_dict_note;

/* What is another number after each change in one of the modules; 0 if the interpreter
 * cannot tell. */
static inline uint64_t
ac_dictwatch_modules(const ac_state *state)
{
#if AC_HAVE_DICT_WATCHERS
    return state->module_changes == NULL ? 0 : AC_LOAD(*state->module_changes);
#else
    // each change takes a greater number than all before it
    return ac_dict_version(state->time_dict) + ac_dict_version(state->futures_dict)
           + ac_dict_version(state->tasks_dict)
           + ac_dict_version(state->base_events_dict);
#endif
}

/* What a dict has by a name, all of it that is counted: the number is to be read
 * before. New reference; NULL for nothing, or with an exception. */
PyObject *
ac_dictwatch_get(PyObject *dict, PyObject *name);

/* What is another number after each change of a dict; 0 if the interpreter cannot
 * tell. */
static inline uint64_t
ac_dictwatch_changes(const ac_state *state, PyObject *dict)
{
#if AC_HAVE_DICT_WATCHERS
    (void)dict;
    return state->dict_changes == NULL ? 0 : AC_LOAD(state->dict_changes->noted);
#else
    (void)state;
    return ac_dict_version(dict);
#endif
}

/* Whether this is the dict of the note, and as it was. */
static inline bool
ac_dictwatch_is_noted(const ac_state *state, const ac_dict_note *note, PyObject *dict)
{
    return note->dict == dict && dict != NULL
           && note->seen == ac_dictwatch_changes(state, dict);
}

/* Whether the interpreter can tell of the changes of an instance's dict. */
static inline bool
ac_dictwatch_can_tell(const ac_state *state)
{
#if AC_HAVE_DICT_WATCHERS
    return state->dict_changes != NULL && state->dict_changes->instances;
#else
    (void)state;
    return true;
#endif
}

/* Notes a dict that is looked at right now, where the interpreter can tell of its
 * changes. Runs no Python but that of a dict that is freed. */
void
ac_dictwatch_note(ac_state *state, ac_dict_note *note, PyObject *dict);

/* Drops the note: the dict is about to change several times. */
void
ac_dictwatch_drop(ac_state *state, ac_dict_note *note);

/* Begins to watch the modules; sets state->dict_changes. Returns 0, or -1 with an
 * exception. */
int
ac_dictwatch_open(ac_state *state);

#endif
