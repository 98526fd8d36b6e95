/* Handle and TimerHandle: creation, attributes, cancel, the freelist.
 *
 * What the bases do in Python and is not hot (repr, comparison, when,
 * get_context) is inherited and reads the attributes below. */
#include "core/python.h"

#include "core/context.h"
#include "loop/freelist.h"
#include "loop/handle.h"
#include "loop/handle_parts.h"
#include "loop/owner.h"
#include "loop/threadsafe.h"
#include "loop/timer.h"

#include <stddef.h>

/* ------------------------------------------------------------- creation -- */

/* What Handle.__init__ stores in debug mode: the innermost frames, of which the
 * standard's own count but are not kept. Returns 0, or -1 with an exception. */
static int
handle_trace(LoopObject *loop, HandleObject *handle, int own_frames)
{
    PyObject *frame = (PyObject *)PyEval_GetFrame();  // borrowed, kept by the caller
    PyObject *limit = PyLong_FromLong(AC_DEBUG_STACK_DEPTH - own_frames);
    if (limit == NULL) {
        return -1;
    }
    handle->source_traceback = PyObject_CallMethodObjArgs(
        loop->state->format_helpers, loop->state->str_extract_stack,
        frame == NULL ? Py_None : frame, limit, NULL);
    Py_DECREF(limit);
    return handle->source_traceback == NULL ? -1 : 0;
}

/* The context of a new handle: a copy of the current one, unless one is given. A copy
 * of an empty one is made when the handle runs: until then it is NULL. Returns 0, or -1
 * with an exception. */
static int
handle_set_context(ac_state *state, HandleObject *handle, PyObject *context)
{
    if (context != NULL && context != Py_None) {
        handle->context = Py_NewRef(context);
        return 0;
    }
    PyObject *current = ac_context_borrowed();
    if (current != NULL && ac_context_is_empty(state, current)) {
        return 0;
    }
    handle->context = PyContext_CopyCurrent();
    return handle->context == NULL ? -1 : 0;
}

/* A context without variables that nobody else knows. New reference, NULL with
 * MemoryError. May run Python: a finalizer. */
static PyObject *
new_context(LoopObject *loop)
{
    if (AC_FREE_THREADED) {  // see ac_handle_done_steal: there is none
        return PyContext_New();
    }
    PyObject *spare = loop->spare_context;
    loop->spare_context = NULL;
    if (spare != NULL && ac_context_is_new(loop->state, spare)) {
        return spare;
    }
    Py_XDECREF(spare);  // somebody has found it by the collector
    return PyContext_New();
}

PyObject *
ac_handle_context(LoopObject *loop, HandleObject *handle)
{
    PyObject *has = AC_LOAD(handle->context);
    if (has != NULL) {
        return has;
    }
    PyObject *context = new_context(loop), *made = NULL;
    AC_LOCK_OBJECT(handle);
    if (context != NULL && handle->context == NULL) {
        handle->context = made = context;
    }
    AC_UNLOCK_OBJECT(handle);
    if (made == NULL) {
        Py_XDECREF(context);
        made = context == NULL ? NULL : handle->context;
    }
    return made;
}

int
ac_handle_fill(LoopObject *loop, HandleObject *handle, PyObject *callback,
               PyObject *const *args, Py_ssize_t nargs, PyObject *context,
               int own_frames)
{
    handle->cancelled = Py_NewRef(Py_False);
    handle->loop = Py_NewRef((PyObject *)loop);
    handle->callback = Py_NewRef(callback);
    if (handle_set_context(loop->state, handle, context) < 0) {
        return -1;
    }
    if (nargs == 1 && !PyTuple_CheckExact(args[0])) {
        handle->args = Py_NewRef(args[0]);
    }
    else if (nargs > 0) {
        handle->args = PyTuple_New(nargs);
        if (handle->args == NULL) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(handle->args, i, Py_NewRef(args[i]));
        }
    }
    return loop->debug ? handle_trace(loop, handle, own_frames) : 0;
}

PyObject *
ac_handle_new(LoopObject *loop, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context, int own_frames)
{
    PyObject *self = ac_freelist_new(AC_FREELIST_OF(loop, handles), loop->state->Handle,
                                     sizeof(HandleObject));
    if (self != NULL
        && ac_handle_fill(loop, (HandleObject *)self, callback, args, nargs, context,
                          own_frames)
               < 0)
    {
        Py_CLEAR(self);
    }
    return self;
}

