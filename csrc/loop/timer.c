/* Timers: a 4-ary heap of TimerHandle objects by (deadline, creation), each of
 * which knows its index, so that cancel takes it out at once.
 *
 * The heap owns its handles. What the turn calls is popped into loop->due before
 * the ready snapshot runs, as BaseEventLoop._run_once does. */
#include "core/python.h"

#include "core/args.h"
#include "loop/timer.h"

#include <math.h>

#define HEAP_ARITY 4
#define HEAP_MIN 16

struct ac_timers {
    TimerHandleObject **items;
    size_t len, cap;
    uint64_t order; /* of the next timer */
};

/* ------------------------------------------------------------------- heap -- */

static inline bool
timer_before(const TimerHandleObject *a, const TimerHandleObject *b)
{
    return a->deadline < b->deadline
           || (a->deadline == b->deadline && a->order < b->order);
}

static inline void
heap_put(ac_timers *heap, size_t i, TimerHandleObject *timer)
{
    heap->items[i] = timer;
    timer->index = (Py_ssize_t)i;
}

static void
heap_up(ac_timers *heap, size_t i, TimerHandleObject *timer)
{
    while (i > 0) {
        size_t parent = (i - 1) / HEAP_ARITY;
        if (!timer_before(timer, heap->items[parent])) {
            break;
        }
        heap_put(heap, i, heap->items[parent]);
        i = parent;
    }
    heap_put(heap, i, timer);
}

static void
heap_down(ac_timers *heap, size_t i, TimerHandleObject *timer)
{
    for (;;) {
        size_t first = i * HEAP_ARITY + 1;
        if (first >= heap->len) {
            break;
        }
        size_t end = first + HEAP_ARITY < heap->len ? first + HEAP_ARITY : heap->len;
        size_t least = first;
        for (size_t child = first + 1; child < end; child++) {
            if (timer_before(heap->items[child], heap->items[least])) {
                least = child;
            }
        }
        if (!timer_before(heap->items[least], timer)) {
            break;
        }
        heap_put(heap, i, heap->items[least]);
        i = least;
    }
    heap_put(heap, i, timer);
}

/* Takes the item at `i` out; the caller gets the heap's reference. */
static TimerHandleObject *
heap_take(ac_timers *heap, size_t i)
{
    TimerHandleObject *timer = heap->items[i];
    TimerHandleObject *last = heap->items[--heap->len];
    timer->index = -1;
    if (last != timer) {
        if (i > 0 && timer_before(last, heap->items[(i - 1) / HEAP_ARITY])) {
            heap_up(heap, i, last);
        }
        else {
            heap_down(heap, i, last);
        }
    }
    if (heap->cap > HEAP_MIN && heap->len < heap->cap / 4) {
        size_t cap = heap->cap / 2;
        void *items = PyMem_Realloc(heap->items, cap * sizeof(*heap->items));
        if (items != NULL) {  // a block that stays large is no error
            heap->items = items;
            heap->cap = cap;
        }
    }
    return timer;
}

static int
heap_push_steal(ac_timers *heap, TimerHandleObject *timer)
{
    if (heap->len == heap->cap) {
        size_t cap = heap->cap == 0 ? HEAP_MIN : heap->cap * 2;
        void *items = PyMem_Realloc(heap->items, cap * sizeof(*heap->items));
        if (items == NULL) {
            Py_DECREF(timer);
            PyErr_NoMemory();
            return -1;
        }
        heap->items = items;
        heap->cap = cap;
    }
    timer->order = heap->order++;
    heap->len++;
    heap_up(heap, heap->len - 1, timer);
    return 0;
}

/* -------------------------------------------------------------- ac_timer_ -- */

int
ac_timer_init(LoopObject *loop)
{
    loop->timers = PyMem_Calloc(1, sizeof(ac_timers));
    if (loop->timers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void
ac_timer_clear(LoopObject *loop)
{
    ac_timers *heap = loop->timers;
    while (heap != NULL && heap->len > 0) {
        TimerHandleObject *timer = heap->items[--heap->len];
        timer->index = -1;
        Py_DECREF(timer);
    }
}

void
ac_timer_free(LoopObject *loop)
{
    ac_timer_clear(loop);
    if (loop->timers != NULL) {
        PyMem_Free(loop->timers->items);
        PyMem_Free(loop->timers);
        loop->timers = NULL;
    }
}

int
ac_timer_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    for (size_t i = 0; i < ac_timer_count(loop); i++) {
        Py_VISIT(loop->timers->items[i]);
    }
    return 0;
}

size_t
ac_timer_count(const LoopObject *loop)
{
    return loop->timers == NULL ? 0 : loop->timers->len;
}

double
ac_timer_first(const LoopObject *loop)
{
    return loop->timers->items[0]->deadline;
}

void
ac_timer_remove(LoopObject *loop, TimerHandleObject *timer)
{
    if (timer->index < 0 || loop->timers == NULL) {
        return;
    }
    heap_take(loop->timers, (size_t)timer->index);
    Py_XSETREF(timer->scheduled, Py_NewRef(Py_False));
    Py_DECREF(timer);
}

int
ac_timer_pop_due(LoopObject *loop, double end)
{
    ac_timers *heap = loop->timers;
    while (heap->len > 0 && heap->items[0]->deadline < end) {
        if (loop->due_len == loop->due_cap) {
            size_t cap = loop->due_cap == 0 ? 16 : loop->due_cap * 2;
            void *due = PyMem_Realloc(loop->due, cap * sizeof(*loop->due));
            if (due == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            loop->due = due;
            loop->due_cap = cap;
        }
        TimerHandleObject *timer = heap_take(heap, 0);
        Py_XSETREF(timer->scheduled, Py_NewRef(Py_False));
        loop->due[loop->due_len++] = (PyObject *)timer;
    }
    return 0;
}

PyObject *
ac_timer_list(const LoopObject *loop)
{
    Py_ssize_t n = (Py_ssize_t)ac_timer_count(loop);
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(loop->timers->items[i]));
    }
    return list;
}

