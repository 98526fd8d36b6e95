/* The poller on libuv: one uv_loop_t, one uv_poll_t for each own watcher, one for
 * the set of foreign descriptors, a uv_async_t to interrupt a poll, and a timerfd (or
 * uv_timer_t) for the next timer.
 *
 * The block lives from ac_poller_open to ac_poller_close; a closed watcher's
 * block until libuv's close callback. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/fdset.h"
#include "loop/poller.h"

#include <uv.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/timerfd.h>
#endif

/* The longest wait, as the standard loop's MAXIMUM_SELECT_TIMEOUT. */
#define MAX_WAIT_SECONDS (24.0 * 3600.0)
#define FOREIGN_BATCH 256

typedef struct own_watcher {
    ac_watcher base;
    uv_poll_t poll;
    struct own_watcher *next_stopped; /* on the poller's list */
    bool initialised;                 /* libuv knows the handle */
    int fd_to_close; /* when the watcher is closing: -1 or the number */
} own_watcher;

struct ac_poller {
    uv_loop_t uv;
    uv_async_t wake;
    uv_poll_t foreign_poll;
    bool foreign_ready;   /* the set of foreign descriptors has events */
    ac_fdset set;         /* foreign descriptors */
    ac_watcher **foreign; /* by number; NULL where there is none */
    size_t foreign_cap;
    bool *lingering; /* by number, as many as `foreign`: nobody watches it any more, yet
                        it was left in the set until it reports something */
    bool foreign_started; /* libuv watches the set */
    ac_watcher **own;     /* by number */
    size_t own_cap;
    size_t own_count; /* those that are not closing: each can have one event */
    uint32_t generation;
    ac_watcher *dirty;           /* own watchers whose wishes libuv does not know yet */
    struct own_watcher *stopped; /* by an error, in the poll that is under way */
    uv_timer_t timer;
#ifdef __linux__
    uv_poll_t timer_poll;
    int timer_fd; /* -1 until first needed, or without a free descriptor */
#endif
    double armed; /* the time the wake-up is set for; INFINITY: not set */
};

static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* ------------------------------------------------------- table by number -- */

static ac_watcher *
table_get(ac_watcher **table, size_t cap, int fd)
{
    return fd >= 0 && (size_t)fd < cap ? table[fd] : NULL;
}

/* Makes room for `fd`. Returns 0, or -1 with MemoryError. */
static int
table_reserve(ac_watcher ***table, size_t *cap, int fd)
{
    size_t needed = (size_t)fd + 1;
    if (needed <= *cap) {
        return 0;
    }
    size_t grown = *cap == 0 ? 64 : *cap;
    while (grown < needed) {
        grown *= 2;
    }
    ac_watcher **items = PyMem_Realloc(*table, grown * sizeof(*items));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(items + *cap, 0, (grown - *cap) * sizeof(*items));
    *table = items;
    *cap = grown;
    return 0;
}

/* The same for a foreign number: opens the set at the first. Returns 0, or -1 with
 * an exception. */
static int
foreign_reserve(ac_poller *poller, int fd)
{
    if (poller->set.fd < 0) {
        // a number that is free must not become that of the set itself
        int err = fcntl(fd, F_GETFD) < 0 ? -errno : ac_fdset_open(&poller->set);
        if (err < 0) {
            ac_errors_uv(err);
            return -1;
        }
    }
    size_t before = poller->foreign_cap;
    if (table_reserve(&poller->foreign, &poller->foreign_cap, fd) < 0) {
        return -1;
    }
    if (poller->foreign_cap > before) {
        bool *lingering = PyMem_Realloc(poller->lingering, poller->foreign_cap);
        if (lingering == NULL) {
            poller->foreign_cap = before;  // the larger table is used the next time
            PyErr_NoMemory();
            return -1;
        }
        memset(lingering + before, 0, poller->foreign_cap - before);
        poller->lingering = lingering;
    }
    return 0;
}

/* --------------------------------------------------------------- events -- */

/* Records readiness for the turn; the array has room for every watcher, see
 * events_reserve. Runs without the GIL. */
