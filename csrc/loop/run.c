/* Running a loop: turns in the order of BaseEventLoop._run_once.
 *
 * The standard's turn is: poll; the I/O handles and then the due timers go behind
 * what is ready already; a snapshot of that queue is run. Here the three parts are
 * kept apart and run one after the other: the snapshot of the ready ring, the
 * events of the poll, the due timers. What is left over when an exception leaves
 * the turn is put where the standard's queue has it: before what was scheduled
 * meanwhile and what the next turn finds. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/clock.h"
#include "loop/flood.h"
#include "loop/handle.h"
#include "loop/overrides.h"
#include "loop/owner.h"
#include "loop/poller.h"
#include "loop/ready.h"
#include "loop/run.h"
#include "loop/signals.h"
#include "loop/timer.h"

#include <math.h>
#include <string.h>

#define SECONDS_WITHOUT_POLL (AC_NS_WITHOUT_POLL / 1e9)
#define SECONDS_DEAF 0.5 /* the longest wait that no signal interrupts */
#define DUE_KEPT 1024    /* entries of loop->due that survive an idle moment */

/* ------------------------------------------------------------------- turn -- */

/* Shows a handle to the collector that outlives its run; timers are on a list. */
static void
track(LoopObject *loop, PyObject *handle)
{
    if (Py_IS_TYPE(handle, loop->state->TimerHandle)
        && ((TimerHandleObject *)handle)->young >= 0)
    {
        // on its own loop's, which need not be this one
        TimerHandleObject *timer = (TimerHandleObject *)handle;
        ac_timer_grown((LoopObject *)timer->loop, timer);
    }
    if (PyObject_IS_GC(handle)) {
        ac_handle_track(handle);
    }
}

/* Runs a handle and drops the queue's reference. */
static int
run_and_drop(LoopObject *loop, PyObject *handle)
{
    int rc = ac_ready_run(loop, handle);
    if (Py_REFCNT(handle) > 1) {
        track(loop, handle);
    }
    ac_handle_done_steal(loop, handle);
    return rc;
}

/* The oldest handle, ours now. */
static inline PyObject *
pop_ready(LoopObject *loop)
{
    AC_LOCK(loop->mutex);
    PyObject *handle = ac_ring_pop(&loop->ready);
    AC_UNLOCK(loop->mutex);
    return handle;
}

/* How many wait. */
static inline size_t
count_ready(const LoopObject *loop)
{
    return AC_LOAD(loop->ready.len);
}

/* Runs handles of the snapshot, *count of them, and counts down. */
static int
run_ready(LoopObject *loop, size_t *count)
{
    int rc = 0;
    // user code may have run a turn by hand and left less
    while (rc == 0 && *count > 0 && loop->snapshot > 0) {
        --*count;
        loop->snapshot--;
        rc = run_and_drop(loop, pop_ready(loop));
    }
    return rc;
}

/* Runs events up to the index *end. */
static int
run_events(LoopObject *loop, const size_t *end)
{
    int rc = 0;
    while (rc == 0 && loop->events_pos < *end && loop->events_pos < loop->events_len) {
        ac_watcher *watcher = loop->events[loop->events_pos++];
        if (watcher == NULL) {  // closed meanwhile
            continue;
        }
        unsigned int events = watcher->revents & watcher->wanted;
        watcher->revents = 0;
        if (events != 0) {
            rc = watcher->on_ready(watcher, events);
            if (rc == 0 && !ac_loop_holds(loop)) {
                rc = ac_loop_flush(loop);
            }
        }
    }
    return rc;
}

/* An exception leaves the turn: the rest of the due timers goes between the rest of
 * the snapshot and what was scheduled meanwhile; the rest of the events, to run
 * before the latter too, stays in its array. */