PyObject *
ac_handle_new_timer(LoopObject *loop, PyObject *when, double deadline,
                    PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *context, int own_frames)
{
    PyObject *self =
        ac_freelist_new(AC_FREELIST_OF(loop, timer_handles), loop->state->TimerHandle,
                        sizeof(TimerHandleObject));
    if (self == NULL) {
        return NULL;
    }
    TimerHandleObject *timer = (TimerHandleObject *)self;
    timer->in_heap = false;
    timer->young = -1;
    timer->deadline = deadline;
    timer->when = Py_XNewRef(when);
    timer->scheduled = Py_NewRef(Py_True);
    if (ac_handle_fill(loop, (HandleObject *)self, callback, args, nargs, context,
                       own_frames)
        < 0)
    {
        Py_CLEAR(self);
    }
    return self;
}

/* ------------------------------------------------------- life and death -- */

int
ac_handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    HandleObject *handle = (HandleObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(handle->args);
    Py_VISIT(handle->callback);
    Py_VISIT(handle->cancelled);
    Py_VISIT(handle->context);
    Py_VISIT(handle->loop);
    Py_VISIT(handle->repr);
    Py_VISIT(handle->source_traceback);
    return 0;
}

int
ac_handle_clear(PyObject *self)
{
    HandleObject *handle = (HandleObject *)self;
    Py_CLEAR(handle->args);
    Py_CLEAR(handle->callback);
    Py_CLEAR(handle->cancelled);
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->loop);
    Py_CLEAR(handle->repr);
    Py_CLEAR(handle->source_traceback);
    return 0;
}

LoopObject *
ac_handle_take_loop(HandleObject *handle)
{
    LoopObject *loop = (LoopObject *)handle->loop;
    handle->loop = NULL;
    return loop;
}

/* Handles may be chained by their arguments, as long as one likes: the trashcan keeps
 * the end of such a chain from taking a stack frame for each. */
static void
handle_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, handle_dealloc);
    PyObject_ClearWeakRefs(self);
    LoopObject *loop = ac_handle_take_loop((HandleObject *)self);
    (void)ac_handle_clear(self);
    ac_freelist_free(self, loop, loop == NULL ? NULL : &loop->handles);
    Py_TRASHCAN_END;
}

static int
timer_handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    TimerHandleObject *timer = (TimerHandleObject *)self;
    Py_VISIT(timer->scheduled);
    Py_VISIT(timer->when);
    return ac_handle_traverse(self, visit, arg);
}

static int
timer_handle_clear(PyObject *self)
{
    TimerHandleObject *timer = (TimerHandleObject *)self;
    Py_CLEAR(timer->scheduled);
    Py_CLEAR(timer->when);
    return ac_handle_clear(self);
}

static void
timer_handle_dealloc(PyObject *self)
{
    TimerHandleObject *timer = (TimerHandleObject *)self;
    PyObject_GC_UnTrack(self);
    if (timer->young >= 0) {  // before it may wait in the trashcan
        ac_timer_grown((LoopObject *)timer->loop, timer);
    }
    Py_TRASHCAN_BEGIN(self, timer_handle_dealloc);
    PyObject_ClearWeakRefs(self);
    LoopObject *loop = ac_handle_take_loop((HandleObject *)self);
    (void)timer_handle_clear(self);
    ac_freelist_free(self, loop, loop == NULL ? NULL : &loop->timer_handles);
    Py_TRASHCAN_END;
}

/* Drops the context of a handle that has run. An empty one that nobody else knows is
 * for the next. */
static void
drop_context(LoopObject *loop, HandleObject *handle)
{
    PyObject *context = handle->context;
    handle->context = NULL;
    if (context != NULL && loop->spare_context == NULL
        && ac_context_is_new(loop->state, context))
    {
        loop->spare_context = context;
    }
    else {
        Py_XDECREF(context);
    }
}

/* Clears what the callback has used. */
static void
handle_clear_call(LoopObject *loop, HandleObject *handle)
{
    Py_CLEAR(handle->args);
    Py_CLEAR(handle->callback);
    Py_CLEAR(handle->cancelled);
    drop_context(loop, handle);
    Py_CLEAR(handle->loop);
    Py_CLEAR(handle->repr);
    Py_CLEAR(handle->source_traceback);
}

/* The freelist for a handle that is exactly of one of our classes, or NULL. */
static ac_freelist *
freelist_of(LoopObject *loop, PyObject *self)
{
    const ac_state *state = loop->state;
    return Py_IS_TYPE(self, state->Handle)            ? &loop->handles
           : Py_IS_TYPE(self, state->TimerHandle)     ? &loop->timer_handles
           : ac_threadsafe_is_ours(loop->state, self) ? &loop->threadsafe_handles
                                                      : NULL;
}

