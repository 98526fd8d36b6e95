/* sock_recv, sock_recv_into, sock_recvfrom, sock_recvfrom_into. */
#ifndef AC_RECEIVE_H
#define AC_RECEIVE_H

#include "sock/operation.h"

extern const ac_operation_kind ac_receive_recv, ac_receive_recv_into,
    ac_receive_recvfrom, ac_receive_recvfrom_into;

#endif