static void
keep_rest(LoopObject *loop)
{
    ac_ring *ready = &loop->ready;
    size_t rest = loop->snapshot;
    loop->snapshot = 0;
    loop->events_len -= loop->events_pos;
    if (loop->events_len > 0) {
        memmove(loop->events, loop->events + loop->events_pos,
                loop->events_len * sizeof(*loop->events));
    }
    // still among those that an earlier turn has left: they stay the first
    if (loop->events_kept > loop->events_pos) {
        loop->events_kept -= loop->events_pos;
    }
    else {
        loop->events_before = rest;
        loop->events_kept = loop->events_len;
    }
    loop->events_pos = 0;
    if (loop->due_pos == loop->due_len) {
        loop->due_len = loop->due_pos = 0;
        return;
    }
    AC_LOCK(loop->mutex);
    size_t scheduled = ready->len - rest;
    for (size_t i = 0; i < rest; i++) {
        ac_ring_push_reserved(ready, ac_ring_pop(ready));
    }
    while (loop->due_pos < loop->due_len && ac_ring_reserve(ready) == 0) {
        ac_ring_push_reserved(ready, loop->due[loop->due_pos++]);
    }
    if (loop->due_pos == loop->due_len) {   // else, without memory, they run as the
        loop->due_len = loop->due_pos = 0;  // first due timers of the next turn
    }
    for (size_t i = 0; i < scheduled; i++) {
        ac_ring_push_reserved(ready, ac_ring_pop(ready));
    }
    AC_UNLOCK(loop->mutex);
}

/* Runs what the turn has collected, behind what the last one left. */
static int
run_collected(LoopObject *loop)
{
    int rc = 0;
    if (loop->events_kept > 0) {
        rc = run_ready(loop, &loop->events_before);
        if (rc == 0) {
            rc = run_events(loop, &loop->events_kept);
        }
    }
    size_t all = SIZE_MAX;
    if (rc == 0) {
        loop->events_before = loop->events_kept = 0;
        rc = run_ready(loop, &all);
    }
    if (rc == 0) {
        rc = run_events(loop, &all);
    }
    while (rc == 0 && loop->due_pos < loop->due_len) {
        rc = run_and_drop(loop, loop->due[loop->due_pos++]);
    }
    // what is held, and what finalizers of the callbacks have written
    rc = ac_loop_flush_after(loop, rc);
    if (rc < 0) {
        keep_rest(loop);
        return -1;
    }
    loop->events_len = loop->events_pos = 0;
    loop->due_len = loop->due_pos = 0;
    return 0;
}

/* Gives the memory of past bursts back, before a wait. */
static void
trim(LoopObject *loop)
{
    AC_LOCK(loop->mutex);
    ac_ring_trim(&loop->ready);
    AC_UNLOCK(loop->mutex);
    ac_loop_trim_freelists(loop, AC_FREELIST_KEPT);
    loop->due_len = loop->due_pos = 0;  // all run; this turn may be inside of another
    if (loop->due_cap > DUE_KEPT) {
        PyMem_Free(loop->due);
        loop->due = NULL;
        loop->due_cap = 0;
    }
}

/* Before the loop waits: memory of past bursts is given back, signals are seen to.
 * Sets *deaf if no signal interrupts the wait. Returns 0, or -1 with an exception. */
static int
prepare_wait(LoopObject *loop, bool *deaf)
{
    trim(loop);
    // while nothing blocks, the interpreter itself sees to signals
    if (loop->signals_begun) {
        ac_signals_keep(loop);
        return 0;
    }
    int begun = ac_signals_begin(loop);
    if (begun < 0) {
        return -1;
    }
    loop->signals_begun = begun;
    *deaf = !begun;
    // one that came before its descriptor was set would not end the wait
    return PyErr_CheckSignals();
}

/* Whether a turn with ready callbacks may do without a poll: nothing that the program
 * could miss is watched, only the pipe of signals that the loop has no callbacks for.
 */
static bool
may_skip_poll(const LoopObject *loop)
{
    return loop->watched == (loop->signals != NULL ? 1u : 0u) && !loop->handles_signals
           && loop->turns_without_poll < AC_TURNS_WITHOUT_POLL
           && !AC_LOAD(loop->stopping) && !(loop->overridden & AC_OVERRIDE_TIME);
}

/* Timers before this time are due. */
static double
end_of_due(const LoopObject *loop, double now)
{
    double end = now + loop->clock_resolution;
    // a clock so large that it cannot tell the difference, and may stand still
    return AC_DUE_BY_ULP && end <= now ? nextafter(now, INFINITY) : end;
}

/* The time before a turn that may do without a poll. What a callback of the last turn
 * saw will do for the only timer, if it was due then: no later look tells more. Returns
 * 0, or -1 with an exception. */
static int
look_at_clock(LoopObject *loop, double first, double *now, double *real)
{
    double seen = loop->clock_seen;
    if (seen > -INFINITY && first < end_of_due(loop, seen) && ac_timer_is_only(loop)
        && ac_clock_is_real(loop))
    {
        loop->clock_seen = -INFINITY;
        *now = *real = seen;
        return 0;
    }
    return ac_clock_both(loop, now, real);
}

