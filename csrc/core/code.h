/* What a function of the standard library makes use of. */
#ifndef AC_CODE_H
#define AC_CODE_H

#include "core/python.h"

/* Whether an object is a function of the module whose names these are, and uses no
 * other global or attribute than those on the list, which NULL ends: then what it does
 * is known. -1 with an exception. */
int
ac_code_uses_only(PyObject *function, PyObject *globals, const char *const *known);

/* Whether an object is a function that uses a global or an attribute of this name. -1
 * with an exception. */
int
ac_code_uses(PyObject *function, const char *name);

#endif
