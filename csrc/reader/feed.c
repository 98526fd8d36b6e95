/* The methods of StreamReader that are no coroutines, step by step as in
 * asyncio.streams. */
#include "core/python.h"

#include "core/method.h"
#include "loop/future.h"
#include "reader/feed.h"

/* ------------------------------------------------------------------ the waiter -- */

/* _wakeup_waiter(); with an exception, that of set_exception(). */
static int
wake(ReaderState *self, PyObject *exc)
{
    PyObject *waiter = self->waiter;
    if (waiter == Py_None) {
        return 0;
    }
    self->waiter = Py_NewRef(Py_None);  // `waiter` is ours now
    int rc;
    if (exc == NULL) {
        rc = ac_future_wake(self->state, waiter);
    }
    else {
        PyObject *cancelled =
            PyObject_CallMethodNoArgs(waiter, self->state->str_cancelled);
        rc = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
        Py_XDECREF(cancelled);
        if (rc == 0) {
            PyObject *result =
                PyObject_CallMethodOneArg(waiter, self->state->str_set_exception, exc);
            rc = result == NULL ? -1 : 0;
            Py_XDECREF(result);
        }
    }
    Py_DECREF(waiter);
    return rc < 0 ? -1 : 0;
}

/* ---------------------------------------------------------------- the transport -- */