/* Whether there is nothing to run in this turn but what the poll finds. */
static bool
is_idle(LoopObject *loop)
{
    return count_ready(loop) == 0 && loop->events_pos == loop->events_len
           && loop->due_pos == loop->due_len && !AC_LOAD(loop->stopping);
}

/* Whether a turn that may do without a poll does: not too many in a row, nor for too
 * long. `real` is the time, if `timed`. */
static bool
skips_poll(LoopObject *loop, bool timed, double real)
{
    loop->turns_without_poll++;
    if (!timed) {
        if (loop->turns_without_poll % AC_TURNS_WITHOUT_CLOCK != 0) {
            return true;
        }
        real = ac_clock_real();
    }
    return real - loop->last_poll < SECONDS_WITHOUT_POLL;
}

/* Polls for `timeout` seconds, without an end if that is negative; for none if there
 * is something to do by now. `first` was the first timer. Returns 0, or -1 with an
 * exception. */
static int
poll_for(LoopObject *loop, double timeout, double first, bool deaf)
{
    // Python may have run since the look at the queue (an overridden time(), and
    // on 3.11 and 3.12 set_wakeup_fd), and with it another thread or a signal handler
    if (count_ready(loop) > 0 || AC_LOAD(loop->stopping)
        || ac_timer_first(loop) < first) {
        timeout = 0.0;
    }
    if (deaf && (timeout < 0.0 || timeout > SECONDS_DEAF)) {
        timeout = SECONDS_DEAF;
    }
    loop->turns_without_poll = 0;
    if (ac_poller_poll(loop, timeout) < 0) {
        return -1;
    }
    // a signal that came behind what the poll has found: its handler's exception is
    // not one of the callbacks
    return timeout != 0.0 ? PyErr_CheckSignals() : 0;
}

/* Polls as the state of the loop demands. The clock is looked at where somebody needs
 * it: then *timed is set, and *now to a time after the poll. Returns 0, or -1 with an
 * exception. */
static int
turn_poll(LoopObject *loop, double *now, bool *timed)
{
    double timeout = 0.0, real = 0.0;
    bool deaf = false;  // no signal interrupts the wait
    double first = ac_timer_first(loop);
    bool idle = is_idle(loop);
    bool may_skip = may_skip_poll(loop);
    *timed = first < INFINITY && (idle || may_skip);
    if (*timed && look_at_clock(loop, first, now, &real) < 0) {
        return -1;
    }
    if (idle) {
        timeout = first == INFINITY ? -1.0 : first > *now ? first - *now : 0.0;
        if (timeout != 0.0 && prepare_wait(loop, &deaf) < 0) {
            return -1;
        }
    }
    if (timeout == 0.0 && may_skip && skips_poll(loop, *timed, real)) {
        return 0;
    }
    if (poll_for(loop, timeout, first, deaf) < 0) {
        return -1;
    }
    *timed = first < INFINITY || loop->overridden & AC_OVERRIDE_TIME;
    if (*timed) {
        return ac_clock_both(loop, now, &loop->last_poll);
    }
    loop->last_poll = ac_clock_real();
    return 0;
}

/* The first turn in a forked child: nothing is shared with the parent any more. */
static int
after_fork(LoopObject *loop)
{
    loop->signals_begun = false;
    return ac_poller_after_fork(loop) < 0 ? -1 : ac_signals_after_fork(loop);
}

/* One turn. Returns 0, or -1 with an exception that leaves run_forever. */
static int
loop_turn(LoopObject *loop)
{
    if (ac_loop_is_forked(loop) && !loop->polling && after_fork(loop) < 0) {
        return -1;
    }
    if (ac_ready_check_patches(loop) < 0) {
        return -1;
    }
    if (AC_FREE_THREADED) {
        ac_timer_compact(loop);  // other threads have cancelled
    }
    double now;
    bool timed;
    if (turn_poll(loop, &now, &timed) < 0) {
        return -1;
    }
    double first = ac_timer_first(loop);
    if (first < INFINITY && !timed && ac_clock_now(loop, &now) < 0) {
        return -1;  // the timer is another thread's
    }
    if (first < INFINITY && first < end_of_due(loop, now)
        && ac_timer_pop_due(loop, end_of_due(loop, now)) < 0)
    {
        return -1;
    }
    loop->snapshot = count_ready(loop);
    loop->in_callback = true;
    int rc = run_collected(loop);
    loop->in_callback = false;
    ac_flood_turn_over(loop);
    return rc;
}

