#include "core/python.h"

#include "loop/changes.h"
#include "loop/descriptor.h"
#include "loop/event.h"
#include "loop/own.h"
#include "loop/poller.h"
#include "loop/poller_parts.h"

#include <errno.h>
#include <fcntl.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

struct own_watcher {
    ac_watcher base;
    uv_poll_t poll;
    own_watcher *next_stopped; /* on the list of ac_own */
    bool initialised;          /* libuv knows the handle */
    bool started;              /* the kernel may know the number */
    bool parked;               /* libuv thinks that it reads; the kernel does not */
    size_t poll_before;        /* own->polls when libuv was told */
    bool replaced;             /* the user closed the number, somebody else has it */
    bool ended;                /* its user and the number are gone */
    int fd_to_close;           /* when the watcher is closing: -1 or the number */
};

/* ----------------------------------------------------- the list of changes -- */

/* Leaves a change to the next poll, or ends the one that another thread is in. */
static void
changed(ac_watcher *watcher)
{
    ac_changes_add(&watcher->loop->poller->own.dirty, watcher);
    ac_poller_wake(watcher->loop);
}

/* ----------------------------------------------------------------- libuv -- */

/* An error stops the uv_poll_t, which the next poll's changes start again if the
 * watcher still wants events. Those are not for here: another thread may add to them
 * while this one polls. */
static void
on_own_ready(uv_poll_t *handle, int status, int events)
{
    own_watcher *one = handle->data;
    ac_watcher *watcher = &one->base;
    unsigned int ready = 0;
    if (status < 0) {
        ac_own *own = &watcher->loop->poller->own;
        ready = AC_READ | AC_WRITE;
        watcher->armed = 0;
        one->next_stopped = own->stopped;
        own->stopped = one;
    }
    if (events & (UV_READABLE | UV_DISCONNECT)) {
        ready |= AC_READ;
    }
    if (events & UV_WRITABLE) {
        ready |= AC_WRITE;
    }
    ac_event_record(watcher, ready);
}

static void
on_own_closed(uv_handle_t *handle)
{
    own_watcher *one = handle->data;
    one->initialised = false;
    if (one->ended) {
        PyMem_RawFree(one);
    }
}

int
ac_own_add_number(uv_loop_t *uv, int fd, int events)
{
#ifdef __linux__
    struct epoll_event event = {.events = (uint32_t)events, .data.fd = fd};
    int rc = epoll_ctl(uv_backend_fd(uv), EPOLL_CTL_ADD, fd, &event);
#else
    (void)uv;
    (void)events;
    int rc = fcntl(fd, F_GETFD);
#endif
    return rc < 0 ? -errno : 0;
}

/* Takes the number out of the kernel's set. */
static void
stop(own_watcher *one)
{
    if (one->started) {
        uv_poll_stop(&one->poll);
        one->started = false;
        one->base.armed = 0;
    }
}

/* The same for one that only reads, without a word to libuv: to go on, or with the next
 * connection of this number, takes one system call then in place of four. Returns false
 * if that is not as simple. */
static bool
park(const ac_own *own, own_watcher *one)
{
#ifdef __linux__
    const ac_watcher *watcher = &one->base;
    struct epoll_event event = {0};
    // libuv has to have put it there, or the next poll does
    if (!one->started || watcher->armed != AC_READ || watcher->exposed || one->replaced
        || one->poll_before == own->polls
        || epoll_ctl(uv_backend_fd(one->poll.loop), EPOLL_CTL_DEL, watcher->fd, &event)
               < 0)
    {
        return false;
    }
    one->started = false;
    one->base.armed = 0;
    one->parked = true;
    return true;
#else
    (void)own;
    (void)one;
    return false;
#endif
}

static void
park_or_stop(const ac_own *own, own_watcher *one)
{
    if (!park(own, one)) {
        stop(one);
    }
}

/* Gives the uv_poll_t back. libuv then takes its number out of the kernel's set,
 * whoever has that: so, before another handle of libuv's gets it. */
static void
give_back(own_watcher *one)
{
    if (one->initialised && !uv_is_closing((uv_handle_t *)&one->poll)) {
        stop(one);
        uv_close((uv_handle_t *)&one->poll, on_own_closed);
    }
}

