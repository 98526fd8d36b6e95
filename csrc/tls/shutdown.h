/* The shutdown: from the end of the stream, or close(), to the transport's. */
#ifndef AC_SHUTDOWN_H
#define AC_SHUTDOWN_H

#include "tls/tls.h"

extern PyMethodDef ac_shutdown_methods[];

#endif
