/* Futures: made by create_future(), settled through their own methods, whatever class
 * asyncio.futures.Future is. */
#include "core/python.h"

#include "core/dictwatch.h"
#include "loop/future.h"
#include "loop/overrides.h"
#include "loop/owner.h"

/* The dict of keywords is kept during a run: 500 instructions less than to make one. */
PyObject *
ac_future_call(LoopObject *loop, PyObject *type, PyObject *args)
{
    // held: what is called may end the run
    PyObject *keywords =
        ac_owner_is_me(loop) ? Py_XNewRef(loop->future_keywords) : NULL;
    if (keywords == NULL) {
        keywords = Py_BuildValue("{OO}", loop->state->str_loop, loop);
        if (keywords == NULL) {
            return NULL;
        }
        if (loop->running && ac_owner_is_me(loop)) {
            // a collection may have come here before us
            Py_XSETREF(loop->future_keywords, Py_NewRef(keywords));
        }
    }
    PyObject *future = PyObject_Call(type, args, keywords);
    Py_DECREF(keywords);
    return future;
}

/* Where a Future that was just made keeps its loop: the offset, if everything else of
 * it is zero, or -1. */
static Py_ssize_t
find_loop(PyObject *future, LoopObject *loop)
{
    Py_ssize_t found = -1;
    for (Py_ssize_t i = sizeof(PyObject); i < Py_TYPE(future)->tp_basicsize;
         i += sizeof(void *))
    {
        const void *word = *(void **)((char *)future + i);
        if (word == loop && found < 0) {
            found = i;
        }
        else if (word != NULL) {
            return -1;
        }
    }
    return found;
}

/* Future(loop=loop) of the class in C, where it has been seen to do no more than this:
 * 715 instructions less. NULL with an exception. */
static PyObject *
make_known(LoopObject *loop, Py_ssize_t offset)
{
    PyTypeObject *type = (PyTypeObject *)loop->state->fast_Future;
    PyObject *future = type->tp_alloc(type, 0);
    if (future != NULL) {
        *(PyObject **)((char *)future + offset) = Py_NewRef(loop);
    }
    return future;
}

/* The same by a call, which is looked at if nobody has before. */
static PyObject *
make_by_call(LoopObject *loop, PyObject *type, bool usual)
{
    ac_state *state = loop->state;
    PyObject *future = ac_future_call(loop, type, state->empty_tuple);
    if (future != NULL && usual && AC_LOAD(state->future_loop) == 0) {
        AC_STORE(state->future_loop, find_loop(future, loop));
    }
    return future;
}

/* Class(loop=loop). It asks the loop whether it is in debug mode. */
static PyObject *
make(LoopObject *loop, PyObject *type)
{
    ac_state *state = loop->state;
    bool usual = type == state->fast_Future && !loop->debug
                 && !(loop->overridden & AC_OVERRIDE_GET_DEBUG);
    Py_ssize_t offset = AC_LOAD(state->future_loop);
    return usual && offset > 0 ? make_known(loop, offset)
                               : make_by_call(loop, type, usual);
}

/* futures.Future, looked up. New reference, NULL with an exception. */
static PyObject *
look_up_class(ac_state *state)
{
    uint64_t changes = ac_dictwatch_modules(state);
    PyObject *type = ac_dictwatch_get(state->futures_dict, state->str_Future);
    if (type == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_AttributeError, state->str_Future);
    }
    if (type != NULL && type == state->fast_Future) {
        AC_STORE(state->future_unreplaced, changes);
    }
    return type;
}

/* futures.Future(loop=loop), as BaseEventLoop.create_future. */
static PyObject *
future_make(LoopObject *loop)
{
    ac_state *state = loop->state;
    if (ac_overrides_check(loop) < 0) {
        return NULL;
    }
    uint64_t changes = ac_dictwatch_modules(state);
    if (changes != 0 && changes == AC_LOAD(state->future_unreplaced)) {
        return make(loop, state->fast_Future);
    }
    PyObject *type = look_up_class(state);
    PyObject *future = type == NULL ? NULL : make(loop, type);
    Py_XDECREF(type);
    return future;
}

PyObject *
ac_future_new(LoopObject *loop)
{
    if (ac_overrides_check(loop) < 0) {
        return NULL;
    }
    if (loop->overridden & AC_OVERRIDE_CREATE_FUTURE) {
        return PyObject_CallMethodNoArgs((PyObject *)loop,
                                         loop->state->str_create_future);
    }
    return future_make(loop);
}

/* Whether it is of the class in C, an immutable type: its methods are not looked up,
 * 170 instructions less each. */
static inline bool
is_fast(ac_state *state, PyObject *future)
{
    return (PyObject *)Py_TYPE(future) == state->fast_Future;
}

int
ac_future_is_done(ac_state *state, PyObject *future)
{
    PyObject *done = is_fast(state, future)
                         ? PyObject_Vectorcall(state->future_done, &future, 1, NULL)
                         : PyObject_CallMethodNoArgs(future, state->str_done);
    if (done == NULL) {
        return -1;
    }
    int is_done = PyObject_IsTrue(done);
    Py_DECREF(done);
    return is_done;
}

int
ac_future_set_result(ac_state *state, PyObject *future, PyObject *value)
{
    PyObject *args[] = {future, value};
    PyObject *result =
        is_fast(state, future)
            ? PyObject_Vectorcall(state->future_set_result, args, 2, NULL)
            : PyObject_VectorcallMethod(state->str_set_result, args, 2, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
ac_future_wake(ac_state *state, PyObject *future)
{
    if (is_fast(state, future)) {
        if (ac_future_set_result(state, future, Py_None) == 0) {
            return 0;
        }
        // it is done: one call less where it is not
        PyObject *exc = ac_err_take();
        PyObject *cancelled = PyObject_CallMethodNoArgs(future, state->str_cancelled);
        if (cancelled == Py_True) {
            Py_DECREF(exc);
            Py_DECREF(cancelled);
            return 0;
        }
        Py_XDECREF(cancelled);
        PyErr_Clear();
        ac_err_restore_steal(exc);
        return -1;
    }
    PyObject *cancelled = PyObject_CallMethodNoArgs(future, state->str_cancelled);
    int over = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    return over == 0 ? ac_future_set_result(state, future, Py_None) : over < 0 ? -1 : 0;
}

int
ac_future_set_raised(ac_state *state, PyObject *future)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    PyObject *result = PyObject_CallMethodOneArg(future, state->str_set_exception, exc);
    Py_DECREF(exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyDoc_STRVAR(loop_create_future_doc, "create_future($self, /)\n--\n\n"
                                     "Create a Future object attached to the loop.");

static PyObject *
loop_create_future(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return future_make((LoopObject *)self);
}

PyMethodDef ac_future_methods[] = {
    {"create_future", loop_create_future, METH_NOARGS, loop_create_future_doc},
    {NULL, NULL, 0, NULL},
};
