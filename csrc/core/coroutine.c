/* Coroutines written in C: how they are made and driven.
 *
 * A coroutine is CREATED until it is first sent something or closed; RUNNING while
 * its `step` or what it awaits runs; SUSPENDED when that has yielded; CLOSED for good
 * when it has returned, raised or was closed. Messages are those of
 * Objects/genobject.c. */
#include "core/python.h"

#include "core/coroutine.h"

/* ------------------------------------------------------------------ creation -- */

/* cr_origin: the frames that call, innermost first, at most `depth`. */
static PyObject *
origin_of_caller(int depth)
{
    PyObject *found = PyList_New(0);
    PyFrameObject *frame = (PyFrameObject *)Py_XNewRef((PyObject *)PyEval_GetFrame());
    while (found != NULL && frame != NULL && depth-- > 0) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        PyObject *entry = Py_BuildValue("OiO", code->co_filename,
                                        PyFrame_GetLineNumber(frame), code->co_name);
        Py_DECREF(code);
        if (entry == NULL || PyList_Append(found, entry) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(entry);
        Py_SETREF(frame, PyFrame_GetBack(frame));
    }
    Py_XDECREF(frame);
    PyObject *origin = found == NULL ? NULL : PyList_AsTuple(found);
    Py_XDECREF(found);
    return origin;
}

int
ac_coroutine_init(ac_coroutine *self, const ac_coroutine_ops *ops, PyObject *function)
{
    self->ops = ops;
    self->phase = AC_COROUTINE_CREATED;
    self->function = Py_NewRef(function);
    int depth = ac_coroutine_origin_depth();
    if (depth > 0) {
        self->origin = origin_of_caller(depth);
        if (self->origin == NULL) {
            self->phase = AC_COROUTINE_CLOSED;  // nobody gets it: no warning
            return -1;
        }
    }
    return 0;
}

/* Whether it is a generator of a function of types.coroutine. */
static bool
is_iterable_coroutine(PyObject *object)
{
    if (!PyGen_CheckExact(object)) {
        return false;
    }
    PyObject *code = PyObject_GetAttrString(object, "gi_code");
    bool found = code != NULL && PyCode_Check(code)
                 && ((PyCodeObject *)code)->co_flags & CO_ITERABLE_COROUTINE;
    Py_XDECREF(code);
    PyErr_Clear();
    return found;
}

PyObject *
ac_coroutine_awaitable(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type->tp_as_async == NULL || type->tp_as_async->am_await == NULL) {
        if (is_iterable_coroutine(object)) {
            return Py_NewRef(object);
        }
        PyErr_Format(PyExc_TypeError, AC_NOT_AWAITABLE, type->tp_name);
        return NULL;
    }
    return type->tp_as_async->am_await(object);
}

/* ------------------------------------------------------------------- driving -- */

/* It is over; the exception being raised, if any, stays. */
static void
finish(ac_coroutine *self)
{
    self->phase = AC_COROUTINE_CLOSED;
    PyObject *exc = PyErr_Occurred() == NULL ? NULL : ac_err_take();
    self->ops->end((PyObject *)self);
    ac_err_restore_steal(exc);
}

/* An `async def` never raises StopIteration: RuntimeError takes its place. */
static void
replace_stop_iteration(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return;
    }
    PyObject *cause = ac_err_take();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *exc = ac_err_take();
    PyException_SetCause(exc, Py_NewRef(cause));
    PyException_SetContext(exc, cause);
    ac_err_restore_steal(exc);
}

/* Goes on with what the awaited thing gave (consumed; NULL at the start). */
static PySendResult
go_on_steal(ac_coroutine *self, PyObject *value, PyObject **result)
{
    PySendResult status;
    for (;;) {
        *result = NULL;
        status = self->ops->step((PyObject *)self, value, result);
        Py_CLEAR(value);
        if (status == PYGEN_ERROR) {
            replace_stop_iteration();
        }
        if (status != PYGEN_NEXT) {
            break;
        }
        self->awaited = *result;
        *result = NULL;
        status = PyIter_Send(self->awaited, Py_None, result);
        if (status == PYGEN_NEXT) {
            self->phase = AC_COROUTINE_SUSPENDED;
            return status;
        }
        Py_CLEAR(self->awaited);
        if (status == PYGEN_ERROR) {
            break;
        }
        value = *result;
    }
    finish(self);
    return status;
}