/* ---------------------------------------------------------------- methods -- */

/* The common part of call_at and call_later, after their own checks. */
static PyObject *
timer_schedule(LoopObject *loop, PyObject *when, const ac_args *parsed,
               PyObject *callback, const char *method)
{
    if (ac_loop_check_closed(loop) < 0) {
        return NULL;
    }
    if (loop->debug && ac_loop_check_debug(loop, callback, method) < 0) {
        return NULL;
    }
    double deadline = PyFloat_AsDouble(when);
    if (deadline == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (isnan(deadline)) {
        deadline = -INFINITY;  // compares false with everything: the standard calls it
    }
    PyObject *timer = ac_handle_new_timer(loop, when, deadline, callback, parsed->rest,
                                          parsed->nrest, parsed->context);
    if (timer == NULL) {
        return NULL;
    }
    if (heap_push_steal(loop->timers, (TimerHandleObject *)Py_NewRef(timer)) < 0) {
        Py_DECREF(timer);
        return NULL;
    }
    Py_XSETREF(((TimerHandleObject *)timer)->scheduled, Py_NewRef(Py_True));
    return timer;
}

PyDoc_STRVAR(loop_call_at_doc,
             "call_at($self, /, when, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) at `when`, in seconds of loop.time().\n\n"
             "Counterpart of asyncio's loop.call_at. Returns an asyncio.TimerHandle.");

static PyObject *
loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    LoopObject *loop = (LoopObject *)self;
    ac_state *state = loop->state;
    PyObject *const names[] = {state->str_when, state->str_callback};
    ac_args parsed;
    if (ac_args_parse(&parsed, "call_at", names, 2, state->str_context, args, nargs,
                      kwnames)
        < 0)
    {
        return NULL;
    }
    if (parsed.leading[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    return timer_schedule(loop, parsed.leading[0], &parsed, parsed.leading[1],
                          "call_at");
}

/* self.call_at(when, callback, *args, context=context) of a replaced call_at. */
static PyObject *
call_replaced_call_at(LoopObject *loop, PyObject *when, const ac_args *parsed)
{
    PyObject *method = PyObject_GetAttr((PyObject *)loop, loop->state->str_call_at);
    PyObject *positional = PyTuple_New(parsed->nrest + 2);
    PyObject *keywords = PyDict_New();
    PyObject *result = NULL;
    if (method == NULL || positional == NULL || keywords == NULL) {
        goto done;
    }
    PyTuple_SET_ITEM(positional, 0, Py_NewRef(when));
    PyTuple_SET_ITEM(positional, 1, Py_NewRef(parsed->leading[1]));
    for (Py_ssize_t i = 0; i < parsed->nrest; i++) {
        PyTuple_SET_ITEM(positional, i + 2, Py_NewRef(parsed->rest[i]));
    }
    if (PyDict_SetItem(keywords, loop->state->str_context,
                       parsed->context == NULL ? Py_None : parsed->context)
        < 0)
    {
        goto done;
    }
    result = PyObject_Call(method, positional, keywords);
done:
    Py_XDECREF(method);
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    return result;
}

PyDoc_STRVAR(loop_call_later_doc,
             "call_later($self, /, delay, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) after `delay` seconds; 0 or less: next turn.\n\n"
             "Counterpart of asyncio's loop.call_later. Returns an\n"
             "asyncio.TimerHandle.");

static PyObject *
loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    LoopObject *loop = (LoopObject *)self;
    ac_state *state = loop->state;
    PyObject *const names[] = {state->str_delay, state->str_callback};
    ac_args parsed;
    if (ac_args_parse(&parsed, "call_later", names, 2, state->str_context, args, nargs,
                      kwnames)
        < 0)
    {
        return NULL;
    }
    PyObject *delay = parsed.leading[0];
    if (delay == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    double now;
    if (ac_loop_time(loop, &now) < 0) {
        return NULL;
    }
    PyObject *when;
    if (PyFloat_CheckExact(delay)) {
        when = PyFloat_FromDouble(now + PyFloat_AS_DOUBLE(delay));
    }
    else {
        PyObject *base = PyFloat_FromDouble(now);
        when = base == NULL ? NULL : PyNumber_Add(base, delay);
        Py_XDECREF(base);
    }
    if (when == NULL) {
        return NULL;
    }
    PyObject *timer =
        loop->overridden & AC_OVERRIDE_CALL_AT
            ? call_replaced_call_at(loop, when, &parsed)
            : timer_schedule(loop, when, &parsed, parsed.leading[1], "call_at");
    Py_DECREF(when);
    return timer;
}

PyMethodDef ac_timer_methods[] = {
    {"call_at", (PyCFunction)(void (*)(void))loop_call_at,
     METH_FASTCALL | METH_KEYWORDS, loop_call_at_doc},
    {"call_later", (PyCFunction)(void (*)(void))loop_call_later,
     METH_FASTCALL | METH_KEYWORDS, loop_call_later_doc},
    {NULL, NULL, 0, NULL},
};
