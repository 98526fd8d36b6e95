/* _ThreadSafeHandle of 3.14 and later: creation, the lock, cancel.
 *
 * The standard's handle holds its RLock while it is run, cancelled or asked whether it
 * is. Here the lock is made when somebody reads `_lock`, or when a thread has to wait
 * for another one; until then two numbers say who holds it and how often. Under the
 * GIL nothing comes between the look at them and the change; in a build without it the
 * lock is made with the handle.
 *
 * _run is the interpreter's, for those who call it; ready.c does the same in C. */
#include "core/python.h"

#include "core/errors.h"
#include "core/method.h"
#include "loop/freelist.h"
#include "loop/handle_parts.h"
#include "loop/owner.h"
#include "loop/threadsafe.h"

static int
make_lock(ThreadSafeHandleObject *handle);

/* ------------------------------------------------------------- creation -- */

/* What the classes must still have for a handle of ours to be one of theirs. */
static const char *const functions[] = {"__init__", "_run", "cancel", "cancelled"};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

/* The functions of _ThreadSafeHandle and those of Handle: a tuple. */
static PyObject *
classes_functions(ac_state *state)
{
    PyObject *classes[] = {state->asyncio_ThreadSafeHandle, state->asyncio_Handle};
    PyObject *tuple = PyTuple_New(2 * FUNCTIONS);
    for (size_t i = 0; tuple != NULL && i < 2 * FUNCTIONS; i++) {
        PyObject *function =
            ac_method_get(classes[i / FUNCTIONS], functions[i % FUNCTIONS]);
        if (function == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, function);
    }
    return tuple;
}

int
ac_threadsafe_look_for_patches(LoopObject *loop)
{
    ac_state *state = loop->state;
    // an assignment to the base changes it, too
    unsigned int version =
        ac_type_version_to_note((PyTypeObject *)state->asyncio_ThreadSafeHandle);
    PyObject *now = classes_functions(state);
    if (now == NULL) {
        return -1;
    }
    bool patched = false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(now); i++) {
        if (PyTuple_GET_ITEM(now, i) != PyTuple_GET_ITEM(state->threadsafe_stock, i)) {
            patched = true;
        }
    }
    Py_DECREF(now);
    AC_STORE(loop->threadsafe_patched, patched);
    AC_STORE(loop->threadsafe_version, version);
    return 0;
}

/* Takes the frame of _ThreadSafeHandle.__init__, the one of the standard's two that was
 * there, off the handle's traceback. Returns 0, or -1 with an exception. */
static int
drop_own_frame(PyObject *handle)
{
    PyObject *stack = PyObject_GetAttrString(handle, "_source_traceback");
    if (stack == NULL) {
        return -1;
    }
    int rc = 0;
    if (PyList_Check(stack) && PyList_GET_SIZE(stack) > 0) {
        Py_ssize_t size = PyList_GET_SIZE(stack);
        rc = PyList_SetSlice(stack, size - 1, size, NULL);
    }
    Py_DECREF(stack);
    return rc;
}