static void
event_record(LoopObject *loop, ac_watcher *watcher, unsigned int events)
{
    events &= watcher->wanted;
    if (events == 0) {
        return;
    }
    if (watcher->revents == 0) {
        if (loop->events_len == loop->events_cap) {
            return;  // level-triggered: the next poll reports it again
        }
        loop->events[loop->events_len++] = watcher;
    }
    watcher->revents |= (uint8_t)events;
}

static void
event_forget(LoopObject *loop, ac_watcher *watcher)
{
    if (watcher->revents == 0) {
        return;
    }
    for (size_t i = loop->events_pos; i < loop->events_len; i++) {
        if (loop->events[i] == watcher) {
            loop->events[i] = NULL;
        }
    }
    watcher->revents = 0;
}

/* Makes room for `more` events. The array grows while the GIL is held, between
 * polls, so that the callbacks of libuv need not allocate. */
static void
events_reserve(LoopObject *loop, size_t more)
{
    size_t needed = loop->events_len + more;
    if (needed <= loop->events_cap) {
        return;
    }
    size_t cap = loop->events_cap == 0 ? 128 : loop->events_cap;
    while (cap < needed) {
        cap *= 2;
    }
    void *items = PyMem_Realloc(loop->events, cap * sizeof(*loop->events));
    if (items != NULL) {  // else events come in smaller batches
        loop->events = items;
        loop->events_cap = cap;
    }
}

/* ------------------------------------------ changes libuv does not know yet -- */

static void
change_add(ac_poller *poller, ac_watcher *watcher)
{
    if (watcher->prev_dirty != NULL) {
        return;
    }
    watcher->next_dirty = poller->dirty;
    watcher->prev_dirty = &poller->dirty;
    if (poller->dirty != NULL) {
        poller->dirty->prev_dirty = &watcher->next_dirty;
    }
    poller->dirty = watcher;
}

static void
change_remove(ac_watcher *watcher)
{
    if (watcher->prev_dirty == NULL) {
        return;
    }
    *watcher->prev_dirty = watcher->next_dirty;
    if (watcher->next_dirty != NULL) {
        watcher->next_dirty->prev_dirty = watcher->prev_dirty;
    }
    watcher->prev_dirty = NULL;
    watcher->next_dirty = NULL;
}

/* ----------------------------------------------------- libuv's callbacks -- */

/* An own watcher is ready. An error stops the uv_poll_t, which the next poll's
 * changes start again if the watcher still wants events. Those are not for here:
 * another thread may add to them while this one polls. */
static void
on_own_ready(uv_poll_t *handle, int status, int events)
{
    own_watcher *own = handle->data;
    ac_watcher *watcher = &own->base;
    unsigned int ready = 0;
    if (status < 0) {
        ac_poller *poller = watcher->loop->poller;
        ready = AC_READ | AC_WRITE;
        watcher->armed = 0;
        own->next_stopped = poller->stopped;
        poller->stopped = own;
    }
    if (events & (UV_READABLE | UV_DISCONNECT)) {
        ready |= AC_READ;
    }
    if (events & UV_WRITABLE) {
        ready |= AC_WRITE;
    }
    event_record(watcher->loop, watcher, ready);
}

/* Foreign descriptors are looked at after the GIL is back: their table may be
 * changed by other threads while this one polls. */
static void
on_foreign_ready(uv_poll_t *handle, int Py_UNUSED(status), int Py_UNUSED(events))
{
    ((ac_poller *)handle->data)->foreign_ready = true;
}

static void
on_wake(uv_async_t *Py_UNUSED(handle))
{
}

#ifdef __linux__
static void
on_timer_fd(uv_poll_t *handle, int Py_UNUSED(status), int Py_UNUSED(events))
{
    ((ac_poller *)handle->data)->armed = -INFINITY;  // stays readable until set anew
}
#endif

static void
on_timer(uv_timer_t *handle)
{
    ((ac_poller *)handle->data)->armed = INFINITY;
}

static void
on_own_closed(uv_handle_t *handle)
{
    PyMem_RawFree(handle->data);
}

/* ------------------------------------------------------------- timer wake -- */

