/* The states of a connection: from connection_made() to the handshake's end, and
 * connection_lost(). */
#ifndef AC_HANDSHAKE_H
#define AC_HANDSHAKE_H

#include "tls/tls.h"

extern PyMethodDef ac_handshake_methods[];

#endif
