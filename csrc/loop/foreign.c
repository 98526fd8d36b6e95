#include "core/python.h"

#include "core/errors.h"
#include "loop/changes.h"
#include "loop/descriptor.h"
#include "loop/event.h"
#include "loop/foreign.h"
#include "loop/poller.h"
#include "loop/poller_parts.h"

#include <errno.h>
#include <fcntl.h>

/* For how many polls that find something it is assumed that the kernel knows a number:
 * a reused one would be overlooked so long. */
#define POLLS_ASSUMED 16

/* So few are asked about before a poll that may block, and more only if a look at the
 * set finds nothing: that is a system call as well. */
#define FEW 2

/* The set is looked at after the GIL is back: the table may be changed by other
 * threads while this one polls. */
static void
on_set_ready(uv_poll_t *handle, int Py_UNUSED(status), int Py_UNUSED(events))
{
    ((ac_foreign *)handle->data)->ready = true;
}

/* ------------------------------------------------------------------- the set -- */

void
ac_foreign_init(ac_foreign *foreign)
{
    foreign->set.fd = foreign->timer_fd = -1;
    foreign->bell[0] = foreign->bell[1] = -1;
}

/* Whether a number is one of the poller's own: no watcher's. */
static bool
is_own_number(const ac_foreign *foreign, int fd)
{
    return fd == foreign->timer_fd || fd == foreign->bell[0];
}

/* The poller has opened a number. Who watches it has not heard yet that its file was
 * closed. */
static void
forget_former(ac_foreign *foreign, int fd)
{
    ac_watcher *former = ac_fdtable_get(&foreign->table, fd);
    if (former != NULL) {
        ac_changes_remove(former);
        former->armed = 0;
    }
    if (fd >= 0 && (size_t)fd < foreign->table.cap) {
        foreign->lingering[fd].events = 0;
    }
}

/* Puts the poller's own numbers into a set. Returns 0 or a negative errno. */
static int
add_own_numbers(const ac_foreign *foreign, ac_fdset *set)
{
    int err = ac_fdset_set(set, foreign->bell[0], 0, false, AC_READ);
    if (err == 0 && foreign->timer_fd >= 0) {
        err = ac_fdset_set(set, foreign->timer_fd, 0, false, AC_READ);
    }
    return err;
}

int
ac_foreign_start(ac_foreign *foreign, ac_own *own, uv_loop_t *uv)
{
    if (foreign->started || foreign->set.fd < 0) {
        return 0;
    }
    ac_own_number_is_libuvs(own, foreign->set.fd);
    int err = uv_poll_init(uv, &foreign->poll, foreign->set.fd);
    if (err == 0) {
        foreign->started = true;
        foreign->poll.data = foreign;
        err = uv_poll_start(&foreign->poll, UV_READABLE, on_set_ready);
        // there was room a moment ago, and may be none when libuv polls at last
        (void)ac_own_add_number(uv, foreign->set.fd, UV_READABLE);
    }
    return err;
}

/* A set with the poller's own numbers. Returns 0 or a negative errno. */
static int
open_fresh(const ac_foreign *foreign, ac_fdset *fresh)
{
    int err = ac_fdset_open(fresh);
    if (err == 0) {
        err = add_own_numbers(foreign, fresh);
        if (err < 0) {
            ac_fdset_close(fresh);
        }
    }
    return err;
}

/* A new, clean set in the place of the old one, which stays if there is none. Returns 0
 * or a negative errno. */
static int
renew(ac_foreign *foreign)
{
    if (foreign->set.fd < 0) {
        return 0;
    }
    ac_fdset fresh;
    int err = open_fresh(foreign, &fresh);
    if (err < 0) {
        return err;
    }
    memset(foreign->lingering, 0, foreign->table.cap * sizeof(*foreign->lingering));
    while (foreign->assumed != NULL) {
        ac_changes_remove(foreign->assumed);
    }
    if (foreign->started) {
        err = ac_descriptor_replace(&foreign->poll, on_set_ready, foreign->set.fd,
                                    fresh.fd);
    }
    else {
        if (fresh.fd != foreign->set.fd) {
            ac_fdset_close(&foreign->set);
        }
        foreign->set = fresh;
    }
    if (err < 0) {
        return err;
    }
    for (size_t fd = 0; fd < foreign->table.cap; fd++) {
        ac_watcher *watcher = foreign->table.items[fd];
        if (watcher != NULL && watcher->armed != 0) {
            // a number that was closed meanwhile has no events any more
            (void)ac_fdset_set(&foreign->set, (int)fd, watcher->generation, false,
                               watcher->armed);
        }
    }
    return 0;
}

