#include "core/python.h"

#include "loop/event.h"

void
ac_event_record(ac_watcher *watcher, unsigned int events)
{
    LoopObject *loop = watcher->loop;
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

void
ac_event_forget(ac_watcher *watcher)
{
    LoopObject *loop = watcher->loop;
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

void
ac_event_reserve(LoopObject *loop, size_t more)
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
    if (items != NULL) {
        loop->events = items;
        loop->events_cap = cap;
    }
}
