/* What the kernel has not taken: it waits, or the connection has failed. Everything
 * here may run Python; the caller holds the stream. */
#ifndef AC_REFUSED_H
#define AC_REFUSED_H

#include "stream/stream.h"

/* The kernel has not taken everything: waits for AC_WRITE. A failure drops what is
 * pending. Returns 0, or -1 with an exception. */
int
ac_refused_wait(StreamObject *self);

/* A send failed with a negative errno: ends the connection, as write() of the standard
 * transport. Returns 0, or -1 with an exception. */
int
ac_refused_fail(StreamObject *self, int err);

/* Forgets what is pending and no longer waits for AC_WRITE. */
void
ac_refused_drop(StreamObject *self);

/* _write_ready(): sends more of what was refused. Returns as ac_write_flush. */
int
ac_refused_ready(StreamObject *self);

extern PyMethodDef ac_refused_methods[];

#endif
