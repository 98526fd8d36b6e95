/* Futures: made by create_future(), settled through their own methods, whatever class
 * asyncio.futures.Future is. */
#include "core/python.h"

#include "loop/future.h"

/* type(loop=loop) with a dict of keywords that is kept for it, 300 instructions less
 * than to make one. It holds the loop during the call only: no cycle. */
static PyObject *
call_with_kept_keywords(LoopObject *loop, PyObject *type)
{
    ac_state *state = loop->state;
    PyObject *keywords = loop->future_keywords;
    if (keywords == NULL) {
        keywords = loop->future_keywords = PyDict_New();
    }
    if (keywords == NULL
        || PyDict_SetItem(keywords, state->str_loop, (PyObject *)loop) < 0) {
        return NULL;
    }
    loop->future_keywords_busy = true;  // the call may run Python that makes another
    PyObject *future = PyObject_Call(type, state->empty_tuple, keywords);
    loop->future_keywords_busy = false;
    if (PyDict_SetItem(keywords, state->str_loop, Py_None) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

/* futures.Future(loop=loop), as BaseEventLoop.create_future. */
static PyObject *
future_make(LoopObject *loop)
{
    ac_state *state = loop->state;
    PyObject *type = PyObject_GetAttr(state->futures, state->str_Future);
    if (type == NULL) {
        return NULL;
    }
    PyObject *future;
    if (!loop->future_keywords_busy) {
        future = call_with_kept_keywords(loop, type);
    }
    else {
        PyObject *args[] = {NULL, (PyObject *)loop};
        future = PyObject_Vectorcall(type, args + 1, PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     state->names_loop);
    }
    Py_DECREF(type);
    return future;
}

PyObject *
ac_future_new(LoopObject *loop)
{
    if (loop->overridden & AC_OVERRIDE_CREATE_FUTURE) {
        return PyObject_CallMethodNoArgs((PyObject *)loop,
                                         loop->state->str_create_future);
    }
    return future_make(loop);
}

int
ac_future_is_done(ac_state *state, PyObject *future)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, state->str_done);
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
    PyObject *result = PyObject_CallMethodOneArg(future, state->str_set_result, value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
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
