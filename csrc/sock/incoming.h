/* sock_accept. */
#ifndef AC_INCOMING_H
#define AC_INCOMING_H

#include "sock/operation.h"

extern const ac_operation_kind ac_incoming_accept;

#endif
