/* The coroutines of StreamWriter, step by step as the standard's. What they wait for,
 * they get from the protocol's methods: `_drain_helper` is called only if it has to
 * wait. */
#include "core/python.h"

#include "core/coroutine.h"
#include "core/coroutine_method.h"
#include "core/errors.h"
#include "core/method.h"
#include "loop/freelist.h"
#include "reader/drain.h"
#include "stream/stream.h"

typedef enum {
    DRAIN_BEGIN,
    DRAIN_HELPER, /* has slept, because the transport is closing */
    DRAIN_END,    /* has waited */
    CLOSED_BEGIN,
    CLOSED_END,
} drain_place;

typedef struct {
    AC_COROUTINE_HEAD
    ac_state *state;  /* borrowed from the module, which the type keeps alive */
    LoopObject *loop; /* owned: it keeps the memory */
    WriterObject *writer;
    drain_place place;
} DrainObject;

/* -------------------------------------------------------------------- stepping -- */

/* Awaits an object (consumed; NULL: an exception is raised). */
static PySendResult
await_steal(PyObject *object, PyObject **result)
{
    *result = object == NULL ? NULL : ac_coroutine_awaitable(object);
    Py_XDECREF(object);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

/* Raises what reader.exception() gives. Returns 0 if that is None, else -1. */
static int
check_reader(DrainObject *self)
{
    ac_state *state = self->state;
    PyObject *reader = self->writer->reader;
    if (reader == NULL || reader == Py_None) {
        return 0;
    }
    if (Py_IS_TYPE(reader, state->Reader)) {
        bool none;
        AC_BEGIN_OBJECT(reader);
        ReaderState *found = ac_reader_state_borrowed(state, reader);
        none =
            found != NULL && ac_reader_is_usual(found) && found->exception == Py_None;
        AC_END_OBJECT();
        if (none) {
            return 0;
        }
    }
    PyObject *exc = ac_method_call(reader, state->str_exception, NULL);
    if (exc == NULL) {
        return -1;
    }
    if (exc == Py_None) {
        Py_DECREF(exc);
        return 0;
    }
    (void)ac_errors_raise(exc);
    Py_DECREF(exc);
    return -1;
}

/* transport.is_closing(); -1 with an exception. */
static int
transport_is_closing(DrainObject *self)
{
    ac_state *state = self->state;
    PyObject *transport = self->writer->transport;
    if (transport != NULL && Py_IS_TYPE(transport, state->Stream)
        && ac_stream_is_plain((StreamObject *)transport, state))
    {
        return (((StreamObject *)transport)->flags & AC_STREAM_CLOSING) != 0;
    }
    PyObject *closing = ac_method_call(transport, state->str_is_closing, NULL);
    int truth = closing == NULL ? -1 : PyObject_IsTrue(closing);
    Py_XDECREF(closing);
    return truth;
}

/* Whether the protocol's _drain_helper() would return at once: then 1; -1 with the
 * exception that it would raise; 0 if it is to be called. */
static int
is_drained(DrainObject *self)
{
    ac_state *state = self->state;
    PyObject *protocol = self->writer->protocol;
    if (protocol == NULL
        || !Py_IS_TYPE(protocol, (PyTypeObject *)state->stock_protocol)) {
        return 0;
    }
    PyObject *dict = ac_instance_dict_borrowed(protocol);
    PyObject *transport = self->writer->transport;
    if (transport != NULL && Py_IS_TYPE(transport, state->Stream)
        && ac_dictwatch_is_noted(state, &((StreamObject *)transport)->note.attributes,
                                 dict))
    {
        return 1;  // no note is made of what is not
    }
    if (dict == NULL || PyDict_GetItemWithError(dict, state->str__drain_helper) != NULL
        || PyDict_GetItemWithError(dict, state->str__connection_lost) != Py_False)
    {
        return 0;
    }
    return PyDict_GetItemWithError(dict, state->str__paused) == Py_False;
}

/* sleep(0), as asyncio.streams knows it */
static PyObject *
sleep_0(ac_state *state)
{
    PyObject *sleep = PyObject_GetAttr(state->streams, state->str_sleep);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *coroutine =
        sleep == NULL || zero == NULL ? NULL : PyObject_CallOneArg(sleep, zero);
    Py_XDECREF(sleep);
    Py_XDECREF(zero);
    return coroutine;
}

/* drain() from where it is on. */
static PySendResult
drain_go_on(DrainObject *self, PyObject **result)
{
    ac_state *state = self->state;
    bool unchanged = ac_stock_is_unchanged(state);
    if (self->place == DRAIN_BEGIN) {
        if (!unchanged) {  // the program's own method, whatever it is by now
            self->place = DRAIN_END;
            PyObject *writer = (PyObject *)self->writer;
            return await_steal(
                ac_stock_call_named(state->Writer, writer, "drain", NULL, 0, NULL),
                result);
        }
        int closing = check_reader(self) < 0 ? -1 : transport_is_closing(self);
        if (closing != 0) {
            self->place = DRAIN_HELPER;
            return closing < 0 ? PYGEN_ERROR : await_steal(sleep_0(state), result);
        }
    }
    self->place = DRAIN_END;
    if (unchanged && is_drained(self)) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    return await_steal(
        ac_method_call(self->writer->protocol, state->str__drain_helper, NULL), result);
}

static PySendResult
drain_step(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    DrainObject *self = (DrainObject *)op;
    switch (self->place) {
    case DRAIN_BEGIN:
    case DRAIN_HELPER:
        return drain_go_on(self, result);
    case CLOSED_BEGIN:
        self->place = CLOSED_END;
        return await_steal(ac_method_call(self->writer->protocol,
                                          self->state->str__get_close_waiter,
                                          (PyObject *)self->writer),
                           result);
    case DRAIN_END:
    case CLOSED_END:
        break;
    }
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static void
drain_end(PyObject *op)
{
    Py_CLEAR(((DrainObject *)op)->writer);
}

static void
drain_free(PyObject *op)
{
    LoopObject *loop = ((DrainObject *)op)->loop;
    ac_freelist_free_finalized(op, loop, &loop->drains);
}

static const ac_coroutine_ops drain_ops = {
    .step = drain_step,
    .end = drain_end,
    .free = drain_free,
};

/* --------------------------------------------------------------- life and death -- */

static int
drain_traverse(PyObject *op, visitproc visit, void *arg)
{
    DrainObject *self = (DrainObject *)op;
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT((PyObject *)self->writer);
    return ac_coroutine_traverse((ac_coroutine *)self, visit, arg);
}

static PyObject *
drain_make(ac_state *state, PyObject *writer, const ac_coroutine_method *method)
{
    // held: an allocation may collect
    LoopObject *loop = (LoopObject *)Py_NewRef(((WriterObject *)writer)->loop);
    DrainObject *self = (DrainObject *)ac_freelist_new_clear(
        AC_FREELIST_OF(loop, drains), state->WriterCoroutine, sizeof(DrainObject));
    if (self == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    self->state = state;
    self->loop = loop;
    self->writer = (WriterObject *)Py_NewRef(writer);
    self->place = *(const drain_place *)method->def->kind;
    PyObject_GC_Track(self);
    if (ac_coroutine_init((ac_coroutine *)self, &drain_ops, method->function) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* --------------------------------------------------------------------- methods -- */

/* The coroutine, or what the program has put in the method's place. */
static PyObject *
writer_begin(PyObject *op, const ac_coroutine_method *method, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames)
{
    ac_state *state = ac_state_of_object(op);
    PyObject *loop = ((WriterObject *)op)->loop;
    if (nargs == 0 && kwnames == NULL && ac_stock_is_unchanged(state) && loop != NULL
        && PyObject_TypeCheck(loop, state->Loop))
    {
        return drain_make(state, op, method);
    }
    return ac_stock_call_named(state->Writer, op, method->def->name, args, nargs,
                               kwnames);
}

static const drain_place begins[] = {DRAIN_BEGIN, CLOSED_BEGIN};

static const ac_coroutine_method_def writer_await_methods[] = {
    {"drain", writer_begin, &begins[0]},
    {"wait_closed", writer_begin, &begins[1]},
    {NULL, NULL, NULL},
};

/* -------------------------------------------------------------------- the type -- */

static const ac_coroutine_type drain_type = {
    .name = "asynccore._core.WriterCoroutine",
    .size = sizeof(DrainObject),
    .doc = "The coroutine of a method of StreamWriter.",
    .traverse = drain_traverse,
};

int
ac_drain_register(PyObject *module, ac_state *state)
{
    state->WriterCoroutine = ac_coroutine_add_type(module, &drain_type);
    return state->WriterCoroutine == NULL
               ? -1
               : ac_coroutine_method_add_all(state, state->Writer, state->stock_writer,
                                             writer_await_methods);
}
