/* A set of descriptors with the events wanted of each, level-triggered: epoll on
 * Linux, kqueue elsewhere. Its own descriptor becomes readable when one of them
 * is ready. */
#ifndef AC_FDSET_H
#define AC_FDSET_H

#include "core/python.h"

#ifdef __linux__
#define AC_FDSET_INHERITED true
#else
#define AC_FDSET_INHERITED false /* a forked child has no kqueue of its parent */
#endif

/* The most events that one ac_fdset_wait returns. */
#define AC_FDSET_BATCH 1024

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

/* Says which events are wanted of `fd` (not none). `known`: the kernel has it, as far
 * as we know; a number that was closed and reused meanwhile is added anew. */
int
ac_fdset_set(ac_fdset *set, int fd, uint32_t generation, bool known,
             unsigned int events);

/* Takes a number out of the set. Unlike ac_fdset_set, fails when the kernel does not
 * know it (any more): what it reports under that number is another file's. */
int
ac_fdset_remove(ac_fdset *set, int fd);

/* What is ready; if nothing is and it may `block`, waits until something is or a signal
 * comes. */
int
ac_fdset_wait(ac_fdset *set, ac_fdset_event *events, int capacity, bool block);

#endif