static double
monotonic_now(void)
{
    return (double)uv_hrtime() / 1e9;
}

#ifdef __linux__
/* Opens the timerfd. Returns 0, or a libuv status: there is no descriptor left. */
static int
timer_fd_open(ac_poller *poller)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int err = uv_poll_init(&poller->uv, &poller->timer_poll, fd);
    if (err < 0) {
        close(fd);
        return err;
    }
    poller->timer_fd = fd;
    poller->timer_poll.data = poller;
    return uv_poll_start(&poller->timer_poll, UV_READABLE, on_timer_fd);
}
#endif

/* Sets the wake-up for `timeout` seconds from now. An earlier one that is still to
 * come stays: it costs one empty turn, and a system call less. Without a timerfd
 * libuv's timer does it, in milliseconds. Returns a libuv status. */
static int
timer_arm(ac_poller *poller, double timeout)
{
    double now = monotonic_now();
    double when = now + timeout;
    if (poller->armed > now && poller->armed <= when) {
        return 0;
    }
#ifdef __linux__
    if (poller->timer_fd >= 0 || timer_fd_open(poller) == 0) {
        uint64_t ns = (uint64_t)(timeout * 1e9) + 1;  // 0 would disarm it
        struct itimerspec spec = {0};
        spec.it_value.tv_sec = (time_t)(ns / 1000000000u);
        spec.it_value.tv_nsec = (long)(ns % 1000000000u);
        if (timerfd_settime(poller->timer_fd, 0, &spec, NULL) < 0) {
            return -errno;
        }
        poller->armed = when;
        return 0;
    }
#endif
    uv_update_time(&poller->uv);
    int err =
        uv_timer_start(&poller->timer, on_timer, (uint64_t)ceil(timeout * 1e3), 0);
    if (err == 0) {
        poller->armed = when;
    }
    return err;
}

/* Takes back a wake-up that has fired, so that it does not end the next wait. */
static int
timer_disarm(ac_poller *poller)
{
#ifdef __linux__
    if (poller->armed < 0) {
        struct itimerspec spec = {0};
        if (timerfd_settime(poller->timer_fd, 0, &spec, NULL) < 0) {
            return -errno;
        }
        poller->armed = INFINITY;
    }
#else
    (void)poller;
#endif
    return 0;
}


/* The set of foreign descriptors becomes known to libuv. Only the thread that polls.
 * Returns a libuv status. */
static int
foreign_start(ac_poller *poller)
{
    int err = uv_poll_init(&poller->uv, &poller->foreign_poll, poller->set.fd);
    if (err == 0) {
        poller->foreign_started = true;
        poller->foreign_poll.data = poller;
        err = uv_poll_start(&poller->foreign_poll, UV_READABLE, on_foreign_ready);
    }
    return err;
}

/* --------------------------------------------------------- own watchers -- */

/* Whether the kernel still watches a number that the user may have closed: libuv
 * aborts the process if it does not. What is registered here already, libuv takes
 * over. */
static bool
number_is_pollable(ac_poller *poller, int fd, int events)
{
#ifdef __linux__
    struct epoll_event event = {.events = (uint32_t)events, .data.fd = fd};
    return epoll_ctl(uv_backend_fd(&poller->uv), EPOLL_CTL_ADD, fd, &event) == 0
           || errno == EEXIST;
#else
    (void)poller;
    (void)events;
    return fcntl(fd, F_GETFD) >= 0;
#endif
}

