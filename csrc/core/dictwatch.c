/* Programs replace time.monotonic, and the standard loop looks it up at each call, as
 * asyncio.futures.Future and asyncio.tasks.Task. That takes 110 to 150 instructions,
 * each turn, call_later and future (3.13). Here they are looked up when one of these
 * modules has changed. In the same way an echo over streams does without the look-ups
 * that tell that nobody has overridden a method in its protocol.
 *
 * On 3.11 a dict has a version; later ones have watchers, of which an interpreter has a
 * handful, so that all states of one share it. A watcher is told nothing but the dict,
 * hence the counts lie in the interpreter's own dict; and all dicts with a note share
 * one count: when one changes, each is looked at again. */
#include "core/python.h"

#include "core/dictwatch.h"

#include <string.h>

PyObject *
ac_dictwatch_get(PyObject *dict, PyObject *name)
{
    PyObject *value;
    AC_BEGIN_OBJECT(dict);
    value = ac_dict_get(dict, name);
    AC_END_OBJECT();
    return value;
}

#if AC_HAVE_DICT_WATCHERS

#define NAME "asynccore._core.dict_changes"

/* The capsule of this interpreter's counts; borrowed, NULL where there is none. The
 * exception being raised stays. */
static PyObject *
find_borrowed(void)
{
    PyObject *exc = ac_err_take();
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());  // borrowed
    PyObject *found = dict == NULL ? NULL : PyDict_GetItemString(dict, NAME);
    PyErr_Clear();
    ac_err_restore_steal(exc);
    return found;
}

static void
module_dicts_borrowed(const ac_state *state, PyObject *dicts[AC_MODULE_DICTS])
{
    dicts[0] = state->time_dict;
    dicts[1] = state->futures_dict;
    dicts[2] = state->tasks_dict;
    dicts[3] = state->base_events_dict;
}

static bool
is_of_module(const ac_dict_changes *changes, PyObject *dict)
{
    bool found = false;
    for (size_t i = 0; i < AC_MODULE_DICTS; i++) {
        found = found || changes->module_dicts[i] == dict;
    }
    return found;
}

static int
on_change(PyDict_WatchEvent event, PyObject *dict, PyObject *Py_UNUSED(key),
          PyObject *Py_UNUSED(value))
{
    if (event == PyDict_EVENT_DEALLOCATED) {
        return 0;  // the interpreter may end, and be without its own dict; a note keeps
                   // its dict
    }
    PyObject *capsule = find_borrowed();
    if (capsule != NULL) {
        ac_dict_changes *changes = PyCapsule_GetPointer(capsule, NAME);
        if (is_of_module(changes, dict)) {
            AC_INCREMENT(changes->modules);
        }
        else {
            AC_INCREMENT(changes->noted);
        }
    }
    return 0;
}

static void
free_counts(PyObject *capsule)
{
    ac_dict_changes *changes = PyCapsule_GetPointer(capsule, NAME);
    for (size_t i = 0; i < AC_MODULE_DICTS; i++) {
        Py_DECREF(changes->module_dicts[i]);
    }
    PyMem_Free(changes);
}

/* Returns 0, or -1 with an exception. */
static int
watch_modules(const ac_dict_changes *changes)
{
    int rc = 0;
    for (size_t i = 0; i < AC_MODULE_DICTS && rc == 0; i++) {
        rc = PyDict_Watch(changes->watcher, changes->module_dicts[i]);
    }
    return rc;
}

/* Assigns to an attribute, or deletes it (value NULL): whether that was counted. */
static bool
is_told(ac_dict_changes *changes, PyObject *object, const char *name, PyObject *value)
{
    uint64_t former = AC_LOAD(changes->noted);
    return PyObject_SetAttrString(object, name, value) == 0
           && AC_LOAD(changes->noted) != former;
}

/* Whether the watcher is told of what is assigned to an object of a class written in
 * Python: 3.13.0 forgets it where the values lie in the object. */
