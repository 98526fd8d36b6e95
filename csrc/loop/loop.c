/* LoopObject: creation, what debug mode checks, open objects, corked streams, closing.
 */
#include "core/python.h"

#include "loop/attributes.h"
#include "loop/clock.h"
#include "loop/flood.h"
#include "loop/freelist.h"
#include "loop/future.h"
#include "loop/handle.h"
#include "loop/loop.h"
#include "loop/overrides.h"
#include "loop/owner.h"
#include "loop/poller.h"
#include "loop/ready.h"
#include "loop/run.h"
#include "loop/signals.h"
#include "loop/task.h"
#include "loop/timer.h"

#include <stddef.h>

/* ------------------------------------------------------------------ checks -- */

int
ac_loop_raise_closed(void)
{
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

int
ac_loop_check_call_slow(LoopObject *loop, PyObject *callback, PyObject *method)
{
    if (ac_loop_check_closed(loop) < 0) {
        return -1;
    }
    ac_state *state = loop->state;
    PyObject *self = (PyObject *)loop;
    PyObject *result;
    if (method != state->str_call_soon_threadsafe) {
        result = PyObject_CallMethodNoArgs(self, state->str__check_thread);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    result = PyObject_CallMethodObjArgs(self, state->str__check_callback, callback,
                                        method, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyDoc_STRVAR(loop__check_closed_doc, "_check_closed($self, /)\n--\n\n"
                                     "Raise RuntimeError if the loop is closed.");

static PyObject *
loop__check_closed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (ac_loop_check_closed((LoopObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_is_closed_doc, "is_closed($self, /)\n--\n\n"
                                 "True if the event loop was closed.");

static PyObject *
loop_is_closed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(AC_LOAD(((LoopObject *)self)->closed));
}

PyDoc_STRVAR(loop_is_running_doc, "is_running($self, /)\n--\n\n"
                                  "True if the event loop is running.");

static PyObject *
loop_is_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(AC_LOAD(((LoopObject *)self)->running));
}

PyDoc_STRVAR(loop_get_debug_doc, "get_debug($self, /)\n--\n\n"
                                 "True in debug mode.");

static PyObject *
loop_get_debug(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((LoopObject *)self)->debug);
}

/* ------------------------------------------------------------ open objects -- */

void
ac_loop_open_add(LoopObject *loop, ac_open *node)
{
    node->prev = loop->open_head.prev;
    node->next = &loop->open_head;
    node->prev->next = node;
    node->next->prev = node;
}

void
ac_loop_open_remove(ac_open *node)
{
    if (node->next == NULL) {
        return;
    }
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = NULL;
}

void
ac_loop_hold(ac_open *node)
{
    if (!node->held) {
        node->held = true;
        Py_INCREF(node->object);
    }
}

void
ac_loop_release(ac_open *node)
{
    if (node->held) {
        node->held = false;
        Py_DECREF(node->object);
    }
}

/* ------------------------------------------------------------------ cork -- */

void
ac_loop_flush_later(LoopObject *loop, ac_flush *node)
{
    if (node->queued) {
        return;
    }
    node->queued = true;
    node->next = NULL;
    Py_INCREF(node->object);
    if (loop->flush_head == NULL) {
        loop->flush_head = node;
    }
    else {
        loop->flush_tail->next = node;
    }
    loop->flush_tail = node;
}

int
ac_loop_flush_after(LoopObject *loop, int rc)
{
    if (rc == 0) {
        return ac_loop_flush(loop);
    }
    PyObject *exc = ac_err_take();
    if (ac_loop_flush(loop) < 0) {
        PyErr_Clear();
    }
    ac_err_restore_steal(exc);
    return -1;
}

int
ac_loop_flush_queued(LoopObject *loop)
{
    int rc = 0;
    while (loop->flush_head != NULL) {
        ac_flush *node = loop->flush_head;
        loop->flush_head = node->next;
        node->next = NULL;
        node->queued = false;
        PyObject *object = node->object;  // ours now
        if (rc == 0) {
            rc = node->flush(node);
        }
        else {
            // the rest leaves too; what the first one raised is kept
            PyObject *exc = ac_err_take();
            if (node->flush(node) < 0) {
                PyErr_Clear();
            }
            ac_err_restore_steal(exc);
        }
        Py_DECREF(object);
    }
    return rc;
}

char *
ac_loop_read_buffer(LoopObject *loop)
{
    if (loop->read_buffer == NULL) {
        loop->read_buffer = PyMem_RawMalloc(AC_READ_BUFFER);
        if (loop->read_buffer == NULL) {
            PyErr_NoMemory();
        }
    }
    return loop->read_buffer;
}

/* ------------------------------------------------------------------ closing -- */

void
ac_loop_trim_freelists(LoopObject *loop, unsigned int kept)
{
    ac_freelist_trim(&loop->handles, kept);
    ac_freelist_trim(&loop->timer_handles, kept);
    ac_freelist_trim(&loop->threadsafe_handles, kept);
    ac_freelist_trim(&loop->fd_handles, kept);
    ac_freelist_trim(&loop->operations, kept);
    ac_freelist_trim(&loop->reads, kept);
    ac_freelist_trim(&loop->drains, kept);
}

/* Ends everything that libuv or the kernel knows of. Calls no protocol; dropping
 * handles may run finalizers. Returns false if another thread runs the loop. */
static bool
loop_shut(LoopObject *loop)
{
    if (!ac_owner_enter(loop)) {
        return false;
    }
    AC_LOCK(loop->mutex);  // who has not queued yet is refused
    AC_STORE(loop->closed, true);
    AC_UNLOCK(loop->mutex);
    while (loop->open_head.next != NULL && loop->open_head.next != &loop->open_head) {
        ac_open *node = loop->open_head.next;
        PyObject *object = Py_NewRef(node->object);
        ac_loop_open_remove(node);
        node->on_loop_close(node);
        ac_loop_release(node);
        ac_owner_drop_steal(loop, object);
    }
    ac_signals_close(loop);
    ac_poller_close(loop);
    ac_run_clear(loop);
    ac_timer_clear(loop);
    ac_loop_trim_freelists(loop, 0);
    ac_buf_free(loop->spare_buf);
    loop->spare_buf = NULL;
    Py_CLEAR(loop->spare_context);
    PyMem_RawFree(loop->read_buffer);
    loop->read_buffer = NULL;
    ac_owner_leave(loop);  // until here, since others may close it as well
    return true;
}

PyDoc_STRVAR(loop__shut_doc,
             "_shut($self, /)\n--\n\n"
             "Give back what the loop holds of libuv and of the system; open\n"
             "transports stay unclosed. The last part of close().");

static PyObject *
loop__shut(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    LoopObject *loop = (LoopObject *)self;
    if (AC_LOAD(loop->running) || loop->polling || !loop_shut(loop)) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot close a running event loop");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ----------------------------------------------------------- life and death -- */

/* The freelists, each with the type of what is in it. */
static const struct {
    size_t list; /* offset in LoopObject */
    size_t type; /* offset in ac_state */
} freelists[] = {
    {offsetof(LoopObject, handles), offsetof(ac_state, Handle)},
    {offsetof(LoopObject, timer_handles), offsetof(ac_state, TimerHandle)},
    {offsetof(LoopObject, threadsafe_handles), offsetof(ac_state, ThreadSafeHandle)},
    {offsetof(LoopObject, fd_handles), offsetof(ac_state, FdHandles)},
    {offsetof(LoopObject, operations), offsetof(ac_state, Operation)},
    {offsetof(LoopObject, reads), offsetof(ac_state, ReaderCoroutine)},
    {offsetof(LoopObject, drains), offsetof(ac_state, WriterCoroutine)},
};
#define FREELISTS (sizeof(freelists) / sizeof(freelists[0]))

static ac_freelist *
freelist_at(LoopObject *loop, size_t i)
{
    return (ac_freelist *)((char *)loop + freelists[i].list);
}

static PyObject *
loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &ac_module_def);
    if (module == NULL) {
        return NULL;
    }
    LoopObject *loop = (LoopObject *)type->tp_alloc(type, 0);
    if (loop == NULL) {
        return NULL;
    }
    loop->state = ac_state_of(module);
    loop->module = Py_NewRef(module);
    for (size_t i = 0; i < FREELISTS; i++) {
        PyTypeObject *kept =
            *(PyTypeObject **)((char *)loop->state + freelists[i].type);
        freelist_at(loop, i)->type = (PyTypeObject *)Py_XNewRef(kept);
    }
    loop->closed = true;  // until __init__
    loop->thread_id = ac_thread_id();
    loop->cork = true;
    loop->c_streams = true;
    loop->slow_callback_duration = 0.1;
    loop->clock_seen = -INFINITY;
    loop->open_head.prev = loop->open_head.next = &loop->open_head;
    loop->forks = loop->state->forks;
    return (PyObject *)loop;
}

/* _core.Loop.__init__(): opens the loop. */
static int
loop_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    LoopObject *loop = (LoopObject *)self;
    if (!PyArg_ParseTuple(args, ":Loop")
        || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "Loop() takes no keyword arguments");
        }
        return -1;
    }
    if (loop->poller != NULL) {
        return 0;  // __init__ called again
    }
    if ((loop->timers == NULL && ac_timer_init(loop) < 0) || ac_poller_open(loop) < 0) {
        return -1;
    }
    loop->forks = loop->state->forks;
    AC_STORE(loop->closed, false);
    return ac_overrides_refresh(loop);
}

