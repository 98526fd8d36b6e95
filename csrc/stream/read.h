/* Reading. */
#ifndef AC_READ_H
#define AC_READ_H

#include "stream/stream.h"

/* No longer wants to read. May run Python. */
void
ac_read_stop(StreamObject *self);

/* _read_ready(): receives once and tells the protocol. Returns 0, or -1 with an
 * exception. */
int
ac_read_ready(StreamObject *self);

extern PyMethodDef ac_read_methods[];

#endif