static bool
prove_instances(ac_dict_changes *changes)
{
    PyObject *type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "Probe");
    PyObject *object = type == NULL ? NULL : PyObject_CallNoArgs(type);
    bool told = false;
    if (object != NULL && PyObject_SetAttrString(object, "one", Py_None) == 0) {
        PyObject *dict = ac_instance_dict_borrowed(object);
        told = dict != NULL && PyDict_Watch(changes->watcher, dict) == 0
               && is_told(changes, object, "one", Py_False)
               && is_told(changes, object, "two", Py_None)
               && is_told(changes, object, "one", NULL);
    }
    Py_XDECREF(object);
    Py_XDECREF(type);
    PyErr_Clear();  // then it is not
    return told;
}

/* Makes the counts of this interpreter. New reference, NULL with an exception. */
static PyObject *
make_counts(const ac_state *state)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());  // borrowed
    ac_dict_changes *changes = PyMem_Malloc(sizeof(*changes));
    if (dict == NULL || changes == NULL) {
        PyMem_Free(changes);
        return PyErr_NoMemory();
    }
    *changes = (ac_dict_changes){.modules = 1, .noted = 1};
    module_dicts_borrowed(state, changes->module_dicts);
    PyObject *capsule = PyCapsule_New(changes, NAME, free_counts);
    if (capsule == NULL) {
        PyMem_Free(changes);
        return NULL;
    }
    for (size_t i = 0; i < AC_MODULE_DICTS; i++) {
        Py_INCREF(changes->module_dicts[i]);
    }
    changes->watcher = PyDict_AddWatcher(on_change);
    if (changes->watcher < 0 || watch_modules(changes) < 0
        || PyDict_SetItemString(dict, NAME, capsule) < 0)
    {
        Py_CLEAR(capsule);
    }
    else {
        changes->instances = prove_instances(changes);
    }
    return capsule;
}

int
ac_dictwatch_open(ac_state *state)
{
    state->dict_watch = Py_XNewRef(find_borrowed());
    if (state->dict_watch == NULL) {
        state->dict_watch = make_counts(state);
    }
    if (state->dict_watch != NULL) {
        state->dict_changes = PyCapsule_GetPointer(state->dict_watch, NAME);
        PyObject *dicts[AC_MODULE_DICTS];
        module_dicts_borrowed(state, dicts);
        // else those of modules that were imported again are not the ones it watches
        if (memcmp(dicts, state->dict_changes->module_dicts, sizeof(dicts)) == 0) {
            state->module_changes = &state->dict_changes->modules;
        }
    }
    else if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear();  // others have all the watchers
    }
    return state->dict_watch == NULL && PyErr_Occurred() ? -1 : 0;
}

void
ac_dictwatch_note(ac_state *state, ac_dict_note *note, PyObject *dict)
{
    if (PyDict_Watch(state->dict_changes->watcher, dict) < 0) {
        PyErr_Clear();  // it is a dict, and a watcher
        return;
    }
    note->seen = AC_LOAD(state->dict_changes->noted);
    if (note->dict != dict) {
        Py_XSETREF(note->dict, Py_NewRef(dict));
    }
}

void
ac_dictwatch_drop(ac_state *state, ac_dict_note *note)
{
    PyObject *dict = note->dict;
    if (dict == NULL) {
        return;
    }
    ac_dict_changes *changes = state->dict_changes;
    note->dict = NULL;
    if (changes != NULL) {             // the module may go first
        AC_INCREMENT(changes->noted);  // another note of it hears no more
        if (PyDict_Unwatch(changes->watcher, dict) < 0) {
            PyErr_Clear();  // it was
        }
    }
    Py_DECREF(dict);
}

#else

int
ac_dictwatch_open(ac_state *Py_UNUSED(state))
{
    return 0;
}

void
ac_dictwatch_note(ac_state *Py_UNUSED(state), ac_dict_note *note, PyObject *dict)
{
    note->seen = ac_dict_version(dict);
    if (note->dict != dict) {
        Py_XSETREF(note->dict, Py_NewRef(dict));
    }
}

void
ac_dictwatch_drop(ac_state *Py_UNUSED(state), ac_dict_note *note)
{
    Py_CLEAR(note->dict);
}

#endif
