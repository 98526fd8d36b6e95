/* The set of foreign descriptors: epoll, or kqueue where there is no epoll. */
#include "core/python.h"

#include "loop/fdset.h"
#include "loop/watcher.h"

#include <errno.h>
#include <unistd.h>

void
ac_fdset_close(ac_fdset *set)
{
    if (set->fd >= 0) {
        close(set->fd);
        set->fd = -1;
    }
}

#ifdef __linux__

#include <sys/epoll.h>

int
ac_fdset_open(ac_fdset *set)
{
    set->fd = epoll_create1(EPOLL_CLOEXEC);
    return set->fd < 0 ? -errno : 0;
}

int
ac_fdset_set(ac_fdset *set, int fd, uint32_t generation, bool known,
             unsigned int events)
{
    struct epoll_event event = {0};
    event.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
    event.events =
        (events & AC_READ ? EPOLLIN : 0u) | (events & AC_WRITE ? EPOLLOUT : 0u);
    int first = known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(set->fd, first, fd, &event) == 0) {
        return 0;
    }
    // the number was closed (and perhaps reused) behind our back
    if (errno == (known ? ENOENT : EEXIST)) {
        int second = known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        if (epoll_ctl(set->fd, second, fd, &event) == 0) {
            return 0;
        }
    }
    return -errno;
}

int
ac_fdset_remove(ac_fdset *set, int fd)
{
    struct epoll_event event = {0};  // kernels before 2.6.9 want one
    return epoll_ctl(set->fd, EPOLL_CTL_DEL, fd, &event) < 0 ? -errno : 0;
}

/* As selectors do it: whatever is not EPOLLIN is a write event and the other way
 * round, so that errors and hang-ups wake both. */
int
ac_fdset_wait(ac_fdset *set, ac_fdset_event *events, int capacity, bool block)
{
    struct epoll_event ready[AC_FDSET_BATCH];
    int n = epoll_wait(set->fd, ready,
                       capacity < AC_FDSET_BATCH ? capacity : AC_FDSET_BATCH,
                       block ? -1 : 0);
    if (n < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    for (int i = 0; i < n; i++) {
        events[i].fd = (int)(uint32_t)ready[i].data.u64;
        events[i].generation = (uint32_t)(ready[i].data.u64 >> 32);
        events[i].events = (ready[i].events & ~(uint32_t)EPOLLIN ? AC_WRITE : 0u)
                           | (ready[i].events & ~(uint32_t)EPOLLOUT ? AC_READ : 0u);
    }
    return n;
}

#else

#include <sys/event.h>
#include <sys/time.h>

int
ac_fdset_open(ac_fdset *set)
{
    set->fd = kqueue();
    return set->fd < 0 ? -errno : 0;
}

static int
filter_set(ac_fdset *set, int fd, uint32_t generation, int16_t filter, bool on)
{
    struct kevent change;
    EV_SET(&change, (uintptr_t)fd, filter, on ? EV_ADD : EV_DELETE, 0, 0,
           (void *)(uintptr_t)generation);
    if (kevent(set->fd, &change, 1, NULL, 0, NULL) < 0) {
        return !on && (errno == ENOENT || errno == EBADF) ? 0 : -errno;
    }
    return 0;
}

int
ac_fdset_set(ac_fdset *set, int fd, uint32_t generation, bool known,
             unsigned int events)
{
    int err = filter_set(set, fd, generation, EVFILT_READ, events & AC_READ);
    if (err == 0 && (known || events & AC_WRITE)) {
        err = filter_set(set, fd, generation, EVFILT_WRITE, events & AC_WRITE);
    }
    return err;
}

int
ac_fdset_remove(ac_fdset *set, int fd)
{
    int read_err = filter_set(set, fd, 0, EVFILT_READ, false);
    int write_err = filter_set(set, fd, 0, EVFILT_WRITE, false);
    return read_err < 0 ? read_err : write_err;
}

int
ac_fdset_wait(ac_fdset *set, ac_fdset_event *events, int capacity, bool block)
{
    struct kevent ready[AC_FDSET_BATCH];
    struct timespec zero = {0, 0};
    int n = kevent(set->fd, NULL, 0, ready,
                   capacity < AC_FDSET_BATCH ? capacity : AC_FDSET_BATCH,
                   block ? NULL : &zero);
    if (n < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    for (int i = 0; i < n; i++) {
        events[i].fd = (int)ready[i].ident;
        events[i].generation = (uint32_t)(uintptr_t)ready[i].udata;
        events[i].events = ready[i].filter == EVFILT_READ ? AC_READ : AC_WRITE;
    }
    return n;
}

#endif
