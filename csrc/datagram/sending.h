/* Sending. */
#ifndef AC_SENDING_H
#define AC_SENDING_H

#include "datagram/datagram.h"

extern PyMethodDef ac_sending_methods[];

#endif
