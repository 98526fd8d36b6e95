/* Pipes from the process to itself. */
#ifndef AC_SELFPIPE_H
#define AC_SELFPIPE_H

/* Makes one whose ends block nobody and that no child inherits: where the kernel has a
 * call for both, not even one that another thread forks meanwhile. Returns 0 or a
 * negative errno; the ends are -1 then. */
int
ac_selfpipe_open(int fds[2]);

/* Closes the ends, unless they are -1 already. */
void
ac_selfpipe_close(int fds[2]);

#endif
