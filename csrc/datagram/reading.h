/* Receiving. */
#ifndef AC_READING_H
#define AC_READING_H

#include "datagram/datagram.h"

extern PyMethodDef ac_reading_methods[];

#endif
