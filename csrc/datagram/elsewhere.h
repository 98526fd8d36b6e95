/* Calls of other threads than the one that runs the loop. Where there is a GIL nothing
 * of it is there. */
#ifndef AC_ELSEWHERE_H
#define AC_ELSEWHERE_H

#include "datagram/datagram.h"

#if AC_FREE_THREADED

/* Methods of DatagramTransport. */
extern PyMethodDef ac_elsewhere_methods[];

/* Leaves sendto(data, address) to the thread that runs the loop, with a copy of the
 * bytes, if that is another one. Returns 1, 0 if the caller is to send, or -1 with an
 * exception. */
int
ac_elsewhere_send(DatagramObject *self, PyObject *data, PyObject *address);

/* Refuses what would change the transport while another thread runs its loop. Returns
 * 0, or -1 with RuntimeError. */
int
ac_elsewhere_check(DatagramObject *self);

#else
#define ac_elsewhere_send(self, data, address) 0
#define ac_elsewhere_check(self) 0
#endif

#endif
