/* Programs replace time.monotonic, and the standard loop looks it up at each call. That
 * takes 110 instructions, each turn and each call_later (3.13). Here it is looked up
 * when the module's dict has changed: on 3.11 a dict has a version; later ones have
 * watchers, of which an interpreter has a handful, so that all states of one share
 * it. A watcher is told nothing but the dict, hence the count lies in the
 * interpreter's own dict. */
#include "core/python.h"

#include "core/dictwatch.h"

#if AC_HAVE_DICT_WATCHERS

#define NAME "asynccore._core.time_changes"

/* The capsule of this interpreter's count; borrowed, NULL where there is none. The
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

static int
on_change(PyDict_WatchEvent event, PyObject *Py_UNUSED(dict), PyObject *Py_UNUSED(key),
          PyObject *Py_UNUSED(value))
{
    if (event == PyDict_EVENT_DEALLOCATED) {
        return 0;  // the interpreter ends, and may be without its own dict
    }
    PyObject *capsule = find_borrowed();
    if (capsule != NULL) {
        uint64_t *changes = PyCapsule_GetPointer(capsule, NAME);
        ++*changes;
    }
    return 0;
}

static void
free_count(PyObject *capsule)
{
    PyMem_Free(PyCapsule_GetPointer(capsule, NAME));
}

/* Makes the count of this interpreter. New reference, NULL with an exception. */
static PyObject *
make_count(PyObject *watched)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());  // borrowed
    uint64_t *changes = PyMem_Malloc(sizeof(*changes));
    if (dict == NULL || changes == NULL) {
        PyMem_Free(changes);
        return PyErr_NoMemory();
    }
    *changes = 1;
    PyObject *capsule = PyCapsule_New(changes, NAME, free_count);
    if (capsule == NULL) {
        PyMem_Free(changes);
        return NULL;
    }
    int watcher = PyDict_AddWatcher(on_change);
    if (watcher < 0 || PyDict_Watch(watcher, watched) < 0
        || PyDict_SetItemString(dict, NAME, capsule) < 0)
    {
        Py_CLEAR(capsule);
    }
    return capsule;
}

int
ac_dictwatch_time(ac_state *state)
{
    state->time_watch = Py_XNewRef(find_borrowed());
    if (state->time_watch == NULL) {
        state->time_watch = make_count(state->time_dict);
    }
    if (state->time_watch != NULL) {
        state->time_changes = PyCapsule_GetPointer(state->time_watch, NAME);
    }
    else if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear();  // others have all the watchers
    }
    return state->time_watch == NULL && PyErr_Occurred() ? -1 : 0;
}

#else

int
ac_dictwatch_time(ac_state *state)
{
    state->time_changes = &((PyDictObject *)state->time_dict)->ma_version_tag;
    return 0;
}

#endif