/* What the standard loop calls. */
static PyObject *
call_class(LoopObject *loop, const ac_args *parsed)
{
    PyObject *tuple = PyTuple_New(parsed->nrest);
    if (tuple == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < parsed->nrest; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(parsed->rest[i]));
    }
    PyObject *handle = PyObject_CallMethodObjArgs(
        loop->state->events, loop->state->str__ThreadSafeHandle, parsed->leading[0],
        tuple, loop, parsed->context == NULL ? Py_None : parsed->context, NULL);
    Py_DECREF(tuple);
    if (handle != NULL && loop->debug && drop_own_frame(handle) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* Whether the class that the standard loop calls is not what it was at import: 1, 0,
 * or -1 with an exception. */
static int
class_is_changed(LoopObject *loop)
{
    ac_state *state = loop->state;
    if (ac_threadsafe_check_patches(loop) < 0) {
        return -1;
    }
    PyObject *now = PyDict_GetItemWithError(PyModule_GetDict(state->events),
                                            state->str__ThreadSafeHandle);
    return now != state->asyncio_ThreadSafeHandle || AC_LOAD(loop->threadsafe_patched);
}

static PyObject *
new_ours(LoopObject *loop, const ac_args *parsed)
{
    PyObject *self =
        ac_freelist_new(AC_FREELIST_OF(loop, threadsafe_handles),
                        loop->state->ThreadSafeHandle, sizeof(ThreadSafeHandleObject));
    if (self != NULL
        && ac_handle_fill(loop, (HandleObject *)self, parsed->leading[0], parsed->rest,
                          parsed->nrest, parsed->context, 2)
               < 0)
    {
        Py_CLEAR(self);
    }
    if (AC_FREE_THREADED && self != NULL
        && make_lock((ThreadSafeHandleObject *)self) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

PyObject *
ac_threadsafe_new(LoopObject *loop, const ac_args *parsed)
{
    PyObject *handle;
    if (AC_HAVE_THREADSAFE_HANDLE) {
        int changed = class_is_changed(loop);
        if (changed != 0) {
            return changed < 0 ? NULL : call_class(loop, parsed);
        }
        handle = new_ours(loop, parsed);
    }
    else {
        handle = ac_handle_new(loop, parsed->leading[0], parsed->rest, parsed->nrest,
                               parsed->context, 2);
    }
    // perhaps nobody runs the loop any more; or another thread shows it to the
    // collector
    if (handle != NULL && (!AC_LOAD(loop->running) || !ac_owner_is_me(loop))) {
        ac_handle_track(handle);
    }
    return handle;
}

/* ------------------------------------------------------- life and death -- */

static int
threadsafe_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((ThreadSafeHandleObject *)self)->lock);
    return ac_handle_traverse(self, visit, arg);
}

/* The lock refers to nothing, so ac_handle_clear will do for tp_clear: a handle keeps
 * what it has once shown. */
static void
threadsafe_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, threadsafe_dealloc);
    PyObject_ClearWeakRefs(self);
    LoopObject *loop = ac_handle_take_loop((HandleObject *)self);
    Py_CLEAR(((ThreadSafeHandleObject *)self)->lock);
    (void)ac_handle_clear(self);
    ac_freelist_free(self, loop, loop == NULL ? NULL : &loop->threadsafe_handles);
    Py_TRASHCAN_END;
}

/* -------------------------------------------------------------- the lock -- */

/* Makes the lock, held as it would be if it had been there. Returns 0, or -1 with an
 * exception. */
static int
make_lock(ThreadSafeHandleObject *handle)
{
    // the type itself: threading.RLock is a function, and lets other threads in
    PyObject *kind = ac_state_import("_thread", "RLock");
    PyObject *lock = kind == NULL ? NULL : PyObject_CallNoArgs(kind);
    Py_XDECREF(kind);
    if (lock == NULL) {
        return -1;
    }
    if (handle->lock != NULL) {  // made by another thread while we imported
        Py_DECREF(lock);
        return 0;
    }
    if (handle->held > 0) {
        PyObject *result = PyObject_CallMethod(lock, "_acquire_restore", "((Ik))",
                                               handle->held, handle->holder);
        if (result == NULL) {
            Py_DECREF(lock);
            return -1;
        }
        Py_DECREF(result);
    }
    handle->held = 0;
    handle->lock = lock;
    return 0;
}

