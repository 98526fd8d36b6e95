#include "core/python.h"

#include "core/errors.h"
#include "loop/descriptor.h"
#include "loop/event.h"
#include "loop/poller.h"
#include "loop/poller_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* The longest wait, as the standard loop's MAXIMUM_SELECT_TIMEOUT. */
#define MAX_WAIT_SECONDS (24.0 * 3600.0)
#define MAX_NAP_SECONDS 0.005

/* ----------------------------------------------------------- open, close -- */

static void
on_wake(uv_async_t *Py_UNUSED(handle))
{
}

static void
close_handle(uv_handle_t *handle, void *Py_UNUSED(arg))
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Closes all handles of an initialised uv_loop_t, then the loop. Own watchers are
 * closed by their owners before (ac_open.on_loop_close). */
static void
uv_side_close(ac_poller *poller)
{
    uv_walk(&poller->uv, close_handle, NULL);
    while (uv_loop_close(&poller->uv) == UV_EBUSY) {
        uv_run(&poller->uv, UV_RUN_NOWAIT);
    }
}

/* The handles of a uv_loop_t that is initialised. Returns a libuv status. */
static int
uv_side_setup(ac_poller *poller)
{
    int err = ac_wakeup_open(&poller->wakeup, &poller->uv);
    if (err == 0) {
        err = uv_async_init(&poller->uv, &poller->wake, on_wake);
    }
    if (err == 0) {  // the kernel learns of that now, and not when it knows too many
        uv_run(&poller->uv, UV_RUN_NOWAIT);
    }
    return err;
}

/* Puts libuv's own numbers into the kernel's set, before libuv does: it aborts the
 * process if the kernel refuses them. Returns a libuv status. */
static int
uv_side_announce(uv_loop_t *uv)
{
    const int numbers[] = {uv->signal_io_watcher.fd, uv->async_io_watcher.fd};
    int err = 0;
    for (size_t i = 0; err == 0 && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i] > STDERR_FILENO) {  // it never gets the others
            err = ac_own_add_number(uv, numbers[i], UV_READABLE);
        }
    }
    return err;
}

/* Returns a libuv status. */
static int
uv_side_open(ac_poller *poller)
{
    int held[3];
    int low = ac_descriptor_hold_low(held);
    int err = uv_loop_init(&poller->uv);
    if (err < 0) {
        int left_open = uv_backend_fd(&poller->uv);
        if (left_open > STDERR_FILENO) {  // 0 if it did not come so far
            close(left_open);
        }
    }
    else if ((err = uv_side_announce(&poller->uv)) < 0) {
        (void)uv_loop_close(&poller->uv);  // it has no handles, and is not run
    }
    else {
        err = uv_side_setup(poller);
        if (err < 0) {
            uv_side_close(poller);
        }
    }
    ac_descriptor_release_low(held, low);
    return err;
}

/* Opens the libuv side, unless it is open. Returns a libuv status. */
static int
open_once(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    if (poller->opened) {
        return 0;
    }
    int err = AC_LOAD(loop->state->libuv_started) ? 0 : ac_descriptor_probe();
    if (err == 0) {
        memset(&poller->uv, 0, sizeof(poller->uv));  // of an attempt that failed
        err = uv_side_open(poller);
    }
    if (err == 0) {
        AC_STORE(loop->state->libuv_started, true);
        poller->opened = true;
        ac_event_reserve(loop, 1);
        if (ac_loop_is_forked(loop)) {  // with nothing of the parent's
            loop->forks = loop->state->forks;
            loop->signals_begun = false;
        }
    }
    return err;
}

int
ac_poller_need(LoopObject *loop, int fd)
{
    if (loop->poller->opened) {
        return 0;
    }
    // a closed number would be one of libuv's in a moment
    int err = fcntl(fd, F_GETFD) < 0 ? -errno : open_once(loop);
    if (err < 0) {
        (void)ac_errors_errno(-err);
        return -1;
    }
    return 0;
}

