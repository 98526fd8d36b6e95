/* Incoming: from the transport below to the protocol above. */
#ifndef AC_DECRYPT_H
#define AC_DECRYPT_H

#include "tls/tls.h"

extern const ac_sink_ops ac_decrypt_sink;
extern PyMethodDef ac_decrypt_methods[];

#endif
