/* The constructor of SSLProtocol. */
#ifndef AC_SETUP_H
#define AC_SETUP_H

#include "tls/tls.h"

/* tp_init, with the signature of asyncio.sslproto.SSLProtocol. */
int
ac_setup_init(PyObject *self, PyObject *args, PyObject *kwargs);

#endif