static int
loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    LoopObject *loop = (LoopObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->module);
    for (size_t i = 0; i < FREELISTS; i++) {
        Py_VISIT(freelist_at(loop, i)->type);
    }
    for (size_t i = 0; i < loop->ready.len; i++) {
        Py_VISIT((PyObject *)ac_ring_at(&loop->ready, i));
    }
    for (size_t i = loop->due_pos; i < loop->due_len; i++) {
        Py_VISIT(loop->due[i]);
    }
    for (ac_open *node = loop->open_head.next; node != NULL && node != &loop->open_head;
         node = node->next)
    {
        if (node->held) {
            Py_VISIT(node->object);
        }
    }
    for (ac_flush *node = loop->flush_head; node != NULL; node = node->next) {
        Py_VISIT(node->object);
    }
    Py_VISIT(loop->spare_context);
    Py_VISIT(loop->future_keywords);
    Py_VISIT(loop->transports);
    Py_VISIT(loop->transports_data);
    return ac_timer_traverse(loop, visit, arg);
}

static int
loop_clear(PyObject *self)
{
    LoopObject *loop = (LoopObject *)self;
    (void)loop_shut(loop);
    while (loop->flush_head != NULL) {  // never sent: no callback runs any more
        ac_flush *node = loop->flush_head;
        loop->flush_head = node->next;
        node->queued = false;
        Py_DECREF(node->object);
    }
    Py_CLEAR(loop->future_keywords);
    Py_CLEAR(loop->transports);
    Py_CLEAR(loop->transports_data);
    for (size_t i = 0; i < FREELISTS; i++) {
        Py_CLEAR(freelist_at(loop, i)->type);
    }
    return 0;
}