bool
ac_run_may_go_on(LoopObject *loop)
{
    if (!loop->in_callback || AC_LOAD(loop->stopping) || loop->instrumented
        || count_ready(loop) > 0 || loop->events_pos < loop->events_len
        || loop->due_pos < loop->due_len || loop->flush_head != NULL
        || loop->overridden & AC_OVERRIDE_TIME || loop->thread_id != ac_thread_id())
    {
        return false;
    }
    if (ac_timer_first(loop) == INFINITY) {
        return ac_clock_real() - loop->last_poll < SECONDS_WITHOUT_POLL;
    }
    double now, real;
    if (ac_clock_both(loop, &now, &real) < 0) {
        PyErr_Clear();  // the clock that was patched in fails: the turn will tell
        return false;
    }
    return real - loop->last_poll < SECONDS_WITHOUT_POLL
           && ac_timer_first(loop) >= end_of_due(loop, now);
}

void
ac_run_track(LoopObject *loop)
{
    AC_LOCK(loop->mutex);
    for (size_t i = 0; i < loop->ready.len; i++) {
        track(loop, ac_ring_at(&loop->ready, i));
    }
    AC_UNLOCK(loop->mutex);
    for (size_t i = loop->due_pos; i < loop->due_len; i++) {
        track(loop, loop->due[i]);
    }
    ac_timer_track(loop);
}

void
ac_run_clear(LoopObject *loop)
{
    loop->snapshot = 0;
    while (count_ready(loop) > 0) {
        ac_owner_drop_steal(loop, pop_ready(loop));
    }
    while (loop->due_pos < loop->due_len) {
        ac_owner_drop_steal(loop, loop->due[loop->due_pos++]);
    }
    loop->due_len = loop->due_pos = 0;
    loop->events_len = loop->events_pos = loop->events_kept = 0;
}

/* ------------------------------------------------------------ run_forever -- */

static int
raise_running(void)
{
    PyErr_SetString(PyExc_RuntimeError, "This event loop is already running");
    return -1;
}

/* Raises what BaseEventLoop._check_running raises. */
static int
check_running(LoopObject *loop)
{
    if (AC_LOAD(loop->running)) {
        return raise_running();
    }
    PyObject *current = PyObject_CallMethodNoArgs(loop->state->events,
                                                  loop->state->str__get_running_loop);
    if (current == NULL) {
        return -1;
    }
    Py_DECREF(current);
    if (current != Py_None) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot run the event loop while another loop is running");
        return -1;
    }
    return 0;
}

static int
set_origin_tracking(LoopObject *loop, bool enabled)
{
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->state->str__set_coroutine_origin_tracking,
        enabled ? Py_True : Py_False);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
