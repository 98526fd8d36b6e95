/* Exceptions that have no caller. */
#ifndef AC_REPORT_H
#define AC_REPORT_H

#include "loop/loop.h"

/* The exception being raised escaped from `callback(*args)` of `handle`: what
 * Handle._run does with it. Returns 0 with no exception set, or -1 with one that
 * leaves run_forever: SystemExit, KeyboardInterrupt, or what a broken override of
 * call_exception_handler raises. */
int
ac_report_callback(LoopObject *loop, PyObject *handle, PyObject *callback,
                   PyObject *args, PyObject *source_traceback);

/* As ac_report_callback, for a method that the standard loop would have called through
 * a Handle, which is made only now: getattr(object, name)() in `context`. */
int
ac_report_method(LoopObject *loop, PyObject *object, PyObject *name, PyObject *context);

/* loop.call_exception_handler({'message': message, 'exception': the exception
 * `exc`, key: value, ...}) with borrowed arguments; pairs end with a NULL key.
 * Returns 0, or -1 with an exception that leaves run_forever. */
int
ac_report_context(LoopObject *loop, const char *message, PyObject *exc, ...);

/* An exception is being raised by code whose caller cannot be told: 0 after it went to
 * the exception handler with `message`, or -1 if asyncio never catches it. */
int
ac_report_unraised(LoopObject *loop, const char *message);

#endif