static void
loop_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    LoopObject *loop = (LoopObject *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;  // resurrected
    }
    PyObject_GC_UnTrack(self);
    (void)loop_clear(self);
    ac_timer_free(loop);
    ac_ring_free(&loop->ready);
    PyMem_Free(loop->events);
    PyMem_Free(loop->due);
    ac_flood_free(loop);
    PyObject *module = loop->module;
    type->tp_free(self);
    Py_DECREF(module);
    Py_DECREF(type);
}

/* --------------------------------------------------------------- the type -- */

static PyMethodDef loop_methods[] = {
    {"is_closed", loop_is_closed, METH_NOARGS, loop_is_closed_doc},
    {"is_running", loop_is_running, METH_NOARGS, loop_is_running_doc},
    {"get_debug", loop_get_debug, METH_NOARGS, loop_get_debug_doc},
    {"_check_closed", loop__check_closed, METH_NOARGS, loop__check_closed_doc},
    {"_shut", loop__shut, METH_NOARGS, loop__shut_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, "Loop()\n--\n\nThe core of asynccore.Loop, on libuv."},
    {Py_tp_new, loop_new},
    {Py_tp_init, loop_init},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_setattro, ac_overrides_setattro},
    {Py_tp_methods, loop_methods},
    {Py_tp_members, ac_attributes_members},
    {Py_tp_getset, ac_attributes_getset},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "asynccore._core.Loop",
    .basicsize = sizeof(LoopObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = loop_slots,
};

void
ac_loop_seal(ac_state *state)
{
    state->Loop->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    PyType_Modified(state->Loop);
}

int
ac_loop_register(PyObject *module, ac_state *state)
{
    state->Loop = ac_state_add_type(module, &loop_spec, NULL);
    if (state->Loop == NULL) {
        return -1;
    }
    PyMethodDef *tables[] = {
        ac_clock_methods,   ac_ready_methods,  ac_timer_methods,      ac_run_methods,
        ac_signals_methods, ac_future_methods, ac_task_methods(state)};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (ac_state_add_methods(state->Loop, tables[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