/* transport.<name>() */
static int
call_transport(ReaderState *self, PyObject *name)
{
    PyObject *result = ac_method_call(self->transport, name, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void
set_paused(ReaderState *self, PyObject *paused)
{
    Py_XSETREF(self->paused, Py_NewRef(paused));
}

int
ac_feed_resume_now(ReaderState *self)
{
    set_paused(self, Py_False);
    return call_transport(self, self->state->str_resume_reading);
}

int
ac_feed_resume(ReaderState *self)
{
    if (self->paused != Py_True || self->len > (size_t)self->limit_value) {
        return 0;
    }
    return ac_feed_resume_now(self);
}

/* Pauses the transport, if there is more than twice the limit. Whom wake() has called
 * may have taken the bytes, or asked for the buffer. */
static int
pause_transport(ReaderState *self)
{
    size_t len = self->len;
    if (self->shown != NULL && PyByteArray_CheckExact(self->shown)) {
        len = (size_t)PyByteArray_GET_SIZE(self->shown);
    }
    if (len <= 2 * (size_t)self->limit_value || self->transport == Py_None
        || self->paused == Py_True)
    {
        return 0;
    }
    if (call_transport(self, self->state->str_pause_reading) == 0) {
        set_paused(self, Py_True);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();  // a transport that cannot pause is not asked again, as by asyncio
    Py_XSETREF(self->transport, Py_NewRef(Py_None));
    return 0;
}

int
ac_feed_data(ReaderState *self, const char *data, size_t len, PyObject *whole)
{
    if (ac_reader_append(self, data, len, whole) < 0 || wake(self, NULL) < 0) {
        return -1;
    }
    return pause_transport(self);
}

/* --------------------------------------------------------------------- methods -- */

#define LEFT_TO_STANDARD 1 /* the standard's method is to be called */

/* None, or NULL after a failure. */
static PyObject *
none_or_null(int rc)
{
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(reader_exception_doc, "exception($self, /)\n--\n\n"
                                   "What set_exception() was given, or None.");

static PyObject *
reader_exception(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *exception = NULL;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = ac_reader_usual_borrowed(op);
    if (self != NULL) {
        exception = Py_NewRef(self->exception);
    }
    AC_END_OBJECT();
    return exception == NULL ? ac_reader_call_standard(op, "exception", NULL, 0, NULL)
                             : exception;
}

PyDoc_STRVAR(reader_set_exception_doc, "set_exception($self, /, exc)\n--\n\n"
                                       "Make whoever reads fail with an exception.");

static PyObject *
reader_set_exception(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    int rc = LEFT_TO_STANDARD;
    AC_BEGIN_OBJECT(op);
    ReaderState *self =
        nargs != 1 || kwnames != NULL ? NULL : ac_reader_usual_borrowed(op);
    if (self != NULL) {
        Py_INCREF(self);
        Py_XSETREF(self->exception, Py_NewRef(args[0]));
        rc = wake(self, args[0]);
        Py_DECREF(self);
    }
    AC_END_OBJECT();
    return rc > 0 ? ac_reader_call_standard(op, "set_exception", args, nargs, kwnames)
                  : none_or_null(rc);
}

PyDoc_STRVAR(reader_set_transport_doc, "set_transport($self, /, transport)\n--\n\n"
                                       "Take up the transport, once.");

static PyObject *
reader_set_transport(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    int rc = LEFT_TO_STANDARD;
    AC_BEGIN_OBJECT(op);
    ReaderState *self =
        nargs != 1 || kwnames != NULL ? NULL : ac_reader_usual_borrowed(op);
    if (self != NULL && self->transport == Py_None) {  // else it asserts
        Py_XSETREF(self->transport, Py_NewRef(args[0]));
        rc = 0;
    }
    AC_END_OBJECT();
    return rc > 0 ? ac_reader_call_standard(op, "set_transport", args, nargs, kwnames)
                  : none_or_null(rc);
}

PyDoc_STRVAR(reader_feed_eof_doc, "feed_eof($self, /)\n--\n\n"
                                  "Nothing will come any more.");

static PyObject *
reader_feed_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    int rc = LEFT_TO_STANDARD;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = ac_reader_usual_borrowed(op);
    if (self != NULL) {
        Py_INCREF(self);
        Py_XSETREF(self->eof, Py_NewRef(Py_True));
        rc = wake(self, NULL);
        Py_DECREF(self);
    }
    AC_END_OBJECT();
    return rc > 0 ? ac_reader_call_standard(op, "feed_eof", NULL, 0, NULL)
                  : none_or_null(rc);
}

PyDoc_STRVAR(reader_at_eof_doc, "at_eof($self, /)\n--\n\n"
                                "True if the buffer is empty and nothing will come.");

static PyObject *
reader_at_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *at_eof = NULL;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = ac_reader_usual_borrowed(op);
    if (self != NULL) {
        at_eof = PyBool_FromLong(self->eof == Py_True && self->len == 0);
    }
    AC_END_OBJECT();
    return at_eof == NULL ? ac_reader_call_standard(op, "at_eof", NULL, 0, NULL)
                          : at_eof;
}

PyDoc_STRVAR(reader_feed_data_doc, "feed_data($self, /, data)\n--\n\n"
                                   "Add bytes to the buffer and wake the reader.");

static PyObject *
reader_feed_data(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    int rc = LEFT_TO_STANDARD;
    AC_BEGIN_OBJECT(op);
    ReaderState *self = NULL;
    if (nargs == 1 && kwnames == NULL && PyBytes_CheckExact(args[0])) {
        self = ac_reader_usual_borrowed(op);
    }
    if (self != NULL && self->eof != Py_True) {  // else it asserts
        PyObject *data = args[0];
        size_t len = (size_t)PyBytes_GET_SIZE(data);
        Py_INCREF(self);
        rc = len == 0 ? 0 : ac_feed_data(self, PyBytes_AS_STRING(data), len, data);
        Py_DECREF(self);
    }
    AC_END_OBJECT();
    return rc > 0 ? ac_reader_call_standard(op, "feed_data", args, nargs, kwnames)
                  : none_or_null(rc);
}

PyMethodDef ac_feed_methods[] = {
    {"exception", reader_exception, METH_NOARGS, reader_exception_doc},
    {"set_exception", AC_CFUNCTION(reader_set_exception), METH_FASTCALL | METH_KEYWORDS,
     reader_set_exception_doc},
    {"set_transport", AC_CFUNCTION(reader_set_transport), METH_FASTCALL | METH_KEYWORDS,
     reader_set_transport_doc},
    {"feed_eof", reader_feed_eof, METH_NOARGS, reader_feed_eof_doc},
    {"at_eof", reader_at_eof, METH_NOARGS, reader_at_eof_doc},
    {"feed_data", AC_CFUNCTION(reader_feed_data), METH_FASTCALL | METH_KEYWORDS,
     reader_feed_data_doc},
    {NULL, NULL, 0, NULL},
};