/* Whether a handle of which the caller has a reference can be used again: nobody else
 * has one or looks at it by a weak reference. */
static bool
handle_is_unseen(LoopObject *loop, PyObject *self, const ac_freelist *freelist)
{
    return Py_REFCNT(self) == 1 && ((HandleObject *)self)->loop == (PyObject *)loop
           && !loop->closed && freelist->len < AC_FREELIST_MAX
           && *(PyObject **)((char *)self + Py_TYPE(self)->tp_weaklistoffset) == NULL;
}

/* As the dealloc functions, without the way there and back. */
void
ac_handle_done_steal(LoopObject *loop, PyObject *self)
{
    // without a GIL the count that is one here may be of another thread
    ac_freelist *freelist = AC_FREE_THREADED ? NULL : freelist_of(loop, self);
    if (freelist == NULL || !handle_is_unseen(loop, self, freelist)) {
        Py_DECREF(self);
        return;
    }
    PyObject_GC_UnTrack(self);
    if (freelist == &loop->timer_handles) {
        TimerHandleObject *timer = (TimerHandleObject *)self;
        if (timer->young >= 0) {
            ac_timer_grown(loop, timer);
        }
        Py_CLEAR(timer->scheduled);
        Py_CLEAR(timer->when);
    }
    else if (freelist == &loop->threadsafe_handles) {
        Py_CLEAR(((ThreadSafeHandleObject *)self)->lock);
    }
    handle_clear_call(loop, (HandleObject *)self);
    ac_freelist_keep_steal(self, freelist);
}

/* --------------------------------------------------------------- methods -- */

PyDoc_STRVAR(handle_cancel_doc,
             "cancel($self, /)\n--\n\n"
             "Do not call the callback. Counterpart of asyncio.Handle.cancel.");

/* Handle.cancel: in debug mode the repr is kept for later messages. */
int
ac_handle_cancel(PyObject *self)
{
    HandleObject *handle = (HandleObject *)self;
    if (AC_LOAD(handle->cancelled) == Py_True) {
        return 0;
    }
    ac_slot_set_steal(self, &handle->cancelled, Py_NewRef(Py_True));
    LoopObject *loop = (LoopObject *)handle->loop;
    if (loop != NULL && loop->debug) {
        PyObject *text = PyObject_Repr(self);
        if (text == NULL) {
            return -1;
        }
        ac_slot_set_steal(self, &handle->repr, text);
    }
    ac_slot_set_steal(self, &handle->callback, NULL);
    ac_slot_set_steal(self, &handle->args, NULL);
    return 0;
}

static PyObject *
handle_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return ac_handle_cancel(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
timer_handle_cancel(PyObject *self, PyObject *ignored)
{
    TimerHandleObject *timer = (TimerHandleObject *)self;
    if (AC_LOAD(timer->cancelled) == Py_True || timer->loop == NULL) {
        return handle_cancel(self, ignored);
    }
    PyObject *loop = Py_NewRef(timer->loop);
    PyObject *held = Py_NewRef(self);  // the heap may own the last other reference
    ac_timer_cancelling((LoopObject *)loop, timer);
    PyObject *result = handle_cancel(self, ignored);
    if (ac_owner_is_me((LoopObject *)loop)) {  // else the next turn sees to it
        ac_timer_compact((LoopObject *)loop);
    }
    Py_DECREF(held);
    Py_DECREF(loop);
    return result;
}

PyDoc_STRVAR(handle_cancelled_doc, "cancelled($self, /)\n--\n\n"
                                   "True if cancel() was called.");

static PyObject *
handle_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *cancelled = AC_LOAD(((HandleObject *)self)->cancelled);
    return Py_NewRef(cancelled == Py_True ? Py_True : Py_False);
}

static PyMethodDef handle_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, handle_cancel_doc},
    {"cancelled", handle_cancelled, METH_NOARGS, handle_cancelled_doc},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
    {"cancel", timer_handle_cancel, METH_NOARGS, handle_cancel_doc},
    {NULL, NULL, 0, NULL},
};

/* ------------------------------------------------------------ attributes -- */

PyObject *
ac_handle_args_tuple(PyObject *args)
{
    if (args == NULL) {
        return PyTuple_New(0);
    }
    return PyTuple_CheckExact(args) ? Py_NewRef(args) : PyTuple_Pack(1, args);
}