static void
give_back_spare(own_watcher **spare)
{
    if (*spare != NULL) {
        give_back(*spare);
        *spare = NULL;
    }
}

/* Ends a watcher: the number leaves the kernel's set before it is closed. Only the
 * thread that polls. */
static void
end(ac_own *own, own_watcher *one)
{
    ac_event_forget(&one->base);  // of a poll that another thread saw
    park_or_stop(own, one);
    ac_descriptor_close(&one->fd_to_close);
    one->ended = true;
    if (!one->initialised) {
        PyMem_RawFree(one);
    }
    else if (!uv_is_closing((uv_handle_t *)&one->poll)) {
        own_watcher **spare = &own->spares[one->base.fd % AC_OWN_SPARES];
        give_back_spare(spare);
        *spare = one;
    }
}

/* The kernel refuses the number. For want of resources its user has to look at `error`;
 * a number that is closed, or another file's, fails at once in its system calls. */
static void
refuse(own_watcher *one, int err)
{
    stop(one);
    one->base.error = err == -ENOSPC || err == -ENOMEM ? err : 0;
    ac_event_record(&one->base, AC_READ | AC_WRITE);
}

/* Starts one that was parked. Returns false if libuv is to do it after all. */
static bool
unpark(own_watcher *one, uv_loop_t *uv)
{
    one->parked = false;
    int err = -EEXIST;
    if (one->base.wanted == AC_READ) {
        err = ac_own_add_number(uv, one->base.fd, UV_READABLE);
    }
    if (err == 0) {
        one->started = true;
        one->base.armed = AC_READ;
        return true;
    }
    uv_poll_stop(&one->poll);
    if (err == -EEXIST) {
        return false;
    }
    refuse(one, err);
    return true;
}

/* Starts or stops one watcher. Only the thread that polls. */
static void
apply(const ac_own *own, own_watcher *one, uv_loop_t *uv)
{
    ac_watcher *watcher = &one->base;
    if (watcher->wanted == watcher->armed) {
        return;
    }
    if (watcher->wanted == 0) {
        park_or_stop(own, one);
        return;
    }
    if (one->parked && unpark(one, uv)) {
        return;
    }
    bool probed = false;
    if (!one->initialised) {
        int err = uv_poll_init(uv, &one->poll, watcher->fd);
        if (err < 0) {
            refuse(one, err);
            return;
        }
        one->initialised = true;
        one->poll.data = one;
        probed = !watcher->exposed;  // by libuv, a moment ago
    }
    int events = (watcher->wanted & AC_READ ? UV_READABLE : 0)
                 | (watcher->wanted & AC_WRITE ? UV_WRITABLE : 0);
    if (uv_poll_start(&one->poll, events, on_own_ready) != 0) {
        return;
    }
    one->started = true;
    one->poll_before = own->polls;
    watcher->armed = watcher->wanted;
    int err = probed ? 0 : ac_own_add_number(uv, watcher->fd, events);
    if (err < 0 && err != -EEXIST) {
        refuse(one, err);
    }
}

/* Ends what was closed, and lets libuv forget what was replaced: only then it takes a
 * watcher of the same number. */
static void
apply_ends(ac_own *own)
{
    ac_watcher *next;
    for (ac_watcher *watcher = own->dirty; watcher != NULL; watcher = next) {
        own_watcher *one = (own_watcher *)watcher;
        next = watcher->next_dirty;
        if (watcher->closing) {
            ac_changes_remove(watcher);
            end(own, one);
        }
        else if (one->replaced) {
            ac_changes_remove(watcher);
            give_back(one);
        }
    }
}

void
ac_own_apply_changes(ac_own *own, uv_loop_t *uv)
{
    apply_ends(own);
    while (own->dirty != NULL) {
        own_watcher *one = (own_watcher *)own->dirty;
        ac_changes_remove(&one->base);
        apply(own, one, uv);
    }
}

void
ac_own_polled(ac_own *own)
{
    own->polls++;
    while (own->stopped != NULL) {
        own_watcher *one = own->stopped;
        own->stopped = one->next_stopped;
        ac_changes_add(&own->dirty, &one->base);
    }
}

