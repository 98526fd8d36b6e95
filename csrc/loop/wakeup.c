#include "core/python.h"

#include "loop/descriptor.h"
#include "loop/poller_parts.h"
#include "loop/wakeup.h"

#include <errno.h>
#include <math.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/timerfd.h>
#endif

static double
monotonic_now(void)
{
    return (double)uv_hrtime() / 1e9;
}

/* libuv before 1.45 runs timers before it polls as well: one that is due by then would
 * leave a poll without an end. */
static void
on_timer(uv_timer_t *handle)
{
    ((ac_wakeup *)handle->data)->armed = INFINITY;
    uv_stop(handle->loop);
}

void
ac_wakeup_init(ac_wakeup *wakeup)
{
    wakeup->armed = INFINITY;
#ifdef __linux__
    wakeup->fd = -1;
#endif
}

int
ac_wakeup_open(ac_wakeup *wakeup, uv_loop_t *uv)
{
    int err = uv_timer_init(uv, &wakeup->timer);
    wakeup->timer.data = wakeup;
    return err;
}

#ifdef __linux__

/* Returns 0 or a negative errno: there is no descriptor left. */
static int
open_timer_fd(LoopObject *loop)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int err = ac_foreign_add_timer(loop, fd);
    if (err < 0) {
        close(fd);
        return err;
    }
    loop->poller->wakeup.fd = fd;
    return 0;
}

#endif

int
ac_wakeup_arm(LoopObject *loop, double timeout)
{
    ac_wakeup *wakeup = &loop->poller->wakeup;
    double now = monotonic_now();
    double when = now + timeout;
    if (wakeup->armed > now && wakeup->armed <= when) {
        return 0;
    }
#ifdef __linux__
    if (wakeup->fd >= 0 || open_timer_fd(loop) == 0) {
        uint64_t ns = (uint64_t)(timeout * 1e9) + 1;  // 0 would disarm it
        struct itimerspec spec = {0};
        spec.it_value.tv_sec = (time_t)(ns / 1000000000u);
        spec.it_value.tv_nsec = (long)(ns % 1000000000u);
        if (timerfd_settime(wakeup->fd, 0, &spec, NULL) < 0) {
            return -errno;
        }
        wakeup->armed = when;
        return 0;
    }
#endif
    uv_update_time(wakeup->timer.loop);
    int err =
        uv_timer_start(&wakeup->timer, on_timer, (uint64_t)ceil(timeout * 1e3), 0);
    if (err == 0) {
        wakeup->armed = when;
    }
    return err;
}

int
ac_wakeup_disarm(ac_wakeup *wakeup)
{
#ifdef __linux__
    if (wakeup->armed < 0) {
        struct itimerspec spec = {0};
        if (timerfd_settime(wakeup->fd, 0, &spec, NULL) < 0) {
            return -errno;
        }
        wakeup->armed = INFINITY;
    }
#else
    (void)wakeup;
#endif
    return 0;
}

void
ac_wakeup_fired(ac_wakeup *wakeup)
{
    wakeup->armed = -INFINITY;
}

bool
ac_wakeup_is_in_set(const ac_wakeup *wakeup)
{
#ifdef __linux__
    return wakeup->fd >= 0;
#else
    (void)wakeup;
    return false;
#endif
}

void
ac_wakeup_after_fork(ac_wakeup *wakeup)
{
#ifdef __linux__
    if (wakeup->fd >= 0) {
        wakeup->armed = INFINITY;
        ac_descriptor_close(&wakeup->fd);
    }
#else
    (void)wakeup;
#endif
}

void
ac_wakeup_close(ac_wakeup *wakeup)
{
#ifdef __linux__
    ac_descriptor_close(&wakeup->fd);
#else
    (void)wakeup;
#endif
}