PyObject *
ac_handle_get_args(PyObject *self, void *Py_UNUSED(closure))
{
    HandleObject *handle = (HandleObject *)self;
    if (AC_LOAD(handle->callback) == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *args = ac_slot_get(self, &handle->args);
    PyObject *tuple = ac_handle_args_tuple(args);
    Py_XDECREF(args);
    return tuple;
}

int
ac_handle_set_args(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    HandleObject *handle = (HandleObject *)self;
    PyObject *tuple = NULL;
    if (value != NULL && value != Py_None && (tuple = PySequence_Tuple(value)) == NULL)
    {
        return -1;
    }
    ac_slot_set_steal(self, &handle->args, tuple);
    return 0;
}

PyObject *
ac_handle_get_slot(PyObject *self, void *closure)
{
    PyObject **slot = (PyObject **)((char *)self + (Py_ssize_t)closure);
    PyObject *value = ac_slot_get(self, slot);
    return value == NULL ? Py_NewRef(Py_None) : value;
}

int
ac_handle_set_slot(PyObject *self, PyObject *value, void *closure)
{
    PyObject **slot = (PyObject **)((char *)self + (Py_ssize_t)closure);
    ac_slot_set_steal(self, slot, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

PyObject *
ac_handle_get_context(PyObject *self, void *closure)
{
    HandleObject *handle = (HandleObject *)self;
    if (handle->loop != NULL
        && ac_handle_context((LoopObject *)handle->loop, handle) == NULL)
    {
        return NULL;
    }
    return ac_handle_get_slot(self, closure);
}

/* `_when` of call_later is made of the deadline when somebody asks. */
static PyObject *
timer_handle_get_when(PyObject *self, void *Py_UNUSED(closure))
{
    TimerHandleObject *timer = (TimerHandleObject *)self;
    PyObject *when = ac_slot_get(self, &timer->when);
    if (when == NULL && (when = PyFloat_FromDouble(timer->deadline)) != NULL) {
        ac_slot_set_steal(self, &timer->when, Py_NewRef(when));
    }
    return when;
}

static PyGetSetDef handle_getset[] = {
    AC_HANDLE_ATTRIBUTES,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef timer_handle_getset[] = {
    AC_HANDLE_ATTRIBUTES,
    {"_when", timer_handle_get_when, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ------------------------------------------------------------------ types -- */

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "A scheduled callback; an asyncio.Handle."},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, ac_handle_traverse},
    {Py_tp_clear, ac_handle_clear},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec = AC_HANDLE_SPEC("Handle", HandleObject, handle_slots);

static PyType_Slot timer_handle_slots[] = {
    {Py_tp_doc, "A callback scheduled for a time; an asyncio.TimerHandle."},
    {Py_tp_dealloc, timer_handle_dealloc},
    {Py_tp_traverse, timer_handle_traverse},
    {Py_tp_clear, timer_handle_clear},
    {Py_tp_methods, timer_handle_methods},
    {Py_tp_getset, timer_handle_getset},
    {0, NULL},
};

static PyType_Spec timer_handle_spec =
    AC_HANDLE_SPEC("TimerHandle", TimerHandleObject, timer_handle_slots);

static const ac_slot_offset handle_layout[] = {
    {"_args", offsetof(HandleObject, args)},
    {"_callback", offsetof(HandleObject, callback)},
    {"_cancelled", offsetof(HandleObject, cancelled)},
    {"_context", offsetof(HandleObject, context)},
    {"_loop", offsetof(HandleObject, loop)},
    {"_repr", offsetof(HandleObject, repr)},
    {"_source_traceback", offsetof(HandleObject, source_traceback)},
    {NULL, 0},
};

static const ac_slot_offset timer_handle_layout[] = {
    {"_scheduled", offsetof(TimerHandleObject, scheduled)},
    {"_when", offsetof(TimerHandleObject, when)},
    {NULL, 0},
};

/* The size of the base is that of our struct up to the first member of ours. */
int
ac_handle_register(PyObject *module, ac_state *state)
{
    if (ac_state_check_layout(state->asyncio_Handle, handle_layout,
                              sizeof(HandleObject))
            < 0
        || ac_state_check_layout(state->asyncio_TimerHandle, timer_handle_layout,
                                 offsetof(TimerHandleObject, deadline))
               < 0)
    {
        return -1;
    }
    state->Handle = ac_state_add_type(module, &handle_spec, state->asyncio_Handle);
    if (state->Handle == NULL) {
        return -1;
    }
    state->TimerHandle =
        ac_state_add_type(module, &timer_handle_spec, state->asyncio_TimerHandle);
    return state->TimerHandle == NULL ? -1 : 0;
}
