/* Watchers by the number of their descriptor. */
#ifndef AC_FDTABLE_H
#define AC_FDTABLE_H

#include "core/python.h"

#include "loop/watcher.h"

typedef struct {
    ac_watcher **items; /* borrowed; NULL where there is none */
    size_t cap;
} ac_fdtable;

static inline ac_watcher *
ac_fdtable_get(const ac_fdtable *table, int fd)
{
    return fd >= 0 && (size_t)fd < table->cap ? table->items[fd] : NULL;
}

/* Makes room for `fd`. Returns 0, or -1 with MemoryError. */
static inline int
ac_fdtable_reserve(ac_fdtable *table, int fd)
{
    size_t needed = (size_t)fd + 1;
    if (needed <= table->cap) {
        return 0;
    }
    size_t cap = table->cap == 0 ? 64 : table->cap;
    while (cap < needed) {
        cap *= 2;
    }
    ac_watcher **items = PyMem_Realloc(table->items, cap * sizeof(*items));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(items + table->cap, 0, (cap - table->cap) * sizeof(*items));
    table->items = items;
    table->cap = cap;
    return 0;
}

#endif
