/* A growable ring of pointers: the ready queue and the queue of other threads.
 *
 * It holds what it is given and knows nothing of references. The capacity is a
 * power of two; ac_ring_trim gives a burst's memory back. Where there is no GIL, whose
 * it is locks it; `len` may be read without. */
#ifndef AC_RING_H
#define AC_RING_H

#include "core/python.h"
#include "core/threads.h"

#include <assert.h>

#define AC_RING_MIN 64

typedef struct {
    void **items;
    size_t mask; /* capacity - 1; items is NULL while capacity is 0 */
    size_t head; /* index of the oldest item, not masked */
    size_t len;
    size_t peak; /* greatest len since the last trim */
} ac_ring;

static inline void *
ac_ring_at(const ac_ring *ring, size_t i)
{
    return ring->items[(ring->head + i) & ring->mask];
}

/* Moves the items to a block of `capacity`, a power of two that holds them.
 * Returns 0, or -1 with nothing changed and no exception set. */
static inline int
ac_ring_resize(ac_ring *ring, size_t capacity)
{
    void **items = PyMem_RawMalloc(capacity * sizeof(void *));
    if (items == NULL) {
        return -1;
    }
    for (size_t i = 0; i < ring->len; i++) {
        items[i] = ac_ring_at(ring, i);
    }
    PyMem_RawFree(ring->items);
    ring->items = items;
    ring->mask = capacity - 1;
    ring->head = 0;
    return 0;
}

/* Makes room for one more item. Returns 0, or -1 without an exception. */
static inline int
ac_ring_reserve(ac_ring *ring)
{
    if (ring->items == NULL) {
        return ac_ring_resize(ring, AC_RING_MIN);
    }
    if (ring->len <= ring->mask) {
        return 0;
    }
    return ac_ring_resize(ring, (ring->mask + 1) * 2);
}

/* Appends; needs a successful ac_ring_reserve before it. */
static inline void
ac_ring_push_reserved(ac_ring *ring, void *item)
{
    assert(ring->items != NULL && ring->len <= ring->mask);
    ring->items[(ring->head + ring->len) & ring->mask] = item;
    AC_STORE(ring->len, ring->len + 1);
    if (ring->len > ring->peak) {
        ring->peak = ring->len;
    }
}

/* Puts an item before all others; needs a successful ac_ring_reserve before it. */
static inline void
ac_ring_push_first_reserved(ac_ring *ring, void *item)
{
    assert(ring->items != NULL && ring->len <= ring->mask);
    ring->head = (ring->head - 1) & ring->mask;
    ring->items[ring->head] = item;
    AC_STORE(ring->len, ring->len + 1);
    if (ring->len > ring->peak) {
        ring->peak = ring->len;
    }
}

static inline void *
ac_ring_pop(ac_ring *ring)
{
    assert(ring->len > 0);
    void *item = ring->items[ring->head & ring->mask];
    ring->head = (ring->head + 1) & ring->mask;
    AC_STORE(ring->len, ring->len - 1);
    return item;
}

/* Gives memory back when the last burst is over: called now and then. */
static inline void
ac_ring_trim(ac_ring *ring)
{
    size_t capacity = ring->mask + 1;
    if (ring->items != NULL && capacity > AC_RING_MIN && ring->peak < capacity / 4
        && ring->len < capacity / 4)
    {
        (void)ac_ring_resize(ring, capacity / 2); /* keeping the block is no error */
    }
    ring->peak = ring->len;
}

static inline void
ac_ring_free(ac_ring *ring)
{
    PyMem_RawFree(ring->items);
    *ring = (ac_ring){0};
}

#endif