/* lock.acquire() or lock.release() */
static int
call_lock(PyObject *lock, const char *name)
{
    Py_INCREF(lock);
    PyObject *result = PyObject_CallMethod(lock, name, NULL);
    Py_DECREF(lock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
ac_threadsafe_acquire(PyObject *self)
{
    ThreadSafeHandleObject *handle = (ThreadSafeHandleObject *)self;
    unsigned long thread = ac_thread_id();
    if (handle->lock == NULL && (handle->held == 0 || handle->holder == thread)) {
        handle->holder = thread;
        handle->held++;
        return 0;
    }
    if (handle->lock == NULL && make_lock(handle) < 0) {
        return -1;
    }
    return call_lock(handle->lock, "acquire");
}

int
ac_threadsafe_release(PyObject *self, int rc)
{
    ThreadSafeHandleObject *handle = (ThreadSafeHandleObject *)self;
    if (handle->lock == NULL) {
        assert(handle->held > 0 && handle->holder == ac_thread_id());
        handle->held--;
        return rc;
    }
    ac_errors_finally finally;
    ac_errors_finally_begin(&finally);
    if (call_lock(handle->lock, "release") < 0) {  // somebody else has released it
        rc = -1;
    }
    ac_errors_finally_end(&finally);
    return rc;
}

/* --------------------------------------------------------------- methods -- */

PyDoc_STRVAR(threadsafe_cancel_doc,
             "cancel($self, /)\n--\n\n"
             "Do not call the callback; wait for its end if another thread runs it.");

static PyObject *
threadsafe_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (ac_threadsafe_acquire(self) < 0
        || ac_threadsafe_release(self, ac_handle_cancel(self)) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(threadsafe_cancelled_doc,
             "cancelled($self, /)\n--\n\n"
             "True if cancel() was called; waits as that does.");

static PyObject *
threadsafe_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (ac_threadsafe_acquire(self) < 0) {
        return NULL;
    }
    bool cancelled = ((HandleObject *)self)->cancelled == Py_True;
    return ac_threadsafe_release(self, 0) < 0 ? NULL : PyBool_FromLong(cancelled);
}

static PyMethodDef threadsafe_methods[] = {
    {"cancel", threadsafe_cancel, METH_NOARGS, threadsafe_cancel_doc},
    {"cancelled", threadsafe_cancelled, METH_NOARGS, threadsafe_cancelled_doc},
    {NULL, NULL, 0, NULL},
};

/* `_lock`, which cannot be assigned either. */
static PyObject *
threadsafe_get_lock(PyObject *self, void *Py_UNUSED(closure))
{
    ThreadSafeHandleObject *handle = (ThreadSafeHandleObject *)self;
    if (handle->lock == NULL && make_lock(handle) < 0) {
        return NULL;
    }
    return Py_NewRef(handle->lock);
}

static PyGetSetDef threadsafe_getset[] = {
    AC_HANDLE_ATTRIBUTES,
    {"_lock", threadsafe_get_lock, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ------------------------------------------------------------------- type -- */

static PyType_Slot threadsafe_slots[] = {
    {Py_tp_doc, "A callback scheduled by another thread."},
    {Py_tp_dealloc, threadsafe_dealloc},
    {Py_tp_traverse, threadsafe_traverse},
    {Py_tp_clear, ac_handle_clear},
    {Py_tp_methods, threadsafe_methods},
    {Py_tp_getset, threadsafe_getset},
    {0, NULL},
};

static PyType_Spec threadsafe_spec =
    AC_HANDLE_SPEC("_ThreadSafeHandle", ThreadSafeHandleObject, threadsafe_slots);

static const ac_slot_offset threadsafe_layout[] = {
    {"_lock", offsetof(ThreadSafeHandleObject, lock)},
    {NULL, 0},
};

int
ac_threadsafe_register(PyObject *module, ac_state *state)
{
    PyObject *base = state->asyncio_ThreadSafeHandle;
    if (!AC_HAVE_THREADSAFE_HANDLE) {
        return 0;
    }
    if (ac_state_check_layout(base, threadsafe_layout,
                              offsetof(ThreadSafeHandleObject, holder))
        < 0)
    {
        return -1;
    }
    state->threadsafe_stock = classes_functions(state);
    if (state->threadsafe_stock == NULL) {
        return -1;
    }
    state->ThreadSafeHandle = ac_state_add_type(module, &threadsafe_spec, base);
    return state->ThreadSafeHandle == NULL ? -1 : 0;
}
