#include "core/python.h"

#include "core/mixin.h"

#include <stddef.h>

typedef struct {
    AC_MIXIN_SLOTS(loop)
} MixinObject;

int
ac_mixin_check(ac_state *state)
{
    static const ac_slot_offset layout[] = {
        {"_extra", offsetof(MixinObject, extra)},
        {"_high_water", offsetof(MixinObject, high_water)},
        {"_loop", offsetof(MixinObject, loop)},
        {"_low_water", offsetof(MixinObject, low_water)},
        {"_protocol_paused", offsetof(MixinObject, protocol_paused)},
        {NULL, 0},
    };
    return ac_state_check_layout(state->asyncio_FlowControlMixin, layout,
                                 sizeof(MixinObject));
}

int
ac_mixin_traverse(PyObject *op, visitproc visit, void *arg)
{
    MixinObject *self = (MixinObject *)op;
    Py_VISIT(self->extra);
    Py_VISIT(self->high_water);
    Py_VISIT(self->loop);
    Py_VISIT(self->low_water);
    Py_VISIT(self->protocol_paused);
    return 0;
}

void
ac_mixin_clear(PyObject *op)
{
    MixinObject *self = (MixinObject *)op;
    Py_CLEAR(self->extra);
    Py_CLEAR(self->high_water);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->low_water);
    Py_CLEAR(self->protocol_paused);
}
