/* What the poller is made of; for the files that talk to libuv. */
#ifndef AC_POLLER_PARTS_H
#define AC_POLLER_PARTS_H

#include "loop/foreign.h"
#include "loop/own.h"
#include "loop/wakeup.h"

#include <uv.h>

/* Lives from ac_poller_open to ac_poller_close; a closed own watcher's block until
 * libuv's close callback. */
struct ac_poller {
    bool opened; /* libuv's side: the next two, and the handles of the others */
    uv_loop_t uv;
    uv_async_t wake; /* interrupts a poll */
    ac_own own;
    ac_foreign foreign;
    ac_wakeup wakeup;
};

#endif