/* Renews a set that reports what nobody waits for. Without a descriptor for it the next
 * poll tries again: until then the loop is busy, as the standard one is for ever. */
static int
renew_stale(ac_foreign *foreign)
{
    int err = renew(foreign);
    if (err == 0 || ac_errors_is_shortage(err)) {
        return 0;
    }
    (void)ac_errors_errno(-err);
    return -1;
}

int
ac_foreign_after_fork(ac_foreign *foreign)
{
    foreign->timer_fd = -1;
    int err = 0;
    if (foreign->set.fd >= 0) {  // the parent listens to the old one
        ac_descriptor_close_bell(foreign->bell);
        err = ac_descriptor_open_bell(foreign->bell);
        forget_former(foreign, foreign->bell[0]);
    }
    if (err == 0) {
        err = renew(foreign);
    }
    if (err < 0) {
        (void)ac_errors_errno(-err);
        return -1;
    }
    return 0;
}

void
ac_foreign_free(ac_foreign *foreign)
{
    ac_fdset_close(&foreign->set);
    ac_descriptor_close_bell(foreign->bell);
    PyMem_Free(foreign->table.items);
    PyMem_Free(foreign->lingering);
}

/* -------------------------------------------------------------------- events -- */

/* Takes out a number that was left in the set. Returns false if it is not the file
 * that was watched: that one lives on under another number. */
static bool
forget_lingering(ac_foreign *foreign, int fd)
{
    if (fd < 0 || (size_t)fd >= foreign->table.cap
        || foreign->lingering[fd].events == 0) {
        return false;
    }
    foreign->lingering[fd].events = 0;
    return ac_fdset_remove(&foreign->set, fd) == 0;
}

static void
own_number_is_ready(LoopObject *loop, int fd)
{
    ac_foreign *foreign = &loop->poller->foreign;
    if (fd == foreign->timer_fd) {
        ac_wakeup_fired(&loop->poller->wakeup);
    }
    else {
        ac_descriptor_silence(foreign->bell);
    }
}

/* A number that was closed while a duplicate lives on is reported for ever and cannot
 * be taken out: then the set is made anew. */
int
ac_foreign_collect(LoopObject *loop, ac_fdset_event *ready, int n)
{
    ac_foreign *foreign = &loop->poller->foreign;
    bool stale = false;
    bool around = false;  // the kernel reports in turn: what is seen twice ends it
    size_t seen = 0;
    for (;;) {
        if (n < 0) {
            (void)ac_errors_errno(-n);
            return -1;
        }
        for (int i = 0; i < n; i++) {
            if (ready[i].generation == 0) {
                own_number_is_ready(loop, ready[i].fd);
                continue;
            }
            ac_watcher *watcher = ac_fdtable_get(&foreign->table, ready[i].fd);
            bool current =
                watcher != NULL && watcher->generation == ready[i].generation;
            if (current && watcher->armed != 0) {
                around = around || watcher->revents != 0;
                ac_event_reserve(loop, 1);
                ac_event_record(watcher, ready[i].events);
            }
            else if ((watcher != NULL && !current)
                     || !forget_lingering(foreign, ready[i].fd)) {
                stale = true;
            }
        }
        seen += (size_t)n;
        if (n < AC_FDSET_BATCH || around || seen >= foreign->table.cap) {
            break;
        }
        n = ac_fdset_wait(&foreign->set, ready, AC_FDSET_BATCH, false);
    }
    return stale ? renew_stale(foreign) : 0;
}

/* -------------------------------------------------------- life of a watcher -- */

/* Opens the set. If libuv cannot watch it, that is told here, and not by a poll.
 * Returns 0 or a negative errno. */
