/* The coroutine of StreamReader's methods.
 *
 * Each kind has an attempt (attempt.c), which takes its bytes, waits for more or fails.
 * It waits as _wait_for_data() does: a future of the loop in the reader's `_waiter`,
 * which feed.c settles. Where the reader is not usual any more, the standard's method
 * goes on (`delegated`). */
#include "core/python.h"

#include "core/errors.h"
#include "loop/freelist.h"
#include "loop/future.h"
#include "reader/attempt.h"
#include "reader/feed.h"

/* -------------------------------------------------------------------- stepping -- */

/* Awaits the standard's method. */
static PySendResult
delegate(ReadingObject *self, PyObject **result)
{
    ac_state *state = self->state->state;
    PyObject *coroutine =
        ac_stock_call_named(state->Reader, self->reader, self->kind->name,
                            &self->argument, self->argument == NULL ? 0 : 1, NULL);
    self->delegated = true;
    *result = coroutine == NULL ? NULL : ac_coroutine_awaitable(coroutine);
    Py_XDECREF(coroutine);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

/* What the standard's method has returned. */
static PySendResult
delegate_done(ReadingObject *self, PyObject *value, PyObject **result)
{
    if (self->blocks != NULL && PyList_GET_SIZE(self->blocks) > 0) {
        return PyList_Append(self->blocks, value) < 0
                       || ac_attempt_join(self->blocks, result) < 0
                   ? PYGEN_ERROR
                   : PYGEN_RETURN;
    }
    *result = Py_NewRef(value);
    return PYGEN_RETURN;
}

/* _wait_for_data() */
static PySendResult
wait_for_data(ReadingObject *self, PyObject **result)
{
    ReaderState *state = self->state;
    if (state->waiter != Py_None) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s() called while another coroutine is already waiting for "
                     "incoming data",
                     self->kind->waits);
        return PYGEN_ERROR;
    }
    if (state->paused == Py_True && ac_feed_resume_now(state) < 0) {
        return PYGEN_ERROR;
    }
    if (!PyObject_TypeCheck(state->loop, state->state->Loop)) {
        PyErr_SetString(PyExc_RuntimeError, "the reader's loop was replaced");
        return PYGEN_ERROR;
    }
    PyObject *future = ac_future_new((LoopObject *)state->loop);
    if (future == NULL) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(state->waiter, Py_NewRef(future));
    self->waiting = true;
    *result = ac_coroutine_awaitable(future);
    Py_DECREF(future);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

/* The wait is over, in whatever way. */
static void
end_wait(ReadingObject *self)
{
    if (!self->waiting) {
        return;
    }
    self->waiting = false;
    self->state->wanted = 0;
    ac_state *state = self->state->state;
    if (Py_TYPE(self->reader) == state->Reader) {
        ac_reader_clear_waiter(self->state);
    }
    else if (PyObject_SetAttr(self->reader, state->str__waiter, Py_None) < 0) {
        PyErr_WriteUnraisable(self->reader);
    }
}

/* The next step of one that is not delegated. */
static PySendResult
go_on(ReadingObject *self, PyObject *value, PyObject **result)
{
    ReaderState *state = self->state;
    self->resumed = self->waiting;
    end_wait(self);
    if (!ac_reader_is_usual(state)) {
        return delegate(self, result);
    }
    if (value == NULL && state->exception != Py_None) {
        (void)ac_errors_raise(state->exception);
        return PYGEN_ERROR;
    }
    int rc = self->kind->attempt(self, result);
    if (rc != 0) {
        return rc < 0 ? PYGEN_ERROR : PYGEN_RETURN;
    }
    if (!ac_reader_is_usual(state)) {
        return delegate(self, result);
    }
    return wait_for_data(self, result);
}

static PySendResult
reading_step(PyObject *op, PyObject *value, PyObject **result)
{
    ReadingObject *self = (ReadingObject *)op;
    PySendResult status;
    if (self->delegated) {
        return delegate_done(self, value, result);
    }
    AC_BEGIN_OBJECT(self->reader);
    status = go_on(self, value, result);
    AC_END_OBJECT();
    return status;
}

static void
reading_end(PyObject *op)
{
    ReadingObject *self = (ReadingObject *)op;
    if (self->waiting) {
        AC_BEGIN_OBJECT(self->reader);
        end_wait(self);
        AC_END_OBJECT();
    }
    Py_CLEAR(self->reader);
    Py_CLEAR(self->argument);
    Py_CLEAR(self->separators);
    Py_CLEAR(self->blocks);
    Py_CLEAR(self->state);
}

static void
reading_free(PyObject *op)
{
    LoopObject *loop = ((ReadingObject *)op)->loop;
    ac_freelist_free_finalized(op, loop, &loop->reads);
}

static const ac_coroutine_ops reading_ops = {
    .step = reading_step,
    .end = reading_end,
    .free = reading_free,
};

/* --------------------------------------------------------------- life and death -- */

static int
reading_traverse(PyObject *op, visitproc visit, void *arg)
{
    ReadingObject *self = (ReadingObject *)op;
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->reader);
    Py_VISIT((PyObject *)self->state);
    Py_VISIT(self->argument);
    Py_VISIT(self->separators);
    Py_VISIT(self->blocks);
    return ac_coroutine_traverse((ac_coroutine *)self, visit, arg);
}

ReadingObject *
ac_reads_new(ReaderState *state, PyObject *reader, const ac_reading_kind *kind,
             PyObject *argument)
{
    ac_state *module = state->state;
    // it is, where the reader is usual; held: an allocation may collect
    LoopObject *loop = (LoopObject *)Py_NewRef(state->loop);
    Py_INCREF(state);
    ReadingObject *self = (ReadingObject *)ac_freelist_new_clear(
        AC_FREELIST_OF(loop, reads), module->ReaderCoroutine, sizeof(ReadingObject));
    if (self == NULL) {
        Py_DECREF(loop);
        Py_DECREF(state);
        return NULL;
    }
    self->kind = kind;
    self->loop = loop;
    self->reader = Py_NewRef(reader);
    self->state = state;
    self->argument = Py_XNewRef(argument);
    PyObject_GC_Track(self);
    if (ac_coroutine_init((ac_coroutine *)self, &reading_ops,
                          ac_stock_function_borrowed(module, kind->function))
        < 0)
    {
        Py_CLEAR(self);
    }
    return self;
}

/* -------------------------------------------------------------------- the type -- */

static const ac_coroutine_type reading_type = {
    .name = "asynccore._core.ReaderCoroutine",
    .size = sizeof(ReadingObject),
    .doc = "The coroutine of a method of StreamReader.",
    .traverse = reading_traverse,
};

int
ac_reads_register(PyObject *module, ac_state *state)
{
    state->newline = PyBytes_FromStringAndSize("\n", 1);
    state->ReaderCoroutine = ac_coroutine_add_type(module, &reading_type);
    return state->newline == NULL || state->ReaderCoroutine == NULL ? -1 : 0;
}