void
ac_own_number_is_libuvs(ac_own *own, int fd)
{
    own_watcher **spare = &own->spares[fd % AC_OWN_SPARES];
    ac_watcher *watcher = ac_fdtable_get(&own->table, fd);
    if (*spare != NULL && (*spare)->base.fd == fd) {
        give_back_spare(spare);
    }
    if (watcher != NULL) {
        own->table.items[fd] = NULL;
        ((own_watcher *)watcher)->replaced = true;
        ac_event_forget(watcher);
        give_back((own_watcher *)watcher);
    }
}

void
ac_own_before_fork(ac_own *own)
{
    ac_watcher *next;
    for (ac_watcher *watcher = own->dirty; watcher != NULL; watcher = next) {
        next = watcher->next_dirty;
        if (watcher->closing && fcntl(watcher->fd, F_GETFD) < 0) {
            ac_changes_remove(watcher);
            end(own, (own_watcher *)watcher);
        }
    }
    ac_own_close_spares(own);
}

void
ac_own_after_fork(ac_own *own)
{
    apply_ends(own);
    for (size_t fd = 0; fd < own->table.cap; fd++) {
        own_watcher *one = (own_watcher *)own->table.items[fd];
        if (one != NULL && one->parked) {  // libuv would put it into its new set
            one->parked = false;
            uv_poll_stop(&one->poll);
        }
    }
}

/* -------------------------------------------------------- life of a watcher -- */

/* The watcher that was kept for a number, as new but for its uv_poll_t, or NULL. */
static own_watcher *
take_spare(ac_own *own, int fd)
{
    own_watcher **spare = &own->spares[fd % AC_OWN_SPARES];
    own_watcher *one = *spare;
    if (one == NULL || one->base.fd != fd) {
        return NULL;
    }
    *spare = NULL;
    memset(&one->base, 0, sizeof(one->base));
    one->next_stopped = NULL;
    one->ended = false;
    return one;
}

/* The user closed the number of a watcher, which another file has now. */
static void
replace(ac_watcher *watcher)
{
    ((own_watcher *)watcher)->replaced = true;
    ac_event_forget(watcher);
    changed(watcher);
}

ac_watcher *
ac_own_new(ac_own *own, int fd)
{
    if (ac_fdtable_reserve(&own->table, fd) < 0) {
        return NULL;
    }
    own_watcher *one = take_spare(own, fd);
    if (one == NULL) {
        one = PyMem_RawCalloc(1, sizeof(*one));
    }
    if (one == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (own->table.items[fd] != NULL) {
        replace(own->table.items[fd]);
    }
    one->fd_to_close = -1;
    own->table.items[fd] = &one->base;
    own->count++;
    return &one->base;
}

void
ac_own_set(ac_watcher *watcher, unsigned int events)
{
    watcher->wanted = (uint8_t)events;
    changed(watcher);
}

void
ac_own_close(ac_watcher *watcher, int fd_to_close)
{
    LoopObject *loop = watcher->loop;
    ac_own *own = &loop->poller->own;
    own_watcher *one = (own_watcher *)watcher;
    if (own->table.items[watcher->fd] == watcher) {
        own->table.items[watcher->fd] = NULL;
    }
    own->count--;
    one->fd_to_close = fd_to_close;
    watcher->closing = true;
    watcher->wanted = 0;
    if (ac_loop_is_forked(loop)) {
        // libuv would take the number out of the set that the parent uses
        ac_descriptor_close(&one->fd_to_close);
        ac_changes_add(&own->dirty, watcher);
    }
    else if (loop->polling) {
        changed(watcher);
    }
    else {
        ac_changes_remove(watcher);
        end(own, one);
    }
}

void
ac_own_close_spares(ac_own *own)
{
    for (int i = 0; i < AC_OWN_SPARES; i++) {
        give_back_spare(&own->spares[i]);
    }
}

void
ac_own_drop_closed(ac_own *own)
{
    while (own->dirty != NULL) {
        ac_watcher *watcher = own->dirty;
        ac_changes_remove(watcher);
        PyMem_RawFree(watcher);
    }
}

void
ac_own_free(ac_own *own)
{
    for (int i = 0; i < AC_OWN_SPARES; i++) {
        PyMem_RawFree(own->spares[i]);  // in a forked child
    }
    PyMem_Free(own->table.items);
}