static int
open_set(LoopObject *loop)
{
    ac_poller *poller = loop->poller;
    ac_foreign *foreign = &poller->foreign;
    int err = ac_fdset_open(&foreign->set);
    if (err == 0) {
        err = ac_descriptor_open_bell(foreign->bell);
    }
    if (err == 0) {
        err = add_own_numbers(foreign, &foreign->set);
    }
    if (err == 0 && !loop->polling && !ac_loop_is_forked(loop)) {
        err = ac_foreign_start(foreign, &poller->own, &poller->uv);
    }
    if (err < 0) {
        ac_fdset_close(&foreign->set);
        ac_descriptor_close_bell(foreign->bell);
    }
    return err;
}

int
ac_foreign_add_timer(LoopObject *loop, int fd)
{
    ac_foreign *foreign = &loop->poller->foreign;
    int err = foreign->set.fd < 0 ? open_set(loop) : 0;
    if (err == 0) {
        err = ac_fdset_set(&foreign->set, fd, 0, false, AC_READ);
    }
    if (err == 0) {
        foreign->timer_fd = fd;
        forget_former(foreign, fd);
    }
    return err;
}

void
ac_foreign_wake(ac_foreign *foreign)
{
    if (!foreign->rung) {
        foreign->rung = true;
        ac_descriptor_ring(foreign->bell);
    }
}

/* Makes room for a number, opens the set at the first. Returns 0, or -1 with an
 * exception. */
static int
reserve(LoopObject *loop, int fd)
{
    ac_foreign *foreign = &loop->poller->foreign;
    size_t before = foreign->table.cap;
    int err = 0;
    // a number that is free must not become that of the set itself; and the table grows
    // for those that are descriptors, not for any that the program may name
    if ((foreign->set.fd < 0 || (size_t)fd >= before) && fcntl(fd, F_GETFD) < 0) {
        err = -errno;
    }
    else if (foreign->set.fd < 0) {
        err = open_set(loop);
    }
    if (err < 0) {
        (void)ac_errors_errno(-err);
        return -1;
    }
    if (ac_fdtable_reserve(&foreign->table, fd) < 0) {
        return -1;
    }
    if (foreign->table.cap > before) {
        ac_lingering *lingering =
            PyMem_Realloc(foreign->lingering, foreign->table.cap * sizeof(*lingering));
        if (lingering == NULL) {
            foreign->table.cap = before;  // the larger table is used the next time
            PyErr_NoMemory();
            return -1;
        }
        memset(lingering + before, 0,
               (foreign->table.cap - before) * sizeof(*lingering));
        foreign->lingering = lingering;
    }
    return 0;
}

/* Whether a number that somebody names is one of the loop's own by now: then it is not
 * the file that was meant, which is closed. */
static bool
is_taken(const ac_foreign *foreign, const ac_watcher *watcher, int fd)
{
    const ac_watcher *other = foreign->table.items[fd];
    return is_own_number(foreign, fd)
           || (other != NULL && other != watcher && other->reserved);
}

