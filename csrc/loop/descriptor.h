/* Descriptors that the poller itself holds. */
#ifndef AC_DESCRIPTOR_H
#define AC_DESCRIPTOR_H

#include "core/python.h"

#include <uv.h>

/* Closes *fd, unless it is -1 already. */
void
ac_descriptor_close(int *fd);

/* Two ends of a pipe, or an eventfd twice, that block nobody and no child inherits.
 * What is written to fds[1] makes fds[0] readable. Returns 0 or a negative errno. */
int
ac_descriptor_open_bell(int fds[2]);
void
ac_descriptor_ring(const int fds[2]);
void
ac_descriptor_silence(const int fds[2]);
void
ac_descriptor_close_bell(int fds[2]);

/* Puts `fresh` (consumed; negative: errno says why there is none) in the place of the
 * descriptor `fd`, which libuv watches by `handle`, and makes libuv notice. For a
 * forked child. Returns 0 or a negative errno. */
int
ac_descriptor_replace(uv_poll_t *handle, uv_poll_cb on_ready, int fd, int fresh);

/* libuv aborts when its first loop of a process gets no descriptors: tells whether
 * there are any. Returns 0 or a negative errno. */
int
ac_descriptor_probe(void);

/* Takes those of the numbers 0 to 2 that are free: libuv aborts when it closes one
 * of them, so it must not get them. Returns how many `held` has. */
int
ac_descriptor_hold_low(int held[3]);
void
ac_descriptor_release_low(const int *held, int n);

#endif
