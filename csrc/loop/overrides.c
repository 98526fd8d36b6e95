#include "core/python.h"

#include "loop/overrides.h"

#include <stddef.h>

/* The names that may be replaced, with their bit; first those of methods that are ours,
 * which a class may replace as well. */
static const struct {
    size_t name; /* offset in ac_state */
    unsigned int bit;
} overridable[] = {
    {offsetof(ac_state, str_call_soon), AC_OVERRIDE_CALL_SOON},
    {offsetof(ac_state, str_call_at), AC_OVERRIDE_CALL_AT},
    {offsetof(ac_state, str_time), AC_OVERRIDE_TIME},
    {offsetof(ac_state, str_create_future), AC_OVERRIDE_CREATE_FUTURE},
    {offsetof(ac_state, str_get_debug), AC_OVERRIDE_GET_DEBUG},
    {offsetof(ac_state, str__run_once), AC_OVERRIDE_RUN_ONCE},
    {offsetof(ac_state, str__connect_sock), AC_OVERRIDE_CONNECT_SOCK},
    {offsetof(ac_state, str__create_connection_transport),
     AC_OVERRIDE_CREATE_CONNECTION_TRANSPORT},
    {offsetof(ac_state, str__ensure_resolved), AC_OVERRIDE_ENSURE_RESOLVED},
    {offsetof(ac_state, str__make_socket_transport), AC_OVERRIDE_MAKE_SOCKET_TRANSPORT},
    {offsetof(ac_state, str_sock_connect), AC_OVERRIDE_SOCK_CONNECT},
};
#define OF_CLASS 6
#define OVERRIDABLE (sizeof(overridable) / sizeof(overridable[0]))

static PyObject *
overridable_name(const ac_state *state, size_t i)
{
    return *(PyObject *const *)((const char *)state + overridable[i].name);
}

int
ac_overrides_refresh(LoopObject *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    unsigned int version = ac_type_version_to_note(type);
    unsigned int found = 0;
    for (size_t i = 0; i < OF_CLASS; i++) {
        PyObject *name = overridable_name(loop->state, i);
        PyObject *own = PyObject_GetAttr((PyObject *)loop->state->Loop, name);
        PyObject *actual =
            own == NULL ? NULL : PyObject_GetAttr((PyObject *)type, name);
        bool same = own == actual;
        Py_XDECREF(own);
        Py_XDECREF(actual);
        if (actual == NULL) {
            return -1;
        }
        found |= same ? 0 : overridable[i].bit;
    }
    AC_STORE(loop->overridden, found | loop->instance_overridden);
    AC_STORE(loop->type_version, version);
    return 0;
}

int
ac_overrides_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    LoopObject *loop = (LoopObject *)self;
    if (PyObject_GenericSetAttr(self, name, value) < 0) {
        return -1;
    }
    for (size_t i = 0; i < OVERRIDABLE; i++) {
        if (PyUnicode_Compare(name, overridable_name(loop->state, i)) == 0) {
            if (value != NULL) {
                loop->instance_overridden |= overridable[i].bit;
            }
            else {
                loop->instance_overridden &= ~overridable[i].bit;
            }
            loop->type_version = 0;  // work it out again
            return ac_overrides_refresh(loop);
        }
    }
    return 0;
}
