/* sock_sendall and sock_sendto. */
#ifndef AC_TRANSMIT_H
#define AC_TRANSMIT_H

#include "sock/operation.h"

extern const ac_operation_kind ac_transmit_sendall, ac_transmit_sendto;

#endif
