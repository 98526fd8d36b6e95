/* The attributes of the loop.
 *
 * The Python class on top (asynccore.Loop) runs BaseEventLoop.__init__, which assigns
 * its private attributes; those that have their home in the struct are descriptors of
 * the C type and win over the instance's dictionary. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/attributes.h"
#include "loop/owner.h"
#include "loop/run.h"
#include "loop/timer.h"

#include <stddef.h>

/* `closure` is the offset of a bool. */
static PyObject *
loop_get_bool(PyObject *self, void *closure)
{
    return PyBool_FromLong(AC_LOAD(*((bool *)((char *)self + (Py_ssize_t)closure))));
}

/* The truth of an assigned value; deleting is refused. -1 with an exception. */
static int
assigned_truth(PyObject *value)
{
    return ac_errors_refuse_delete(value) < 0 ? -1 : PyObject_IsTrue(value);
}

static int
loop_set_bool(PyObject *self, PyObject *value, void *closure)
{
    int truth = assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    AC_STORE(*((bool *)((char *)self + (Py_ssize_t)closure)), truth != 0);
    return 0;
}

/* BaseEventLoop assigns False in __init__ and True in close; opening and closing
 * are ours, so False changes nothing. */
static int
loop_set_closed_attr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = assigned_truth(value);
    if (truth > 0) {
        AC_STORE(((LoopObject *)self)->closed, true);
    }
    return truth < 0 ? -1 : 0;
}

static int
loop_set_debug_attr(PyObject *self, PyObject *value, void *closure)
{
    LoopObject *loop = (LoopObject *)self;
    int rc = loop_set_bool(self, value, closure);
    loop->instrumented = loop->debug || loop->handle_run_patched;
    return rc;
}

static PyObject *
loop_get_thread_id_attr(PyObject *self, void *Py_UNUSED(closure))
{
    LoopObject *loop = (LoopObject *)self;
    if (!AC_LOAD(loop->running)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(AC_LOAD(loop->thread_id));
}

static int
loop_set_thread_id_attr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    LoopObject *loop = (LoopObject *)self;
    if (value == NULL || value == Py_None) {
        if (loop->running) {
            ac_run_track(loop);
        }
        AC_STORE(loop->running, false);
        Py_CLEAR(loop->future_keywords);
        return 0;
    }
    unsigned long id = PyLong_AsUnsignedLong(value);
    if (id == (unsigned long)-1 && PyErr_Occurred()) {
        return -1;
    }
    AC_STORE(loop->thread_id, id);
    AC_STORE(loop->running, true);
    return 0;
}

/* `_transports`: the standard library's, a WeakValueDictionary; whether it is empty is
 * asked for each descriptor that is watched. */
static PyObject *
loop_get_transports_attr(PyObject *self, void *Py_UNUSED(closure))
{
    LoopObject *loop = (LoopObject *)self;
    if (loop->transports == NULL) {
        PyErr_SetObject(PyExc_AttributeError, loop->state->str__transports);
        return NULL;
    }
    return Py_NewRef(loop->transports);
}

static int
loop_set_transports_attr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    LoopObject *loop = (LoopObject *)self;
    PyObject *data = NULL;
    if (value != NULL) {
        data = PyObject_GetAttr(value, loop->state->str_data);
        if (data == NULL) {
            PyErr_Clear();  // something else: the method that knows it is called
        }
        else if (!PyDict_CheckExact(data)) {
            Py_CLEAR(data);
        }
    }
    Py_XSETREF(loop->transports_data, data);
    Py_XSETREF(loop->transports, Py_XNewRef(value));
    return 0;
}

/* Appends handles of the ring to a list. Returns 0, or -1 with MemoryError. */
static int
append_ready(PyObject *list, const ac_ring *ready, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        if (PyList_Append(list, ac_ring_at(ready, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* `_ready`: the handles that wait, oldest first; a copy. As in the standard's queue the
 * due timers of the turn that runs stand behind the rest of its snapshot. */
static PyObject *
loop_get_ready_attr(PyObject *self, void *Py_UNUSED(closure))
{
    // first the list: making it may run a collection, and that anything
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    LoopObject *loop = (LoopObject *)self;
    const ac_ring *ready = &loop->ready;
    AC_LOCK(loop->mutex);
    size_t rest = loop->snapshot < ready->len ? loop->snapshot : ready->len;
    int rc = append_ready(list, ready, 0, rest);
    // without a GIL no other thread may look at the due timers
    size_t due_len = ac_owner_is_another(loop) ? 0 : loop->due_len;
    for (size_t i = loop->due_pos; rc == 0 && i < due_len; i++) {
        rc = PyList_Append(list, loop->due[i]);
    }
    if (rc == 0) {
        rc = append_ready(list, ready, rest, ready->len);
    }
    AC_UNLOCK(loop->mutex);
    if (rc < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* `_scheduled`: the timers, earliest first, which is a heap as well; a copy. */
static PyObject *
loop_get_scheduled_attr(PyObject *self, void *Py_UNUSED(closure))
{
    LoopObject *loop = (LoopObject *)self;
    if (ac_owner_enter_or_raise(loop) < 0) {
        return NULL;
    }
    PyObject *list = ac_timer_list(loop);
    ac_owner_leave(loop);
    return list;
}

/* BaseEventLoop.__init__ assigns empty containers, which are not needed. */
static int
loop_ignore_attr(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    return assigned_truth(value) < 0 ? -1 : 0;
}

#define FLAG(name, member, set, doc)                                        \
    {                                                                       \
        name, loop_get_bool, set, doc, (void *)offsetof(LoopObject, member) \
    }

PyGetSetDef ac_attributes_getset[] = {
    FLAG("_closed", closed, loop_set_closed_attr, NULL),
    FLAG("_stopping", stopping, loop_set_bool, NULL),
    FLAG("_debug", debug, loop_set_debug_attr, NULL),
    {"_thread_id", loop_get_thread_id_attr, loop_set_thread_id_attr, NULL, NULL},
    {"_transports", loop_get_transports_attr, loop_set_transports_attr, NULL, NULL},
    {"_ready", loop_get_ready_attr, loop_ignore_attr,
     "The handles that wait to be run, oldest first: a copy.", NULL},
    {"_scheduled", loop_get_scheduled_attr, loop_ignore_attr,
     "The timers that wait for their time, earliest first: a copy.", NULL},
    FLAG("cork", cork, loop_set_bool,
         "True (default): the writes that one callback makes to a stream leave "
         "together when it returns. False: each is sent at once."),
    FLAG("cork_turn", cork_turn, loop_set_bool,
         "False (default). True: what the callbacks of a turn write leaves when all of "
         "them have run."),
    FLAG("c_streams", c_streams, loop_set_bool,
         "True (default): the readers and writers of connections to come run in C. "
         "False: they are those of asyncio."),
    {NULL, NULL, NULL, NULL, NULL},
};
#undef FLAG

PyMemberDef ac_attributes_members[] = {
    {"slow_callback_duration", Py_T_DOUBLE,
     offsetof(LoopObject, slow_callback_duration), 0,
     "Debug mode warns of callbacks that take longer, in seconds."},
    {"_clock_resolution", Py_T_DOUBLE, offsetof(LoopObject, clock_resolution), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
