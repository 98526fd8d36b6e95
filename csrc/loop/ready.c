/* The ready queue: call_soon and call_soon_threadsafe put handles into the ring,
 * the turn (run.c) runs them.
 *
 * Other threads append under the GIL, or the loop's mutex where there is none, and wake
 * the poll if one is under way, as the standard loop does with its deque and
 * self-pipe. */
#include "core/python.h"

#include "core/args.h"
#include "loop/clock.h"
#include "loop/flood.h"
#include "loop/handle.h"
#include "loop/overrides.h"
#include "loop/owner.h"
#include "loop/poller.h"
#include "loop/ready.h"
#include "loop/report.h"
#include "loop/threadsafe.h"

/* Appends a handle (consumed) of any Handle class. Returns 0, or -1 with MemoryError.
 */
static int
ready_push_steal(LoopObject *loop, PyObject *handle)
{
    AC_LOCK(loop->mutex);
    int rc = ac_ring_reserve(&loop->ready);
    if (rc == 0) {
        ac_ring_push_reserved(&loop->ready, handle);
    }
    AC_UNLOCK(loop->mutex);
    if (rc < 0) {
        Py_DECREF(handle);
        PyErr_NoMemory();
    }
    return rc;
}

/* The same by another thread, which may close the loop meanwhile: RuntimeError. */
static int
ready_push_threadsafe_steal(LoopObject *loop, PyObject *handle)
{
#if AC_FREE_THREADED
    int rc = -1;
    AC_LOCK(loop->mutex);
    bool closed = AC_LOAD(loop->closed);
    if (!closed && (rc = ac_ring_reserve(&loop->ready)) == 0) {
        ac_ring_push_reserved(&loop->ready, handle);
    }
    AC_UNLOCK(loop->mutex);
    if (rc < 0) {
        Py_DECREF(handle);
        (void)(closed ? ac_loop_raise_closed() : (PyErr_NoMemory(), -1));
    }
    return rc;
#else
    return ready_push_steal(loop, handle);
#endif
}