/* Refuses what is running or over. Returns 0, or -1 with an exception. */
static int
check_phase(const ac_coroutine *self)
{
    if (self->phase == AC_COROUTINE_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    if (self->phase == AC_COROUTINE_CLOSED) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return -1;
    }
    return 0;
}

PySendResult
ac_coroutine_send(PyObject *op, PyObject *value, PyObject **result)
{
    ac_coroutine *self = (ac_coroutine *)op;
    *result = NULL;
    if (check_phase(self) < 0) {
        return PYGEN_ERROR;
    }
    PyObject *given = NULL;
    if (self->phase == AC_COROUTINE_CREATED) {
        if (value != Py_None) {
            PyErr_SetString(PyExc_TypeError,
                            "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        self->phase = AC_COROUTINE_RUNNING;
    }
    else {
        self->phase = AC_COROUTINE_RUNNING;
        PySendResult status = PyIter_Send(self->awaited, value, &given);
        if (status == PYGEN_NEXT) {
            self->phase = AC_COROUTINE_SUSPENDED;
            *result = given;
            return status;
        }
        Py_CLEAR(self->awaited);
        if (status == PYGEN_ERROR) {
            finish(self);
            return status;
        }
    }
    return go_on_steal(self, given, result);
}

/* Raises StopIteration with a value (consumed), as _PyGen_SetStopIterationValue. */
static void
stop_with_steal(PyObject *value, PyObject **kept)
{
    if (value == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    else {
        ac_err_set_stop_iteration(value, kept);
    }
    Py_DECREF(value);
}

/* What send() and throw() give for the result of a step. */
static PyObject *
yielded_or_stop_steal(PySendResult status, PyObject *result)
{
    if (status == PYGEN_RETURN) {
        stop_with_steal(result, NULL);
        return NULL;
    }
    return result;
}

PyObject *
ac_coroutine_next(PyObject *op)
{
    PyObject *result;
    PySendResult status = ac_coroutine_send(op, Py_None, &result);
    return yielded_or_stop_steal(status, result);
}

/* `await` drives a coroutine by this slot, and takes the value of the exception before
 * anybody sees it. */
PyObject *
ac_coroutine_iternext(PyObject *op)
{
    PyObject *result;
    PySendResult status = ac_coroutine_send(op, Py_None, &result);
    if (status != PYGEN_RETURN) {
        return result;
    }
    if (result == Py_None) {
        Py_DECREF(result);  // no exception needed to say None
    }
    else {
        ac_state *state = PyType_GetModuleState(Py_TYPE(op));
        // kept for the next, unless that may be in another thread
        stop_with_steal(result, AC_FREE_THREADED ? NULL : &state->stop_iteration);
    }
    return NULL;
}

/* ------------------------------------------------------------------- methods -- */

const char ac_coroutine_await_doc[] =
    "__await__($self, /)\n--\n\nReturn an iterator to be used in await expression.";

const char ac_coroutine_send_doc[] =
    "send($self, arg, /)\n--\n\n"
    "Send 'arg' into the coroutine, return what it awaits or raise StopIteration.";

PyObject *
ac_coroutine_send_method(PyObject *op, PyObject *value)
{
    PyObject *result;
    PySendResult status = ac_coroutine_send(op, value, &result);
    return yielded_or_stop_steal(status, result);
}

/* The exception that throw(type, value, traceback) names. NULL with TypeError. */
static PyObject *
exception_of(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *type = args[0];
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *tb = nargs > 2 && args[2] != Py_None ? args[2] : NULL;
    PyObject *exc = NULL;
    if (tb != NULL && !PyTraceBack_Check(tb)) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback object");
        return NULL;
    }
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError,
                            "instance exception may not have a separate value");
            return NULL;
        }
        exc = Py_NewRef(type);
    }
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(type)->tp_name);
        return NULL;
    }
    else if (value != NULL && PyObject_TypeCheck(value, (PyTypeObject *)type)) {
        exc = Py_NewRef(value);
    }
    else if (value != NULL && PyTuple_Check(value)) {
        exc = PyObject_Call(type, value, NULL);
    }
    else {
        exc = value == NULL ? PyObject_CallNoArgs(type)
                            : PyObject_CallOneArg(type, value);
    }
    if (exc != NULL && !PyExceptionInstance_Check(exc)) {
        PyErr_Format(PyExc_TypeError,
                     "calling %R should have returned an instance of BaseException, "
                     "not %R",
                     type, Py_TYPE(exc));
        Py_CLEAR(exc);
    }
    if (exc != NULL && tb != NULL && PyException_SetTraceback(exc, tb) < 0) {
        Py_CLEAR(exc);
    }
    return exc;
}