ac_watcher *
ac_foreign_new(LoopObject *loop, int fd)
{
    ac_foreign *foreign = &loop->poller->foreign;
    if (reserve(loop, fd) < 0) {
        return NULL;
    }
    if (is_taken(foreign, NULL, fd)) {
        (void)ac_errors_errno(EBADF);
        return NULL;
    }
    ac_watcher *watcher = PyMem_RawCalloc(1, sizeof(*watcher));
    if (watcher == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    watcher->generation = ++foreign->generation;
    foreign->table.items[fd] = watcher;
    return watcher;
}

/* Takes over what the same user has left in the set, if it has. */
static bool
assume(ac_foreign *foreign, ac_watcher *watcher, unsigned int events)
{
    ac_lingering *left = &foreign->lingering[watcher->fd];
    if (watcher->user == NULL || watcher->armed != 0 || left->events != events
        || left->user != watcher->user || watcher->loop->polling)
    {
        return false;
    }
    left->events = 0;
    foreign->table.items[watcher->fd] = watcher;
    watcher->generation = left->generation;
    watcher->polls = 0;
    ac_changes_add(&foreign->assumed, watcher);
    return true;
}

/* Tells the set which events are wanted of a number. Returns 0 or a negative errno. */
static int
tell(ac_foreign *foreign, ac_watcher *watcher, unsigned int events)
{
    if (is_taken(foreign, watcher, watcher->fd)) {
        return -EBADF;
    }
    ac_lingering *left = &foreign->lingering[watcher->fd];
    bool known = watcher->armed != 0 || left->events != 0;
    left->events = 0;
    foreign->table.items[watcher->fd] = watcher;
    if (!foreign->started) {
        ac_poller_wake(watcher->loop);
    }
    return ac_fdset_set(&foreign->set, watcher->fd, watcher->generation, known, events);
}

int
ac_foreign_set(ac_watcher *watcher, unsigned int events)
{
    LoopObject *loop = watcher->loop;
    ac_foreign *foreign = &loop->poller->foreign;
    int err = 0;
    if (watcher->prev_dirty != NULL) {
        ac_changes_remove(watcher);
        if (events != 0) {  // the generation is the one before's, which may live on
            watcher->generation = ++foreign->generation;
        }
    }
    if (ac_loop_is_forked(loop)) {
        // the set is the parent's too; the child's own will have what is armed
    }
    else if (events == 0) {
        // unless somebody has taken its place
        if (watcher->armed != 0 && foreign->table.items[watcher->fd] == watcher) {
            foreign->lingering[watcher->fd] = (ac_lingering){
                .user = watcher->user,
                .generation = watcher->generation,
                .events = watcher->armed,
            };
        }
    }
    else if (!assume(foreign, watcher, events)) {
        err = tell(foreign, watcher, events);
    }
    if (err == 0) {
        watcher->wanted = watcher->armed = (uint8_t)events;
    }
    else {  // what is not wanted any more may still be reported, by a duplicate
        watcher->wanted &= (uint8_t)events;
    }
    return err;
}

void
ac_foreign_number_is_new(ac_foreign *foreign, int fd)
{
    if (fd >= 0 && (size_t)fd < foreign->table.cap) {
        foreign->lingering[fd].user = NULL;
    }
}

void
ac_foreign_number_is_own(LoopObject *loop, int fd)
{
    if (!ac_loop_is_forked(loop)) {
        (void)forget_lingering(&loop->poller->foreign, fd);
    }
}

/* Whether the set has something ready, or cannot tell. */
static bool
is_ready(ac_foreign *foreign)
{
    ac_fdset_event one;
    return ac_fdset_wait(&foreign->set, &one, 1, false) != 0;
}

/* The number may be another file's by now: its events are told apart by a generation
 * of their own. One that was closed has no events, as any that is closed while it is
 * watched. */
static void
confirm(ac_foreign *foreign, ac_watcher *watcher)
{
    ac_changes_remove(watcher);
    if (foreign->table.items[watcher->fd] != watcher) {
        return;
    }
    watcher->generation = ++foreign->generation;
    if (tell(foreign, watcher, watcher->wanted) < 0) {
        watcher->armed = 0;
    }
}

bool
ac_foreign_confirm(ac_foreign *foreign, bool may_block)
{
    unsigned int count = 0;
    ac_watcher *next;
    for (ac_watcher *watcher = foreign->assumed; watcher != NULL; watcher = next) {
        next = watcher->next_dirty;
        if (++watcher->polls >= POLLS_ASSUMED) {
            confirm(foreign, watcher);
        }
        else {
            count++;
        }
    }
    if (!may_block || count == 0) {
        return false;
    }
    if (count > FEW && is_ready(foreign)) {
        return true;
    }
    while (foreign->assumed != NULL) {
        confirm(foreign, foreign->assumed);
    }
    return false;
}

void
ac_foreign_close(ac_watcher *watcher, int fd_to_close)
{
    ac_foreign *foreign = &watcher->loop->poller->foreign;
    (void)ac_foreign_set(watcher, 0);
    if (foreign->table.items[watcher->fd] == watcher) {
        foreign->table.items[watcher->fd] = NULL;
    }
    PyMem_RawFree(watcher);
    ac_descriptor_close(&fd_to_close);
}
