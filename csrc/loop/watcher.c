/* What is common to both kinds of watchers. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/event.h"
#include "loop/poller.h"
#include "loop/poller_parts.h"
#include "loop/watcher.h"

#include <unistd.h>

bool
ac_watcher_own_is_full(const LoopObject *loop)
{
    return loop->poller != NULL && loop->poller->own.count >= AC_OWN_MAX;
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
    if (ac_poller_need(loop, fd) < 0) {
        return NULL;
    }
    if (kind == AC_WATCHER_OWN) {
        ac_foreign_number_is_own(loop, fd);
    }
    ac_watcher *watcher = kind == AC_WATCHER_OWN ? ac_own_new(&poller->own, fd)
                                                 : ac_foreign_new(loop, fd);
    if (watcher != NULL) {
        watcher->loop = loop;
        watcher->owner = owner;
        watcher->on_ready = on_ready;
        watcher->fd = fd;
        watcher->kind = (uint8_t)kind;
    }
    return watcher;
}

int
ac_watcher_set(ac_watcher *watcher, unsigned int events)
{
    bool wanted_before = watcher->wanted != 0;
    int err = 0;
    if (watcher->kind == AC_WATCHER_FOREIGN) {
        err = ac_foreign_set(watcher, events);
    }
    else if (watcher->wanted != events) {
        ac_own_set(watcher, events);
    }
    watcher->loop->watched -= wanted_before;
    watcher->loop->watched += watcher->wanted != 0;
    if (err < 0) {
        (void)ac_errors_errno(-err);
        return -1;
    }
    ac_watcher_forget(watcher, ~events);
    return 0;
}

void
ac_watcher_forget(ac_watcher *watcher, unsigned int events)
{
    if ((watcher->revents & ~events) == 0) {
        ac_event_forget(watcher);
    }
    else {
        watcher->revents &= (uint8_t)~events;
    }
}

void
ac_watcher_close(ac_watcher *watcher, int fd_to_close)
{
    if (watcher == NULL) {
        if (fd_to_close >= 0) {
            close(fd_to_close);
        }
        return;
    }
    ac_event_forget(watcher);
    watcher->loop->watched -= watcher->wanted != 0;
    if (watcher->kind == AC_WATCHER_FOREIGN) {
        ac_foreign_close(watcher, fd_to_close);
    }
    else {
        ac_own_close(watcher, fd_to_close);
    }
}

void
ac_watcher_number_is_new(LoopObject *loop, int fd)
{
    if (loop->poller != NULL) {
        ac_foreign_number_is_new(&loop->poller->foreign, fd);
    }
}

ac_watcher *
ac_watcher_of_foreign(LoopObject *loop, int fd)
{
    ac_poller *poller = loop->poller;
    return poller == NULL ? NULL : ac_fdtable_get(&poller->foreign.table, fd);
}

ac_watcher *
ac_watcher_of_own(LoopObject *loop, int fd)
{
    ac_poller *poller = loop->poller;
    return poller == NULL ? NULL : ac_fdtable_get(&poller->own.table, fd);
}