/* awaited.close(), where it has one. Returns 0, or -1 with an exception. */
static int
close_awaited(PyObject *awaited)
{
    PyObject *method = PyObject_GetAttrString(awaited, "close");
    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    PyObject *result = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The value of the StopIteration being raised, or NULL with the other exception that
 * is. New reference. */
static PyObject *
stop_value(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return NULL;
    }
    PyObject *exc = ac_err_take();
    PyObject *value = Py_NewRef(((PyStopIterationObject *)exc)->value);
    Py_DECREF(exc);
    return value;
}

/* Raises what throw() was given. */
static PySendResult
raise_given(PyObject *const *args, Py_ssize_t nargs)
{
    ac_err_restore_steal(exception_of(args, nargs));
    return PYGEN_ERROR;
}

/* Throws into what is awaited, which judges the arguments. PYGEN_RETURN: it returned
 * *result. */
static PySendResult
throw_into(ac_coroutine *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject **result)
{
    PyObject *awaited = self->awaited;  // nothing else clears it while RUNNING
    if (PyErr_GivenExceptionMatches(args[0], PyExc_GeneratorExit)) {
        return close_awaited(awaited) < 0 ? PYGEN_ERROR : raise_given(args, nargs);
    }
    PyObject *method = PyObject_GetAttrString(awaited, "throw");
    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return PYGEN_ERROR;
        }
        PyErr_Clear();
        return raise_given(args, nargs);
    }
    *result = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    *result = stop_value();
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* throw() into one that is not suspended. */
static void
throw_at_start(ac_coroutine *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *exc = exception_of(args, nargs);
    if (exc == NULL || check_phase(self) < 0) {
        Py_XDECREF(exc);
        return;
    }
    Py_CLEAR(self->awaited);  // the constructor of the exception may have driven it
    finish(self);
    ac_err_restore_steal(exc);
    if (AC_THROW_REPLACES_STOP) {
        replace_stop_iteration();
    }
}

const char ac_coroutine_throw_doc[] = "throw(value)\n"
                                      "throw(type[, value[, traceback]])\n\n"
                                      "Raise the exception in the coroutine.";

PyObject *
ac_coroutine_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    ac_coroutine *self = (ac_coroutine *)op;
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw expected %s, got %zd",
                     nargs < 1 ? "at least 1 argument" : "at most 3 arguments", nargs);
        return NULL;
    }
    if (AC_THROW_WARNS && nargs > 1
        && PyErr_WarnEx(PyExc_DeprecationWarning,
                        "the (type, exc, tb) signature of throw() is deprecated, use "
                        "the single-arg signature instead.",
                        1)
               < 0)
    {
        return NULL;
    }
    if (AC_THROW_LOOKS_FIRST && check_phase(self) < 0) {
        return NULL;
    }
    if (self->phase != AC_COROUTINE_SUSPENDED) {
        throw_at_start(self, args, nargs);
        return NULL;
    }
    self->phase = AC_COROUTINE_RUNNING;
    PyObject *result = NULL;
    PySendResult status = throw_into(self, args, nargs, &result);
    if (status == PYGEN_NEXT) {
        self->phase = AC_COROUTINE_SUSPENDED;
        return result;
    }
    Py_CLEAR(self->awaited);
    if (status == PYGEN_ERROR) {
        finish(self);
        return NULL;
    }
    status = go_on_steal(self, result, &result);
    return yielded_or_stop_steal(status, result);
}

const char ac_coroutine_close_doc[] = "close($self, /)\n--\n\n"
                                      "Raise GeneratorExit in the coroutine.";

static PyObject *
coroutine_end(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ((ac_coroutine *)op)->ops->end(op);
    Py_RETURN_NONE;
}

PyMethodDef ac_coroutine_end_method = {"_end", coroutine_end, METH_NOARGS, NULL};

PyObject *
ac_coroutine_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ac_coroutine *self = (ac_coroutine *)op;
    if (self->phase == AC_COROUTINE_CLOSED) {
        Py_RETURN_NONE;
    }
    if (check_phase(self) < 0) {
        return NULL;
    }
    int rc = 0;
    if (self->phase == AC_COROUTINE_SUSPENDED) {
        self->phase = AC_COROUTINE_RUNNING;
        rc = close_awaited(self->awaited);
        Py_CLEAR(self->awaited);
    }
    finish(self);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
