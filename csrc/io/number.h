/* Numbers of descriptors, as the user names them. */
#ifndef AC_NUMBER_H
#define AC_NUMBER_H

#include "loop/loop.h"

/* The number of an int or of an object with fileno(), as selectors._fileobj_to_fd.
 * Returns -1 with ValueError, or with OverflowError for a number that no descriptor
 * has. May run Python. */
int
ac_number_of(ac_state *state, PyObject *fileobj);

/* loop._ensure_fd_no_transport(fileobj). Returns 0, or -1 with an exception. */
int
ac_number_ensure_free(LoopObject *loop, PyObject *fileobj);

/* The same for a number. */
int
ac_number_ensure_free_int(LoopObject *loop, int fd);

#endif
