/* A set of descriptors with the events wanted of each, level-triggered: epoll on
 * Linux, kqueue elsewhere. Its own descriptor becomes readable when one of them
 * is ready. */
#ifndef AC_FDSET_H
#define AC_FDSET_H

#include "core/python.h"

typedef struct {
    int fd; /* of the set itself; -1: closed */
} ac_fdset;

typedef struct {
    int fd;
    uint32_t generation; /* as given to ac_fdset_set */
    unsigned int events; /* AC_READ, AC_WRITE; an error counts as both */
} ac_fdset_event;

/* All return 0 (ac_fdset_wait: the number of events), or a negative errno. */
int
ac_fdset_open(ac_fdset *set);
void
ac_fdset_close(ac_fdset *set);

/* Changes what is wanted of `fd` from `before` to `after` (0: not in the set). A
 * number that was closed and reused meanwhile is added anew. Taking out a number
 * that the kernel has already forgotten is no error. */
int
ac_fdset_set(ac_fdset *set, int fd, uint32_t generation, unsigned int before,
             unsigned int after);

/* What is ready now, without waiting. */
int
ac_fdset_wait(ac_fdset *set, ac_fdset_event *events, int capacity);

#endif
