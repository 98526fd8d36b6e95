/* The wake-up for the next timer: a timerfd, which knows nanoseconds, in the set of
 * foreign descriptors; where there is none, libuv's timer in milliseconds. Only the
 * thread that polls. */
#ifndef AC_WAKEUP_H
#define AC_WAKEUP_H

#include "loop/loop.h"

#include <uv.h>

typedef struct {
    uv_timer_t timer;
#ifdef __linux__
    int fd; /* the timerfd; -1 until first needed, or without a free descriptor */
#endif
    double armed; /* the time it is set for; INFINITY: not set; -INFINITY: it fired */
} ac_wakeup;

void
ac_wakeup_init(ac_wakeup *wakeup);

/* These return a libuv status. */
int
ac_wakeup_open(ac_wakeup *wakeup, uv_loop_t *uv);

/* Sets it for `timeout` seconds from now. An earlier one that is still to come stays:
 * it costs one empty turn, and a system call less. */
int
ac_wakeup_arm(LoopObject *loop, double timeout);

/* Takes back one that has fired, so that it does not end the next wait. */
int
ac_wakeup_disarm(ac_wakeup *wakeup);

/* The timerfd is readable, and stays so until it is set anew. */
void
ac_wakeup_fired(ac_wakeup *wakeup);

/* Whether it is in the set, and not libuv's. */
bool
ac_wakeup_is_in_set(const ac_wakeup *wakeup);

/* In a forked child: the timerfd is the parent's. */
void
ac_wakeup_after_fork(ac_wakeup *wakeup);

/* Closes the timerfd; libuv's handles are closed before. */
void
ac_wakeup_close(ac_wakeup *wakeup);

#endif
