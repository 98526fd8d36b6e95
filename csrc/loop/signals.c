/* Signals: the wake-up descriptor of the interpreter leads to a pipe that the loop
 * watches.
 *
 * libuv retries an interrupted wait, so without it Python's handlers would not
 * run while the loop is idle. The descriptor is set while the loop runs in the
 * main thread, and stays set from the first add_signal_handler to the last
 * removal. Signals of somebody else's wake-up descriptor are passed on to it. */
#include "core/python.h"

#include "core/errors.h"
#include "core/selfpipe.h"
#include "loop/signals.h"
#include "loop/watcher.h"

#include <unistd.h>

struct ac_signals {
    int read_fd, write_fd;
    int former; /* the wake-up descriptor before ours, -1: none */
    bool set;   /* ours is set, as far as we know */
    ac_watcher *watcher;
    struct ac_signals *next; /* of another loop; state->signals is the first */
};

/* True in the main thread of the main interpreter, where signals are handled. */
static int
is_main_thread(LoopObject *loop)
{
    ac_state *state = loop->state;
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        return 0;
    }
    if (AC_LOAD(state->main_thread) == 0
        || AC_LOAD(state->main_thread_forks) != state->forks)
    {
        PyObject *threading = PyImport_ImportModule("threading");
        PyObject *thread = threading == NULL
                               ? NULL
                               : PyObject_CallMethod(threading, "main_thread", NULL);
        PyObject *ident =
            thread == NULL ? NULL : PyObject_GetAttrString(thread, "ident");
        Py_XDECREF(threading);
        Py_XDECREF(thread);
        if (ident == NULL) {
            return -1;
        }
        AC_STORE(state->main_thread, PyLong_AsUnsignedLong(ident));
        Py_DECREF(ident);
        if (PyErr_Occurred()) {
            return -1;
        }
        AC_STORE(state->main_thread_forks, state->forks);
    }
    return AC_LOAD(state->main_thread) == ac_thread_id();
}

/* ---------------------------------------------------------------- arrival -- */