/* Makes a handle and queues it; returns it, or NULL with an exception. */
static PyObject *
ready_schedule(LoopObject *loop, PyObject *callback, PyObject *const *args,
               Py_ssize_t nargs, PyObject *context)
{
    PyObject *handle = ac_handle_new(loop, callback, args, nargs, context, 2);
    if (handle == NULL) {
        return NULL;
    }
    if (!AC_LOAD(loop->running) || !ac_owner_is_me(loop)) {
        ac_handle_track(handle);
    }
    if (ready_push_steal(loop, Py_NewRef(handle)) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* The call_soon that somebody has put there. */
static PyObject *
call_replaced_call_soon(LoopObject *loop, PyObject *callback, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *context)
{
    ac_state *state = loop->state;
    PyObject *names = NULL;
    if (context != NULL && (names = PyTuple_Pack(1, state->str_context)) == NULL) {
        return NULL;
    }
    PyObject *stack[8] = {(PyObject *)loop, callback};
    assert(nargs + 3 <= 8);
    for (Py_ssize_t i = 0; i < nargs; i++) {
        stack[i + 2] = args[i];
    }
    stack[nargs + 2] = context;
    PyObject *handle = PyObject_VectorcallMethod(state->str_call_soon, stack,
                                                 (size_t)nargs + 2, names);
    Py_XDECREF(names);
    return handle;
}

int
ac_ready_call_soon(LoopObject *loop, PyObject *callback, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *context)
{
    PyObject *handle;
    if (ac_overrides_check(loop) < 0) {
        return -1;
    }
    if (loop->overridden & AC_OVERRIDE_CALL_SOON) {
        handle = call_replaced_call_soon(loop, callback, args, nargs, context);
    }
    else if (ac_loop_check_call(loop, callback, loop->state->str_call_soon) < 0) {
        return -1;
    }
    else {
        handle = ready_schedule(loop, callback, args, nargs, context);
    }
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

int
ac_ready_hand_over_steal(LoopObject *loop, PyObject *method, PyObject *argument)
{
    PyObject *handle = NULL;
    if (method != NULL) {
        handle =
            ac_handle_new(loop, method, &argument, argument == NULL ? 0 : 1, NULL, 0);
        Py_DECREF(method);
    }
    if (handle == NULL) {
        return -1;
    }
    ac_handle_track(handle);
    if (ready_push_threadsafe_steal(loop, handle) < 0) {
        return -1;
    }
    ac_poller_wake(loop);
    return 0;
}

#if AC_FREE_THREADED

bool
ac_ready_is_left_to_loop(LoopObject *loop, PyObject *self, PyMethodDef *method)
{
    if (!AC_LOAD(loop->running) || ac_owner_is_me(loop)) {
        return false;
    }
    PyObject *exc = ac_err_take();
    PyObject *call = PyCFunction_New(method, self);
    bool left = ac_ready_hand_over_steal(loop, call, NULL) == 0;
    PyErr_Clear();  // it was closed just now
    ac_err_restore_steal(exc);
    return left;
}

#endif

/* ---------------------------------------------------------------- running -- */

/* Returns 0, or -1 with an exception. */
static int
look_for_patches(LoopObject *loop)
{
    ac_state *state = loop->state;
    PyObject *timers = state->asyncio_TimerHandle;
    unsigned int version = ac_type_version_to_note((PyTypeObject *)timers);
    PyObject *run = PyObject_GetAttr(state->asyncio_Handle, state->str__run);
    PyObject *of_timers =
        run == NULL ? NULL : PyObject_GetAttr(timers, state->str__run);
    if (of_timers != NULL) {
        loop->handle_run_patched =
            run != state->handle_run || of_timers != state->handle_run;
        loop->instrumented = loop->debug || loop->handle_run_patched;
        loop->handle_version = version;
    }
    Py_XDECREF(run);
    Py_XDECREF(of_timers);
    return of_timers == NULL ? -1 : 0;
}

int
ac_ready_check_patches(LoopObject *loop)
{
    // an assignment to the base, Handle, changes it, too
    unsigned int version =
        ac_type_version((PyTypeObject *)loop->state->asyncio_TimerHandle);
    return version != 0 && version == loop->handle_version ? 0 : look_for_patches(loop);
}

/* callback() with the empty tuple. The step of a task is an object of C with nothing
 * but tp_call: the way through the interpreter's general call takes 80 instructions
 * more. */
static PyObject *
call_without_arguments(ac_state *state, PyObject *callback)
{
    PyTypeObject *type = Py_TYPE(callback);
    if (PyType_HasFeature(type, Py_TPFLAGS_HAVE_VECTORCALL) || type->tp_call == NULL) {
        return PyObject_CallNoArgs(callback);
    }
    PyObject *result = type->tp_call(callback, state->empty_tuple, NULL);
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_SystemError, "%R returned NULL without setting an exception",
                     callback);
    }
    return result;
}

/* callback(*args) of a handle of ours in its context. Returns 0, or -1 with the
 * exception. Everything that is used is held by the caller. */
static int
handle_call(ac_state *state, PyObject *callback, PyObject *args, PyObject *context)
{
    if (PyContext_Enter(context) < 0) {
        return -1;
    }
    PyObject *result;
    if (args == NULL) {
        result = call_without_arguments(state, callback);
    }
    else if (PyTuple_CheckExact(args)) {
        result = PyObject_Call(callback, args, NULL);
    }
    else {
        result = PyObject_CallOneArg(callback, args);
    }
    if (result == NULL) {
        PyObject *exc = ac_err_take();
        (void)PyContext_Exit(context);  // cannot fail: we entered it
        ac_err_restore_steal(exc);
        return -1;
    }
    Py_DECREF(result);
    return PyContext_Exit(context);
}

/* handle._cancelled of any Handle class: 1, 0, or -1 with an exception. */
static int
handle_is_cancelled(LoopObject *loop, PyObject *handle)
{
    PyObject *flag = PyObject_GetAttr(handle, loop->state->str__cancelled);
    int cancelled = flag == NULL ? -1 : PyObject_IsTrue(flag);
    Py_XDECREF(flag);
    return cancelled;
}

/* Handle._run, where it or the handle's class or context is not the usual one. */
static int
run_method(LoopObject *loop, PyObject *handle)
{
    PyObject *result = PyObject_CallMethodNoArgs(handle, loop->state->str__run);
    if (result == NULL) {
        // _run reports what it catches; what comes out is an exit or a defect of
        // the patch, which the standard loop lets out of run_forever as well
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

/* Whether a handle is an asyncio.Handle of this loop (HandleObject has its members) as
 * its __init__ makes them, not cancelled: those of signals are. */
static bool
is_usual_standard(LoopObject *loop, PyObject *object)
{
    if (!Py_IS_TYPE(object, (PyTypeObject *)loop->state->asyncio_Handle)) {
        return false;
    }
    HandleObject *handle = (HandleObject *)object;
    return handle->cancelled == Py_False && handle->loop == (PyObject *)loop
           && handle->callback != NULL && handle->context != NULL
           && handle->args != NULL && PyTuple_CheckExact(handle->args)
           && handle->source_traceback == Py_None;
}

/* What a handle calls, held; NULL if it was cancelled. */
static inline PyObject *
take_call(HandleObject *handle, PyObject **args)
{
    PyObject *callback = NULL;
    AC_LOCK_OBJECT(handle);
    // cleared, or cancelled; a repr that fails in cancel() leaves the callback
    if (handle->callback != NULL && handle->cancelled != Py_True) {
        callback = Py_NewRef(handle->callback);
        *args = Py_XNewRef(handle->args);
    }
    AC_UNLOCK_OBJECT(handle);
    return callback;
}

/* What Handle._run does, in C. */
static int
run_ours(LoopObject *loop, HandleObject *handle)
{
    PyObject *args;
    PyObject *callback = take_call(handle, &args);
    if (callback == NULL) {
        return 0;
    }
    PyObject *context = ac_handle_context(loop, handle);
    if (context != NULL && !PyContext_CheckExact(context)) {  // anything with a run()
        Py_DECREF(callback);
        Py_XDECREF(args);
        return run_method(loop, (PyObject *)handle);
    }
    Py_XINCREF(context);
    int rc = context == NULL ? -1 : handle_call(loop->state, callback, args, context);
    if (rc < 0) {
        PyObject *traceback = handle->source_traceback;
        traceback = traceback == Py_None ? NULL : traceback;
        // by itself: nothing is told of it
        const PyObject *left = AC_LOAD(handle->callback);
        bool cancelled = left == NULL || (left == Py_None && callback != Py_None);
        // another loop's may have been given to _add_callback()
        PyObject *owner =
            Py_NewRef(handle->loop == NULL ? (PyObject *)loop : handle->loop);
        rc = ac_report_callback((LoopObject *)owner, (PyObject *)handle,
                                cancelled ? Py_None : callback, cancelled ? NULL : args,
                                traceback);
        Py_DECREF(owner);
    }
    Py_XDECREF(context);
    Py_XDECREF(args);
    Py_DECREF(callback);
    return rc;
}

/* The warning of debug mode about a callback that took too long. */
static int
warn_if_slow(LoopObject *loop, PyObject *handle, double started)
{
    double now;
    if (ac_clock_now(loop, &now) < 0) {
        return -1;
    }
    double took = now - started;
    if (took < loop->slow_callback_duration) {
        return 0;
    }
    // looked up now, as the standard loop's module does: both may be patched
    PyObject *base_events = loop->state->base_events;
    PyObject *text = PyObject_CallMethod(base_events, "_format_handle", "O", handle);
    // looked up without an exception being raised: a look-up may clear that
    PyObject *logger =
        text == NULL ? NULL : PyObject_GetAttrString(base_events, "logger");
    PyObject *result = NULL;
    if (logger != NULL) {
        result = PyObject_CallMethod(logger, "warning", "sOd",
                                     "Executing %s took %.3f seconds", text, took);
    }
    Py_XDECREF(text);
    Py_XDECREF(logger);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
run_debug(LoopObject *loop, PyObject *handle)
{
    double started;
    if (ac_clock_now(loop, &started) < 0) {
        return -1;
    }
    PyObject *self = (PyObject *)loop;
    int rc = PyObject_SetAttrString(self, "_current_handle", handle);
    if (rc == 0) {
        rc = run_method(loop, handle);
    }
    if (rc == 0) {
        rc = warn_if_slow(loop, handle, started);
    }
    PyObject *exc = ac_err_take();
    if (PyObject_SetAttrString(self, "_current_handle", Py_None) < 0) {
        PyErr_WriteUnraisable(self);
    }
    ac_err_restore_steal(exc);
    return rc;
}

/* What _ThreadSafeHandle._run does. The loop looks at a cancelled one without waiting
 * for its lock, and again behind it. */
static int
run_threadsafe(LoopObject *loop, PyObject *handle)
{
    if (AC_LOAD(((HandleObject *)handle)->callback) == NULL) {
        return 0;
    }
    if (ac_threadsafe_acquire(handle) < 0) {
        return -1;
    }
    return ac_threadsafe_release(handle, run_ours(loop, (HandleObject *)handle));
}

/* Whether a handle is a _ThreadSafeHandle that is run in C: 1, 0, or -1 with an
 * exception. */
static int
is_usual_threadsafe(LoopObject *loop, PyObject *handle)
{
    if (loop->instrumented || !ac_threadsafe_is_ours(loop->state, handle)) {
        return 0;
    }
    return ac_threadsafe_check_patches(loop) < 0 ? -1 : !loop->threadsafe_patched;
}

int
ac_ready_run(LoopObject *loop, PyObject *handle)
{
    int rc = ac_ready_check_patches(loop), threadsafe;
    if (rc < 0) {
        return -1;
    }
    if (!loop->instrumented
        && (ac_handle_is_ours(loop->state, handle) || is_usual_standard(loop, handle)))
    {
        rc = run_ours(loop, (HandleObject *)handle);
    }
    else if ((threadsafe = is_usual_threadsafe(loop, handle)) != 0) {
        rc = threadsafe < 0 ? -1 : run_threadsafe(loop, handle);
    }
    else {
        int cancelled = handle_is_cancelled(loop, handle);
        if (cancelled != 0) {
            rc = cancelled < 0 ? -1 : 0;
        }
        else {
            rc = loop->debug ? run_debug(loop, handle) : run_method(loop, handle);
        }
    }
    return rc == 0 && ac_loop_holds(loop) ? 0 : ac_loop_flush_after(loop, rc);
}

void
ac_ready_put_first_steal(LoopObject *loop, PyObject *handle)
{
    AC_LOCK(loop->mutex);
    int rc = ac_ring_reserve(&loop->ready);
    if (rc == 0) {
        ac_ring_push_first_reserved(&loop->ready, handle);
    }
    AC_UNLOCK(loop->mutex);
    if (rc < 0) {
        Py_DECREF(handle);
        return;
    }
    loop->snapshot++;  // counts as the rest of it
    loop->events_before += loop->events_kept > 0 ? 1 : 0;
}

int
ac_ready_run_instrumented(LoopObject *loop, PyObject *object, PyObject *name,
                          PyObject *context)
{
    PyObject *method = PyObject_GetAttr(object, name);
    if (method == NULL) {
        return ac_report_unraised(loop, "Exception in event loop");
    }
    PyObject *handle = ac_handle_new(loop, method, NULL, 0, context, 0);
    Py_DECREF(method);
    if (handle == NULL) {
        return ac_report_unraised(loop, "Exception in event loop");
    }
    int rc = ac_ready_run(loop, handle);
    Py_DECREF(handle);
    return rc;
}

/* ---------------------------------------------------------------- methods -- */

/* (callback, *args, context=None). The tuple of names of the last call with context= is
 * kept: those of tasks and futures all bring the same one. Returns 0, or -1 with
 * TypeError. */
static int
ready_parse(ac_args *parsed, const char *function, ac_state *state,
            PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (ac_args_parse_usual(parsed, 1, state->names_context, args, nargs, kwnames)) {
        return 0;
    }
    if (ac_args_parse(parsed, function, &state->str_callback, 1, state->str_context,
                      args, nargs, kwnames)
        < 0)
    {
        return -1;
    }
    // other threads may look at it
    if (!AC_FREE_THREADED && parsed->context != NULL && PyTuple_GET_SIZE(kwnames) == 1)
    {
        Py_XSETREF(state->names_context, Py_NewRef(kwnames));
    }
    return 0;
}

PyDoc_STRVAR(loop_call_soon_doc,
             "call_soon($self, /, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) in the next turn of the loop.\n\n"
             "Counterpart of asyncio's loop.call_soon. Returns an asyncio.Handle.");

static PyObject *
loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    LoopObject *loop = (LoopObject *)self;
    ac_args parsed;
    if (ready_parse(&parsed, "BaseEventLoop.call_soon", loop->state, args, nargs,
                    kwnames)
            < 0
        || ac_loop_check_call(loop, parsed.leading[0], loop->state->str_call_soon) < 0)
    {
        return NULL;
    }
    return ready_schedule(loop, parsed.leading[0], parsed.rest, parsed.nrest,
                          parsed.context);
}

PyDoc_STRVAR(loop_call_soon_threadsafe_doc,
             "call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n"
             "Like call_soon, for use from another thread or a signal handler.\n\n"
             "Raises RuntimeError('Event loop is closed') when it comes too late.");

static PyObject *
loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
    LoopObject *loop = (LoopObject *)self;
    ac_state *state = loop->state;
    ac_args parsed;
    if (ready_parse(&parsed, "BaseEventLoop.call_soon_threadsafe", state, args, nargs,
                    kwnames)
            < 0
        || ac_loop_check_call(loop, parsed.leading[0], state->str_call_soon_threadsafe)
               < 0)
    {
        return NULL;
    }
    PyObject *handle = ac_threadsafe_new(loop, &parsed);
    // making the handle may have run a collection, and that anything
    if (handle == NULL || ac_loop_check_closed(loop) < 0
        || ready_push_threadsafe_steal(loop, Py_NewRef(handle)) < 0)
    {
        Py_XDECREF(handle);
        return NULL;
    }
    ac_poller_wake(loop);
    ac_flood_called(loop);
    return handle;
}

PyDoc_STRVAR(loop__add_callback_doc, "_add_callback($self, handle, /)\n--\n\n"
                                     "Queue a handle unless it is cancelled.");

static PyObject *
loop__add_callback(PyObject *self, PyObject *handle)
{
    LoopObject *loop = (LoopObject *)self;
    int ok = PyObject_IsInstance(handle, loop->state->asyncio_Handle);
    if (ok <= 0) {
        if (ok == 0) {
            PyErr_Format(PyExc_TypeError, "a Handle is required, got %R", handle);
        }
        return NULL;
    }
    int cancelled = handle_is_cancelled(loop, handle);
    if (cancelled < 0 || (!cancelled && ready_push_steal(loop, Py_NewRef(handle)) < 0))
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(loop__write_to_self_doc, "_write_to_self($self, /)\n--\n\n"
                                      "Wake the loop if it waits.");

static PyObject *
loop__write_to_self(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ac_poller_wake((LoopObject *)self);
    Py_RETURN_NONE;
}

PyMethodDef ac_ready_methods[] = {
    {"call_soon", AC_CFUNCTION(loop_call_soon), METH_FASTCALL | METH_KEYWORDS,
     loop_call_soon_doc},
    {"call_soon_threadsafe", AC_CFUNCTION(loop_call_soon_threadsafe),
     METH_FASTCALL | METH_KEYWORDS, loop_call_soon_threadsafe_doc},
    {"_add_callback", loop__add_callback, METH_O, loop__add_callback_doc},
    {"_write_to_self", loop__write_to_self, METH_NOARGS, loop__write_to_self_doc},
    {NULL, NULL, 0, NULL},
};
