/* The kinds of reads: what each tries. */
#ifndef AC_ATTEMPT_H
#define AC_ATTEMPT_H

#include "reader/reads.h"

extern const ac_reading_kind ac_attempt_some; /* read(n) */
extern const ac_reading_kind ac_attempt_all;  /* read(-1) */
extern const ac_reading_kind ac_attempt_exactly;
extern const ac_reading_kind ac_attempt_until;
extern const ac_reading_kind ac_attempt_line;
extern const ac_reading_kind ac_attempt_next; /* `async for` */

/* b''.join(blocks). Returns as an attempt. */
int
ac_attempt_join(PyObject *blocks, PyObject **result);

#endif