/* Starts or stops one own watcher, or ends it. Only the thread that polls. */
static void
own_apply(ac_poller *poller, own_watcher *own)
{
    ac_watcher *watcher = &own->base;
    if (watcher->closing) {
        if (!own->initialised) {
            close_fd(&own->fd_to_close);
            PyMem_RawFree(own);
            return;
        }
        event_forget(watcher->loop, watcher);  // of a poll that another thread saw
        // uv_close takes the number out of the kernel's set before it is closed
        uv_close((uv_handle_t *)&own->poll, on_own_closed);
        close_fd(&own->fd_to_close);
        return;
    }
    if (watcher->wanted == watcher->armed) {
        return;
    }
    if (!own->initialised) {
        int err = uv_poll_init(&poller->uv, &own->poll, watcher->fd);
        if (err < 0) {
            // not a descriptor that can be waited for: its system calls fail at once
            event_record(watcher->loop, watcher, AC_READ | AC_WRITE);
            return;
        }
        own->initialised = true;
        own->poll.data = own;
    }
    int events = (watcher->wanted & AC_READ ? UV_READABLE : 0)
                 | (watcher->wanted & AC_WRITE ? UV_WRITABLE : 0);
    if (uv_poll_start(&own->poll, events, on_own_ready) != 0) {
        return;
    }
    watcher->armed = watcher->wanted;
    if (watcher->exposed && events != 0
        && !number_is_pollable(poller, watcher->fd, events)) {
        uv_poll_stop(&own->poll);
        watcher->armed = 0;
        event_record(watcher->loop, watcher, AC_READ | AC_WRITE);
    }
}

static void
changes_apply(ac_poller *poller)
{
    while (poller->dirty != NULL) {
        own_watcher *own = (own_watcher *)poller->dirty;
        change_remove(&own->base);
        own_apply(poller, own);
    }
}

/* Ends the watchers that were closed before a forked child had a kernel set of its
 * own; their numbers may be in use again. */
static void
closed_apply(ac_poller *poller)
{
    ac_watcher *next;
    for (ac_watcher *watcher = poller->dirty; watcher != NULL; watcher = next) {
        next = watcher->next_dirty;
        if (watcher->closing) {
            change_remove(watcher);
            own_apply(poller, (own_watcher *)watcher);
        }
    }
}

/* ----------------------------------------------------------- open, close -- */

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

/* What each loop needs at once; the timerfd and the set of foreign descriptors are
 * made when first needed. Returns a libuv status. */
static int
poller_setup(ac_poller *poller)
{
    poller->wake.data = poller->timer.data = poller;
    int err = uv_timer_init(&poller->uv, &poller->timer);
    return err < 0 ? err : uv_async_init(&poller->uv, &poller->wake, on_wake);
}

/* libuv aborts when its first loop of a process gets no descriptors, so we see
 * first whether there are any. */
static int
probe_descriptors(void)
{
    int fds[4];
    int n = 0, err = 0;
    if (pipe(fds) < 0) {
        return -errno;
    }
    n = 2;
    if (pipe(fds + 2) < 0) {
        err = -errno;
    }
    else {
        n = 4;
    }
    for (int i = 0; i < n; i++) {
        close(fds[i]);
    }
    return err;
}

/* Takes those of the numbers 0 to 2 that are free: libuv aborts when it closes one
 * of them, so it must not get them. Returns how many. */
static int
low_numbers_take(int held[3])
{
    int n = 0;
    while (n < 3) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd > STDERR_FILENO) {
            close(fd);
        }
        if (fd < 0 || fd > STDERR_FILENO) {
            break;
        }
        held[n++] = fd;
    }
    return n;
}

static void
low_numbers_give_back(const int *held, int n)
{
    while (n > 0) {
        close(held[--n]);
    }
}

