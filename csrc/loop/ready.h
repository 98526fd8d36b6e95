/* The ready queue: call_soon, and running what is in it. */
#ifndef AC_READY_H
#define AC_READY_H

#include "loop/loop.h"

/* loop.call_soon(callback, *args, context=context) for internal use, all borrowed;
 * honours a replaced call_soon. `context` NULL: a copy of the current one. Returns 0,
 * or -1 with an exception. */
int
ac_ready_call_soon(LoopObject *loop, PyObject *callback, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *context);

/* call_soon_threadsafe(method, argument) for internal use, without argument if that is
 * NULL; `method` is consumed, NULL: an exception is raised. Returns 0, or -1 with an
 * exception. */
int
ac_ready_hand_over_steal(LoopObject *loop, PyObject *method, PyObject *argument);

/* Where there is no GIL, for what takes from the loop what it watches: whether another
 * thread runs it, which then calls `method` of `self`. Raises nothing. */
#if AC_FREE_THREADED
bool
ac_ready_is_left_to_loop(LoopObject *loop, PyObject *self, PyMethodDef *method);
#else
#define ac_ready_is_left_to_loop(loop, self, method) ((void)(method), false)
#endif

/* Notices that somebody has replaced _run of asyncio.Handle or TimerHandle since the
 * last look, by the version tag of the latter. Returns 0, or -1 with an exception. */
int
ac_ready_check_patches(LoopObject *loop);

/* Runs one handle as Handle._run does, and flushes after it. A cancelled one is
 * passed over. Returns 0, or -1 with an exception that asyncio never catches. */
int
ac_ready_run(LoopObject *loop, PyObject *handle);

/* An exception leaves the turn in the first of two callbacks of an event: the second, a
 * handle (consumed), is the first of the next turn. Without memory it is left to the
 * next poll. */
void
ac_ready_put_first_steal(LoopObject *loop, PyObject *handle);

/* For code that is called by an event and is no Handle (streams), when
 * loop->instrumented: runs getattr(object, name)() in `context` through a real
 * Handle, so that debuggers, slow-callback warnings and a patched Handle._run see
 * it. Returns as ac_ready_run. */
int
ac_ready_run_instrumented(LoopObject *loop, PyObject *object, PyObject *name,
                          PyObject *context);

extern PyMethodDef ac_ready_methods[];

#endif
