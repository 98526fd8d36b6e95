/* The attributes of the loop. */
#ifndef AC_ATTRIBUTES_H
#define AC_ATTRIBUTES_H

#include "loop/loop.h"

extern PyGetSetDef ac_attributes_getset[];
extern PyMemberDef ac_attributes_members[];

#endif