int
ac_poller_open(LoopObject *loop)
{
    assert(loop->poller == NULL);
    int err = loop->state->libuv_started ? 0 : probe_descriptors();
    if (err < 0) {
        ac_errors_uv(err);
        return -1;
    }
    ac_poller *poller = PyMem_RawCalloc(1, sizeof(*poller));
    if (poller == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    poller->set.fd = -1;
    poller->armed = INFINITY;
#ifdef __linux__
    poller->timer_fd = -1;
#endif
    int held[3];
    int low = low_numbers_take(held);
    err = uv_loop_init(&poller->uv);
    if (err == 0) {
        err = poller_setup(poller);
        if (err == 0) {
            loop->state->libuv_started = true;
            low_numbers_give_back(held, low);
            events_reserve(loop, 1);
            loop->poller = poller;
            return 0;
        }
        uv_side_close(poller);
        ac_fdset_close(&poller->set);
#ifdef __linux__
        close_fd(&poller->timer_fd);
#endif
    }
    low_numbers_give_back(held, low);
    PyMem_RawFree(poller);
    ac_errors_uv(err);
    return -1;
}

void
ac_poller_close(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    if (poller == NULL) {
        return;
    }
    loop->poller = NULL;
    loop->events_len = loop->events_pos = loop->events_kept = 0;
    if (ac_loop_is_forked(loop)) {
        // the kernel's set is shared with the parent: nothing is taken out of it, the
        // child's copies of the descriptors go
        while (poller->dirty != NULL) {
            ac_watcher *watcher = poller->dirty;
            change_remove(watcher);
            PyMem_RawFree(watcher);
        }
        if (AC_FDSET_INHERITED) {
            close(uv_backend_fd(&poller->uv));
        }
        else {
            poller->set.fd = -1;
        }
    }
    else {
        changes_apply(poller);
        uv_side_close(poller);
    }
    ac_fdset_close(&poller->set);
#ifdef __linux__
    close_fd(&poller->timer_fd);
#endif
    PyMem_Free(poller->foreign);
    PyMem_Free(poller->lingering);
    PyMem_Free(poller->own);
    PyMem_RawFree(poller);
}

/* Puts `fresh` (consumed) in the place of the descriptor `fd`, which libuv watches
 * by `handle`, and makes libuv notice. Returns 0 or a negative errno. */
static int
descriptor_replace(uv_poll_t *handle, uv_poll_cb on_ready, int fd, int fresh)
{
    int err = 0;
    if (fresh < 0 || (fresh != fd && dup2(fresh, fd) < 0)
        || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
    {
        err = -errno;
    }
    if (fresh != fd) {  // the number of a kqueue is free again in a forked child
        close_fd(&fresh);
    }
    if (err == 0) {
        uv_poll_stop(handle);
        err = uv_poll_start(handle, UV_READABLE, on_ready);
    }
    return err;
}

/* A new, clean set of foreign descriptors in the place of the old one. */
static int
foreign_renew(ac_poller *poller)
{
    if (poller->set.fd < 0) {
        return 0;
    }
    memset(poller->lingering, 0, poller->foreign_cap * sizeof(*poller->lingering));
    ac_fdset fresh;
    int err = ac_fdset_open(&fresh);
    if (err == 0 && poller->foreign_started) {
        err = descriptor_replace(&poller->foreign_poll, on_foreign_ready,
                                 poller->set.fd, fresh.fd);
    }
    else if (err == 0) {
        if (fresh.fd != poller->set.fd) {
            ac_fdset_close(&poller->set);
        }
        poller->set = fresh;
    }
    if (err < 0) {
        ac_errors_uv(err);
        return -1;
    }
    for (size_t fd = 0; fd < poller->foreign_cap; fd++) {
        ac_watcher *watcher = poller->foreign[fd];
        if (watcher != NULL && watcher->armed != 0) {
            // a number that was closed meanwhile has no events any more
            (void)ac_fdset_set(&poller->set, (int)fd, watcher->generation, false,
                               watcher->armed);
        }
    }
    return 0;
}

int
ac_poller_after_fork(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    int held[3];
    int low = low_numbers_take(held);
    int err = uv_loop_fork(&poller->uv);
    low_numbers_give_back(held, low);
#ifdef __linux__
    if (err == 0 && poller->timer_fd >= 0) {
        int fresh = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        err = descriptor_replace(&poller->timer_poll, on_timer_fd, poller->timer_fd,
                                 fresh);
        poller->armed = INFINITY;
    }
#endif
    if (err < 0) {
        ac_errors_uv(err);
        return -1;
    }
    closed_apply(poller);
    if (foreign_renew(poller) < 0) {
        return -1;
    }
    loop->forks = loop->state->forks;
    return 0;
}

/* --------------------------------------------------------------- polling -- */

/* Takes out a number that was left in the set. Returns false if it is not the file
 * that was watched: that one lives on under another number. */
static bool
foreign_forget(ac_poller *poller, int fd)
{
    if (fd < 0 || (size_t)fd >= poller->foreign_cap || !poller->lingering[fd]) {
        return false;
    }
    poller->lingering[fd] = false;
    return ac_fdset_remove(&poller->set, fd) == 0;
}

/* Moves the events of foreign descriptors into the loop's array. A number that
 * was closed while a duplicate lives on is reported for ever and cannot be taken
 * out: then the set is made anew. */
static int
foreign_collect(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    ac_fdset_event ready[FOREIGN_BATCH];
    poller->foreign_ready = false;
    bool stale = false;
    // the kernel reports in turn, so all that is ready is seen, some of it twice
    size_t seen = 0;
    int n;
    do {
        n = ac_fdset_wait(&poller->set, ready, FOREIGN_BATCH);
        if (n < 0) {
            ac_errors_uv(n);
            return -1;
        }
        for (int i = 0; i < n; i++) {
            ac_watcher *watcher =
                table_get(poller->foreign, poller->foreign_cap, ready[i].fd);
            if (watcher != NULL && watcher->generation == ready[i].generation) {
                events_reserve(loop, 1);
                event_record(loop, watcher, ready[i].events);
            }
            else if (watcher != NULL || !foreign_forget(poller, ready[i].fd)) {
                stale = true;
            }
        }
        seen += (size_t)n;
    } while (n == FOREIGN_BATCH && seen < poller->foreign_cap);
    return stale ? foreign_renew(poller) : 0;
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
    events_reserve(loop, poller->own_count);
    changes_apply(poller);
    bool blocks = timeout != 0.0;
    int err = 0;
    if (poller->set.fd >= 0 && !poller->foreign_started) {
        err = foreign_start(poller);
        if (err < 0) {
            ac_errors_uv(err);
            return -1;
        }
    }
    if (blocks) {
        if (timeout < 0.0) {
            err = timer_disarm(poller);
        }
        else {
            err = timer_arm(poller,
                            timeout < MAX_WAIT_SECONDS ? timeout : MAX_WAIT_SECONDS);
        }
    }
    else if (poller->armed < 0) {
        err = timer_disarm(poller);
    }
    if (err < 0) {
        ac_errors_uv(err);
        return -1;
    }
    if (blocks) {
        loop->polling = true;
        Py_BEGIN_ALLOW_THREADS
        uv_run(&poller->uv, UV_RUN_ONCE);
        Py_END_ALLOW_THREADS
        loop->polling = false;
    }
    else {
        uv_run(&poller->uv, UV_RUN_NOWAIT);
    }
    while (poller->stopped != NULL) {
        own_watcher *own = poller->stopped;
        poller->stopped = own->next_stopped;
        change_add(poller, &own->base);
    }
    return poller->foreign_ready ? foreign_collect(loop) : 0;
}

void
ac_poller_wake(LoopObject *loop)
{
    if (loop->polling && !ac_loop_is_forked(loop)) {
        uv_async_send(&loop->poller->wake);
    }
}

bool
ac_poller_busy(const LoopObject *loop)
{
    return loop->polling;  // the polling thread itself runs no Python meanwhile
}

/* -------------------------------------------------------------- watchers -- */

/* Leaves a change of an own watcher to the next poll, or ends the one that
 * another thread is in. */
static void
own_changed(ac_poller *poller, ac_watcher *watcher)
{
    change_add(poller, watcher);
    ac_poller_wake(watcher->loop);
}

ac_watcher *
ac_watcher_new(LoopObject *loop, ac_watcher_kind kind, int fd, ac_watcher_fn *on_ready,
               void *owner)
{
    ac_poller *poller = loop->poller;
    if (poller == NULL) {
        (void)ac_loop_check_closed(loop);
        return NULL;
    }
    int rc = kind == AC_WATCHER_OWN ? table_reserve(&poller->own, &poller->own_cap, fd)
                                    : foreign_reserve(poller, fd);
    if (rc < 0) {
        return NULL;
    }
    size_t size = kind == AC_WATCHER_OWN ? sizeof(own_watcher) : sizeof(ac_watcher);
    ac_watcher *watcher = PyMem_RawCalloc(1, size);
    if (watcher == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    watcher->loop = loop;
    watcher->owner = owner;
    watcher->on_ready = on_ready;
    watcher->fd = fd;
    watcher->kind = (uint8_t)kind;
    watcher->generation = ++poller->generation;
    if (kind == AC_WATCHER_OWN) {
        ((own_watcher *)watcher)->fd_to_close = -1;
        poller->own[fd] = watcher;
        poller->own_count++;
    }
    else {
        poller->foreign[fd] = watcher;
    }
    return watcher;
}

/* Always a system call for a foreign number that is wanted: only the kernel knows
 * whether it is still the one it was. One that is not wanted any more stays in the
 * set until it reports something; mostly it is wanted again, or closed, before. */
static int
foreign_set(LoopObject *loop, ac_watcher *watcher, unsigned int events)
{
    ac_poller *poller = loop->poller;
    int fd = watcher->fd;
    if (poller->foreign[fd] != watcher) {
        if (events == 0) {
            return 0;  // another has taken its place
        }
        poller->foreign[fd] = watcher;
    }
    if (events == 0) {
        poller->lingering[fd] |= watcher->armed != 0;
        return 0;
    }
    bool known = watcher->armed != 0 || poller->lingering[fd];
    poller->lingering[fd] = false;
    if (!poller->foreign_started) {
        ac_poller_wake(loop);
    }
    return ac_fdset_set(&poller->set, fd, watcher->generation, known, events);
}

int
ac_watcher_set(ac_watcher *watcher, unsigned int events)
{
    LoopObject *loop = watcher->loop;
    if (watcher->kind == AC_WATCHER_FOREIGN) {
        int err = ac_loop_is_forked(loop) ? 0 : foreign_set(loop, watcher, events);
        if (err < 0) {
            ac_errors_uv(err);
            return -1;
        }
        watcher->wanted = watcher->armed = (uint8_t)events;
    }
    else if (watcher->wanted != events) {
        watcher->wanted = (uint8_t)events;
        own_changed(loop->poller, watcher);
    }
    ac_watcher_forget(watcher, ~events);
    return 0;
}

void
ac_watcher_forget(ac_watcher *watcher, unsigned int events)
{
    if ((watcher->revents & ~events) == 0) {
        event_forget(watcher->loop, watcher);
    }
    else {
        watcher->revents &= (uint8_t)~events;
    }
}

void
ac_watcher_close(ac_watcher *watcher, int fd_to_close)
{
    if (watcher == NULL) {
        close_fd(&fd_to_close);
        return;
    }
    LoopObject *loop = watcher->loop;
    ac_poller *poller = loop->poller;
    event_forget(loop, watcher);
    if (watcher->kind == AC_WATCHER_FOREIGN) {
        if (!ac_loop_is_forked(loop)) {
            (void)foreign_set(loop, watcher, 0);  // the number may be gone
        }
        if (poller->foreign[watcher->fd] == watcher) {
            poller->foreign[watcher->fd] = NULL;
        }
        PyMem_RawFree(watcher);
        close_fd(&fd_to_close);
        return;
    }
    own_watcher *own = (own_watcher *)watcher;
    if (poller->own[watcher->fd] == watcher) {
        poller->own[watcher->fd] = NULL;
    }
    poller->own_count--;
    own->fd_to_close = fd_to_close;
    watcher->closing = true;
    watcher->wanted = 0;
    if (ac_loop_is_forked(loop)) {
        // libuv would take the number out of the set that the parent uses
        close_fd(&own->fd_to_close);
        change_add(poller, watcher);
        return;
    }
    if (loop->polling) {
        own_changed(poller, watcher);
    }
    else {
        change_remove(watcher);
        own_apply(poller, own);
    }
}

ac_watcher *
ac_poller_foreign(LoopObject *loop, int fd)
{
    ac_poller *poller = loop->poller;
    return poller == NULL ? NULL : table_get(poller->foreign, poller->foreign_cap, fd);
}

ac_watcher *
ac_poller_own(LoopObject *loop, int fd)
{
    ac_poller *poller = loop->poller;
    return poller == NULL ? NULL : table_get(poller->own, poller->own_cap, fd);
}
