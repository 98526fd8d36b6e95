/* Exceptions without a caller go to loop.call_exception_handler, but for
 * SystemExit and KeyboardInterrupt, which leave run_forever. */
#include "core/python.h"

#include "core/errors.h"
#include "loop/handle.h"
#include "loop/report.h"

#include <stdarg.h>

/* Calls the handler with a context dict (consumed; NULL: could not be made), while
 * `exc` counts as the exception being handled. Returns 0, or -1 with an exception: of
 * an override or an exit, which leave run_forever as on the standard loop. */
static int
call_handler_steal(LoopObject *loop, PyObject *context, PyObject *exc)
{
    if (context == NULL) {
        return -1;
    }
    PyObject *handled = ac_errors_except_begin(exc);
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->state->str_call_exception_handler, context);
    ac_errors_except_end_steal(handled);
    Py_DECREF(context);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* 'callback(args) at file:line', as the standard's messages have it. */
static PyObject *
format_callback(LoopObject *loop, PyObject *callback, PyObject *args)
{
    ac_state *state = loop->state;
    PyObject *tuple = ac_handle_args_tuple(args);
    PyObject *names = state->format_has_debug ? PyTuple_Pack(1, state->str_debug)
                                              : Py_NewRef(state->empty_tuple);
    PyObject *text = NULL;
    if (tuple != NULL && names != NULL) {
        PyObject *stack[] = {state->format_helpers, callback, tuple,
                             loop->debug ? Py_True : Py_False};
        text = PyObject_VectorcallMethod(state->str__format_callback_source, stack, 3,
                                         names);
    }
    Py_XDECREF(tuple);
    Py_XDECREF(names);
    return text;
}

int
ac_report_callback(LoopObject *loop, PyObject *handle, PyObject *callback,
                   PyObject *args, PyObject *source_traceback)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    PyObject *context = NULL;
    PyObject *handled =
        ac_errors_except_begin(exc);  // that of a repr has it as context
    PyObject *text = format_callback(loop, callback, args);
    ac_errors_except_end_steal(handled);
    if (text != NULL) {
        PyObject *message = PyUnicode_FromFormat("Exception in callback %U", text);
        Py_DECREF(text);
        context = message == NULL ? NULL
                                  : Py_BuildValue("{sNsOsO}", "message", message,
                                                  "exception", exc, "handle", handle);
    }
    if (context != NULL && source_traceback != NULL
        && PyDict_SetItem(context, loop->state->str_source_traceback, source_traceback)
               < 0)
    {
        Py_CLEAR(context);
    }
    int rc = call_handler_steal(loop, context, exc);
    Py_DECREF(exc);
    return rc;
}

int
ac_report_method(LoopObject *loop, PyObject *object, PyObject *name, PyObject *context)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    PyObject *method = PyObject_GetAttr(object, name);
    PyObject *handle =
        method == NULL ? NULL : ac_handle_new(loop, method, NULL, 0, context, 0);
    int rc = -1;
    if (handle != NULL) {
        ac_err_restore_steal(Py_NewRef(exc));
        rc = ac_report_callback(loop, handle, method, NULL, NULL);
        ac_handle_done_steal(loop, handle);
    }
    Py_XDECREF(method);
    Py_DECREF(exc);
    return rc;
}

int
ac_report_context(LoopObject *loop, const char *message, PyObject *exc, ...)
{
    PyObject *context = Py_BuildValue("{sssO}", "message", message, "exception", exc);
    va_list pairs;
    va_start(pairs, exc);
    const char *key;
    while (context != NULL && (key = va_arg(pairs, const char *)) != NULL) {
        PyObject *value = va_arg(pairs, PyObject *);
        if (value != NULL && PyDict_SetItemString(context, key, value) < 0) {
            Py_CLEAR(context);
        }
    }
    va_end(pairs);
    return call_handler_steal(loop, context, exc);
}

int
ac_report_unraised(LoopObject *loop, const char *message)
{
    if (ac_err_is_exit()) {
        return -1;
    }
    PyObject *exc = ac_err_take();
    int rc = ac_report_context(loop, message, exc, NULL);
    Py_DECREF(exc);
    return rc;
}