set_running_loop(LoopObject *loop, PyObject *value)
{
    PyObject *result = PyObject_CallMethodOneArg(
        loop->state->events, loop->state->str__set_running_loop, value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* sys.set_asyncgen_hooks(firstiter=..., finalizer=...) with the loop's own. */
static int
set_asyncgen_hooks(LoopObject *loop)
{
    ac_state *state = loop->state;
    PyObject *firstiter =
        PyObject_GetAttr((PyObject *)loop, state->str__asyncgen_firstiter_hook);
    PyObject *finalizer = NULL, *result = NULL;
    if (firstiter != NULL) {
        finalizer =
            PyObject_GetAttr((PyObject *)loop, state->str__asyncgen_finalizer_hook);
    }
    if (finalizer != NULL) {
        PyObject *hooks[] = {firstiter, finalizer};
        result = PyObject_Vectorcall(state->set_asyncgen_hooks, hooks, 2, NULL);
    }
    Py_XDECREF(firstiter);
    Py_XDECREF(finalizer);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* loop._check_running(), which a program that nests runs replaces. */
static int
call_check_running(LoopObject *loop)
{
    PyObject *result =
        PyObject_CallMethodNoArgs((PyObject *)loop, loop->state->str__check_running);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
run_begin(LoopObject *loop, PyObject **old_hooks)
{
    if (ac_loop_check_closed(loop) < 0 || call_check_running(loop) < 0) {
        return -1;
    }
    if (set_origin_tracking(loop, loop->debug) < 0) {
        return -1;
    }
    *old_hooks = PyObject_CallNoArgs(loop->state->get_asyncgen_hooks);
    if (*old_hooks == NULL) {
        return -1;
    }
    if (!ac_owner_begin_run(loop)) {
        Py_CLEAR(*old_hooks);
        return raise_running();
    }
    loop->turns_without_poll = AC_TURNS_WITHOUT_POLL;          // the first turn polls
    if (AC_FREE_THREADED && ac_loop_check_closed(loop) < 0) {  // by another thread
        return -1;
    }
    if (set_asyncgen_hooks(loop) < 0 || set_running_loop(loop, (PyObject *)loop) < 0) {
        return -1;
    }
    return 0;
}

static int
restore_asyncgen_hooks(LoopObject *loop, PyObject *old_hooks)
{
    PyObject *result = PyObject_Call(loop->state->set_asyncgen_hooks, old_hooks, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Undoes run_begin, whatever part of it was done: a `finally`, whose own exception
 * takes the place of the one that ended the run. Returns 0, or -1 with either. */
static int
run_end(LoopObject *loop, PyObject *old_hooks)
{
    ac_errors_finally finally;
    ac_errors_finally_begin(&finally);
    ac_signals_end(loop);
    ac_run_track(loop);
    if (AC_FREE_THREADED) {  // what is made while nobody runs the loop takes none
        ac_loop_trim_freelists(loop, AC_FREELIST_KEPT);
    }
    AC_STORE(loop->stopping, false);
    AC_STORE(loop->running, false);
    Py_CLEAR(loop->future_keywords);  // a cycle, which ends here
    if (set_running_loop(loop, Py_None) == 0 && set_origin_tracking(loop, false) == 0) {
        (void)restore_asyncgen_hooks(loop, old_hooks);
    }
    ac_errors_finally_end(&finally);
    return PyErr_Occurred() ? -1 : 0;
}

/* One turn as run_forever makes it: `_run_once`, if that was replaced. */
static int
next_turn(LoopObject *loop)
{
    if (ac_overrides_check(loop) < 0) {
        return -1;
    }
    if (!(loop->overridden & AC_OVERRIDE_RUN_ONCE)) {
        return loop_turn(loop);
    }
    PyObject *result =
        PyObject_CallMethodNoArgs((PyObject *)loop, loop->state->str__run_once);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyDoc_STRVAR(loop_run_forever_doc,
             "run_forever($self, /)\n--\n\n"
             "Run until stop() is called. Counterpart of asyncio's.");

static PyObject *
loop_run_forever(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    LoopObject *loop = (LoopObject *)self;
    PyObject *old_hooks = NULL;
    int rc = run_begin(loop, &old_hooks);
    if (old_hooks == NULL) {
        return NULL;
    }
    while (rc == 0) {
        rc = next_turn(loop);
        if (AC_LOAD(loop->stopping)) {
            break;
        }
    }
    rc = run_end(loop, old_hooks);
    Py_DECREF(old_hooks);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(loop__check_running_doc,
             "_check_running($self, /)\n--\n\n"
             "Raise RuntimeError if this or another loop runs in this thread.");

static PyObject *
loop__check_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_running((LoopObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(loop__run_once_doc,
             "_run_once($self, /)\n--\n\n"
             "Run one turn: poll, then what is ready. For tests and for subclasses\n"
             "that drive the loop themselves.");

static PyObject *
loop__run_once(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    LoopObject *loop = (LoopObject *)self;
    if (ac_loop_check_closed(loop) < 0 || ac_overrides_check(loop) < 0) {
        return NULL;
    }
    loop->turns_without_poll = AC_TURNS_WITHOUT_POLL;
    int rc = loop_turn(loop);
    if (!loop->running) {
        ac_signals_end(loop);
    }
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_stop_doc, "stop($self, /)\n--\n\n"
                            "Stop running at the end of the current turn.");

static PyObject *
loop_stop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AC_STORE(((LoopObject *)self)->stopping, true);
    Py_RETURN_NONE;
}

PyMethodDef ac_run_methods[] = {
    {"run_forever", loop_run_forever, METH_NOARGS, loop_run_forever_doc},
    {"_check_running", loop__check_running, METH_NOARGS, loop__check_running_doc},
    {"_run_once", loop__run_once, METH_NOARGS, loop__run_once_doc},
    {"stop", loop_stop, METH_NOARGS, loop_stop_doc},
    {NULL, NULL, 0, NULL},
};
