/* A list of watchers whose wishes the kernel has not been told yet. */
#ifndef AC_CHANGES_H
#define AC_CHANGES_H

#include "loop/watcher.h"

/* Puts a watcher on a list that it may already be on. */
static inline void
ac_changes_add(ac_watcher **list, ac_watcher *watcher)
{
    if (watcher->prev_dirty != NULL) {
        return;
    }
    watcher->next_dirty = *list;
    watcher->prev_dirty = list;
    if (*list != NULL) {
        (*list)->prev_dirty = &watcher->next_dirty;
    }
    *list = watcher;
}

/* Takes it off the list that it may be on. */
static inline void
ac_changes_remove(ac_watcher *watcher)
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

#endif
