/* sock_connect. */
#ifndef AC_CONNECT_H
#define AC_CONNECT_H

#include "sock/operation.h"

extern const ac_operation_kind ac_connect;

#endif