static int
handle_signal(LoopObject *loop, unsigned char number)
{
    PyObject *signum = PyLong_FromLong(number);
    PyObject *result =
        signum == NULL ? NULL
                       : PyObject_CallMethodOneArg(
                           (PyObject *)loop, loop->state->str__handle_signal, signum);
    Py_XDECREF(signum);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Runs Python's own handlers, then queues the loop's callbacks for what came. An
 * exception of a handler (KeyboardInterrupt) is raised when all is queued. */
static int
on_signal_ready(ac_watcher *watcher, unsigned int Py_UNUSED(events))
{
    LoopObject *loop = watcher->loop;
    struct ac_signals *signals = watcher->owner;
    unsigned char numbers[256];
    ssize_t n = read(signals->read_fd, numbers, sizeof(numbers));
    if (n > 0 && signals->former >= 0 && signals->former != signals->write_fd) {
        // full or closed: as when the interpreter itself writes there
        ssize_t passed_on = write(signals->former, numbers, (size_t)n);
        (void)passed_on;
    }
    PyObject *exc = NULL;
    if (PyErr_CheckSignals() < 0) {
        exc = ac_err_take();
    }
    for (ssize_t i = 0; i < n; i++) {
        if (numbers[i] != 0 && handle_signal(loop, numbers[i]) < 0) {
            if (exc != NULL) {
                PyErr_Clear();
            }
            else {
                exc = ac_err_take();
            }
        }
    }
    if (exc != NULL) {
        ac_err_restore_steal(exc);
        return -1;
    }
    return 0;
}

/* ------------------------------------------------------------ set, restore -- */

/* Makes it known to the other loops. */
static void
signals_link(ac_state *state, struct ac_signals *signals)
{
    AC_LOCK(state->mutex);
    signals->next = state->signals;
    state->signals = signals;
    AC_UNLOCK(state->mutex);
}

/* It goes: a loop that would put its descriptor back gets the one before that. */
static void
signals_unlink(ac_state *state, const struct ac_signals *signals)
{
    AC_LOCK(state->mutex);
    struct ac_signals **place = &state->signals;
    while (*place != NULL) {
        struct ac_signals *other = *place;
        if (other == signals) {
            *place = signals->next;
            continue;
        }
        if (other->former == signals->write_fd) {
            other->former = signals->former == other->write_fd ? -1 : signals->former;
        }
        place = &other->next;
    }
    AC_UNLOCK(state->mutex);
}

/* Whether `fd` is the one of a loop, and not of somebody else. */
static bool
is_of_a_loop(ac_state *state, int fd)
{
    AC_LOCK(state->mutex);
    const struct ac_signals *signals = state->signals;
    while (signals != NULL && signals->write_fd != fd) {
        signals = signals->next;
    }
    AC_UNLOCK(state->mutex);
    return signals != NULL;
}

static void
signals_free(struct ac_signals *signals)
{
    ac_watcher_close(signals->watcher, signals->read_fd);
    if (signals->write_fd >= 0) {
        close(signals->write_fd);
    }
    PyMem_Free(signals);
}

static struct ac_signals *
signals_open(LoopObject *loop)
{
    int fds[2];
    struct ac_signals *signals = PyMem_Calloc(1, sizeof(*signals));
    if (signals == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int err = ac_selfpipe_open(fds);
    if (err < 0) {
        ac_errors_errno(-err);
        PyMem_Free(signals);
        return NULL;
    }
    signals->read_fd = fds[0];
    signals->write_fd = fds[1];
    signals->former = -1;
    signals->watcher =
        ac_watcher_new(loop, AC_WATCHER_FOREIGN, fds[0], on_signal_ready, signals);
    if (signals->watcher != NULL) {
        signals->watcher->reserved = true;
    }
    if (signals->watcher == NULL || ac_watcher_set(signals->watcher, AC_READ) < 0) {
        signals_free(signals);
        return NULL;
    }
    signals_link(loop->state, signals);
    return signals;
}

/* Makes ours the interpreter's wake-up descriptor; remembers the former one. */
static int
signals_set(LoopObject *loop)
{
    if (loop->signals == NULL) {
        loop->signals = signals_open(loop);
        if (loop->signals == NULL) {
            return -1;
        }
    }
    struct ac_signals *signals = loop->signals;
    int former = ac_set_wakeup_fd(signals->write_fd);
    // another loop may have taken the place of ours meanwhile, and put it before its
    // own
    bool known = signals->set && is_of_a_loop(loop->state, former);
    if (former != signals->write_fd && !known) {
        signals->former = former;
    }
    signals->set = true;
    return 0;
}

/* Puts the former descriptor back, unless somebody replaced ours. */
static void
signals_unset(struct ac_signals *signals)
{
    if (!signals->set) {
        return;
    }
    int current = ac_set_wakeup_fd(signals->former);
    if (current != signals->write_fd) {
        (void)ac_set_wakeup_fd(current);
    }
    signals->former = -1;
    signals->set = false;
}

/* True if callbacks of add_signal_handler are registered. */
static bool
has_handlers(LoopObject *loop)
{
    PyObject *handlers =
        PyObject_GetAttr((PyObject *)loop, loop->state->str__signal_handlers);
    if (handlers == NULL) {
        PyErr_Clear();  // before __init__
        return false;
    }
    int truth = PyObject_IsTrue(handlers);
    Py_DECREF(handlers);
    if (truth < 0) {
        PyErr_Clear();  // a replaced mapping that has no truth: keep the descriptor
    }
    return truth != 0;
}

int
ac_signals_begin(LoopObject *loop)
{
    int is_main = is_main_thread(loop);
    if (is_main <= 0) {
        return is_main < 0 ? -1 : 1;
    }
    if (signals_set(loop) == 0) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyErr_Clear();  // no descriptor is free: not now
    return 0;
}

void
ac_signals_keep(LoopObject *loop)
{
#if AC_HAVE_SET_WAKEUP_FD
    struct ac_signals *signals = loop->signals;
    if (signals == NULL || !signals->set) {
        return;
    }
    int current = ac_set_wakeup_fd(signals->write_fd);
    if (current == -1) {
        signals->former = -1;  // may be closed by now
    }
    else if (current != signals->write_fd) {
        (void)ac_set_wakeup_fd(current);
    }
#else
    (void)loop;
#endif
}

void
ac_signals_end(LoopObject *loop)
{
    loop->signals_begun = false;
    if (loop->signals == NULL || !loop->signals->set) {
        return;
    }
    PyObject *exc = ac_err_take();
    if (!has_handlers(loop)) {
        signals_unset(loop->signals);
    }
    ac_err_restore_steal(exc);
}

void
ac_signals_close(LoopObject *loop)
{
    struct ac_signals *signals = loop->signals;
    if (signals == NULL) {
        return;
    }
    loop->signals = NULL;
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        signals_unset(signals);
    }
    signals_unlink(loop->state, signals);
    signals_free(signals);
}

int
ac_signals_after_fork(LoopObject *loop)
{
    bool was_set = loop->signals != NULL && loop->signals->set;
    ac_signals_close(loop);
    if (!was_set || !has_handlers(loop)) {
        return 0;
    }
    int is_main = is_main_thread(loop);
    return is_main <= 0 ? is_main : signals_set(loop);
}

/* ---------------------------------------------------------------- methods -- */

PyDoc_STRVAR(loop__signal_fd_doc,
             "_signal_fd($self, /)\n--\n\n"
             "The number to give to signal.set_wakeup_fd; set already when called in\n"
             "the main thread.");

static PyObject *
loop__signal_fd(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    LoopObject *loop = (LoopObject *)self;
    int is_main = is_main_thread(loop);
    if (is_main < 0 || ac_loop_check_closed(loop) < 0) {
        return NULL;
    }
    if (!is_main) {
        return PyLong_FromLong(-1);  // set_wakeup_fd raises before it looks at it
    }
    if (signals_set(loop) < 0) {
        return NULL;
    }
    return PyLong_FromLong(loop->signals->write_fd);
}

PyDoc_STRVAR(loop__signals_changed_doc,
             "_signals_changed($self, /)\n--\n\n"
             "Sets or restores the wake-up descriptor after a handler was added or\n"
             "removed.");

static PyObject *
loop__signals_changed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    LoopObject *loop = (LoopObject *)self;
    struct ac_signals *signals = loop->signals;
    int is_main = is_main_thread(loop);
    loop->handles_signals = has_handlers(loop);
    if (is_main < 0) {
        return NULL;
    }
    if (!is_main || signals == NULL) {
        Py_RETURN_NONE;
    }
    if (loop->running || loop->handles_signals) {
        int former = ac_set_wakeup_fd(signals->write_fd);
        // the standard's code sets -1 when the last handler goes
        if (former != signals->write_fd && former != -1
            && !is_of_a_loop(loop->state, former)) {
            signals->former = former;
        }
    }
    else {
        int current = ac_set_wakeup_fd(signals->former);
        if (current != -1 && current != signals->write_fd) {
            (void)ac_set_wakeup_fd(current);
        }
        signals->former = -1;
        signals->set = false;
    }
    Py_RETURN_NONE;
}

PyMethodDef ac_signals_methods[] = {
    {"_signal_fd", loop__signal_fd, METH_NOARGS, loop__signal_fd_doc},
    {"_signals_changed", loop__signals_changed, METH_NOARGS, loop__signals_changed_doc},
    {NULL, NULL, 0, NULL},
};