int
ac_poller_open(LoopObject *loop)
{
    assert(loop->poller == NULL);
    ac_poller *poller = PyMem_RawCalloc(1, sizeof(*poller));
    if (poller == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ac_foreign_init(&poller->foreign);
    ac_wakeup_init(&poller->wakeup);
    loop->poller = poller;
    return 0;
}

/* Frees the block, whose libuv side is closed. */
static void
poller_free(ac_poller *poller)
{
    ac_wakeup_close(&poller->wakeup);
    ac_foreign_free(&poller->foreign);
    ac_own_free(&poller->own);
    PyMem_RawFree(poller);
}

void
ac_poller_close(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    if (poller == NULL) {
        return;
    }
    loop->events_len = loop->events_pos = loop->events_kept = 0;
    if (!poller->opened) {
        // nothing was ever watched
    }
    else if (ac_loop_is_forked(loop)) {
        // the kernel's set is shared with the parent: nothing is taken out of it, the
        // child's copies of the descriptors go
        ac_own_drop_closed(&poller->own);
        if (AC_FDSET_INHERITED) {
            close(uv_backend_fd(&poller->uv));
        }
        else {
            poller->foreign.set.fd = -1;
        }
    }
    else {
        ac_own_apply_changes(&poller->own, &poller->uv);
        ac_own_close_spares(&poller->own);
        uv_side_close(poller);
    }
    loop->poller = NULL;
    poller_free(poller);
}

int
ac_poller_after_fork(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    if (!poller->opened) {
        loop->forks = loop->state->forks;
        return 0;
    }
    ac_own_before_fork(&poller->own);
    int held[3];
    int low = ac_descriptor_hold_low(held);
    int err = uv_loop_fork(&poller->uv);
    ac_descriptor_release_low(held, low);
    if (err < 0) {
        ac_errors_uv(err);
        return -1;
    }
    ac_wakeup_after_fork(&poller->wakeup);
    ac_own_after_fork(&poller->own);
    if (ac_foreign_after_fork(&poller->foreign) < 0) {
        return -1;
    }
    loop->forks = loop->state->forks;
    return 0;
}

/* --------------------------------------------------------------- polling -- */

/* What the kernel and libuv must know before a poll. Returns a libuv status. */
static int
poll_prepare(LoopObject *loop, double timeout)
{
    ac_poller *poller = loop->poller;
    ac_own_apply_changes(&poller->own, &poller->uv);
    int err = ac_foreign_start(&poller->foreign, &poller->own, &poller->uv);
    if (err < 0) {
        return err;
    }
    if (timeout <= 0.0) {
        return ac_wakeup_disarm(&poller->wakeup);
    }
    return ac_wakeup_arm(loop, timeout < MAX_WAIT_SECONDS ? timeout : MAX_WAIT_SECONDS);
}

/* Whether nothing but the set of foreign descriptors can have events: then libuv is
 * left out. What it may have are wake-ups of polls that are over. */
static bool
is_only_foreign(const ac_poller *poller)
{
    return poller->own.count == 0 && poller->own.dirty == NULL
           && poller->foreign.started;
}

/* From here on a poll is under way, which others wake. Without a GIL they may have
 * queued something since the look at the queue: then false, and nothing is to wait. */
static bool
begin_wait(LoopObject *loop, bool foreign)
{
    AC_LOCK(loop->mutex);
    bool quiet = !AC_FREE_THREADED || loop->ready.len == 0;
    if (quiet) {
        loop->polling = true;
        loop->poller->foreign.waited = foreign;
    }
    AC_UNLOCK(loop->mutex);
    return quiet;
}

static void
end_wait(LoopObject *loop)
{
    ac_foreign *foreign = &loop->poller->foreign;
    AC_LOCK(loop->mutex);
    loop->polling = foreign->waited = foreign->rung = false;
    AC_UNLOCK(loop->mutex);
}

/* Asks the set of foreign descriptors, or waits for it alone. Returns 0, or -1 with an
 * exception. */
static int
poll_foreign(LoopObject *loop, bool block)
{
    ac_foreign *foreign = &loop->poller->foreign;
    ac_fdset_event ready[AC_FDSET_BATCH];
    int n;
    foreign->ready = false;
    if (block && begin_wait(loop, true)) {
        Py_BEGIN_ALLOW_THREADS
        n = ac_fdset_wait(&foreign->set, ready, AC_FDSET_BATCH, true);
        Py_END_ALLOW_THREADS
        end_wait(loop);
    }
    else {
        n = ac_fdset_wait(&foreign->set, ready, AC_FDSET_BATCH, false);
    }
    return ac_foreign_collect(loop, ready, n);
}

/* Polls by libuv, which knows the set of foreign descriptors as well. */
static int
poll_all(LoopObject *loop, bool block)
{
    ac_poller *poller = loop->poller;
    if (block && begin_wait(loop, false)) {
        Py_BEGIN_ALLOW_THREADS
        uv_run(&poller->uv, UV_RUN_ONCE);
        Py_END_ALLOW_THREADS
        end_wait(loop);
    }
    else {
        uv_run(&poller->uv, UV_RUN_NOWAIT);
    }
    ac_own_polled(&poller->own);
    return poller->foreign.ready ? poll_foreign(loop, false) : 0;
}

/* A wait of a loop that could not open anything to wait by, for want of descriptors: a
 * short one, since nobody can end it. The next poll tries again. */
static void
nap(double timeout)
{
    double seconds =
        timeout < 0.0 || timeout > MAX_NAP_SECONDS ? MAX_NAP_SECONDS : timeout;
    if (seconds > 0.0) {
        struct timespec rest = {.tv_nsec = (long)(seconds * 1e9)};
        Py_BEGIN_ALLOW_THREADS(void)
        nanosleep(&rest, NULL);
        Py_END_ALLOW_THREADS
    }
}

int
ac_poller_poll(LoopObject *loop, double timeout)
{
    ac_poller *poller = loop->poller;
    if (poller == NULL) {  // closed by a callback of a turn made by hand
        (void)ac_loop_check_closed(loop);
        return -1;
    }
    if (loop->polling) {  // a turn made by hand in another thread
        PyErr_SetString(PyExc_RuntimeError, "This event loop is already running");
        return -1;
    }
    if (!poller->opened) {  // nothing is watched
        int err = timeout == 0.0 ? -EMFILE : open_once(loop);
        if (ac_errors_is_shortage(err)) {
            nap(timeout);
            return 0;
        }
        if (err < 0) {
            (void)ac_errors_errno(-err);
            return -1;
        }
    }
    if (timeout == 0.0 && is_only_foreign(poller)) {
        (void)ac_foreign_confirm(&poller->foreign, false);
        return poll_foreign(loop, false);
    }
    ac_event_reserve(loop, poller->own.count);
    int err = poll_prepare(loop, timeout);
    if (err < 0) {
        ac_errors_uv(err);
        return -1;
    }
    bool ready = ac_foreign_confirm(&poller->foreign, timeout != 0.0);
    // own numbers that turned out to be closed have their events already
    ready = ready || loop->events_pos < loop->events_len;
    bool block = timeout != 0.0 && !ready;
    if (is_only_foreign(poller)
        && (timeout <= 0.0 || ac_wakeup_is_in_set(&poller->wakeup))) {
        return poll_foreign(loop, block);
    }
    return poll_all(loop, block);
}

void
ac_poller_wake(LoopObject *loop)
{
    AC_LOCK(loop->mutex);
    if (loop->polling && !ac_loop_is_forked(loop)) {
        ac_poller *poller = loop->poller;
        if (poller->foreign.waited) {
            ac_foreign_wake(&poller->foreign);
        }
        else {
            uv_async_send(&poller->wake);
        }
    }
    AC_UNLOCK(loop->mutex);
}
