/* Timers: a 4-ary heap by (deadline, creation) that owns TimerHandle objects.
 *
 * The deadlines stand beside the pointers, four in a cache line, so that sifting
 * touches no handle. A cancelled timer stays until it comes first; when half of the
 * heap is cancelled, it is rebuilt without them, as BaseEventLoop does. What the turn
 * calls is popped into loop->due before the ready snapshot runs.
 *
 * The heap is for the thread that runs the loop. Where there is no GIL, another thread
 * may cancel a timer: that touches the handle and the count of the cancelled alone,
 * which is then no more than a hint when to rebuild. */
#include "core/python.h"

#include "core/args.h"
#include "loop/clock.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "loop/timer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_ARITY 4
#define HEAP_MIN 16
#define COMPACT_MIN 64 /* below it, cancelled timers just wait to come first */

typedef struct {
    double deadline;
    TimerHandleObject *timer; /* owned */
} heap_entry;

struct ac_timers {
    heap_entry *entries;
    size_t len, cap;
    size_t cancelled;          /* of the entries; without a GIL about so many */
    uint64_t order;            /* of the next timer */
    TimerHandleObject **young; /* borrowed: not yet shown to the collector */
    size_t young_len, young_cap;
};

/* ------------------------------------------------------------------- heap -- */

static inline bool
entry_before(const heap_entry *a, const heap_entry *b)
{
    return a->deadline < b->deadline
           || (a->deadline == b->deadline && a->timer->order < b->timer->order);
}

static void
heap_up(ac_timers *heap, size_t i, heap_entry entry)
{
    while (i > 0) {
        size_t parent = (i - 1) / HEAP_ARITY;
        if (!entry_before(&entry, &heap->entries[parent])) {
            break;
        }
        heap->entries[i] = heap->entries[parent];
        i = parent;
    }
    heap->entries[i] = entry;
}

static void
heap_down(ac_timers *heap, size_t i, heap_entry entry)
{
    for (;;) {
        size_t first = i * HEAP_ARITY + 1;
        if (first >= heap->len) {
            break;
        }
        size_t end = first + HEAP_ARITY < heap->len ? first + HEAP_ARITY : heap->len;
        size_t least = first;
        for (size_t child = first + 1; child < end; child++) {
            if (entry_before(&heap->entries[child], &heap->entries[least])) {
                least = child;
            }
        }
        if (!entry_before(&heap->entries[least], &entry)) {
            break;
        }
        heap->entries[i] = heap->entries[least];
        i = least;
    }
    heap->entries[i] = entry;
}

/* Gives memory back after a burst; a block that stays large is no error. */
static void
heap_shrink(ac_timers *heap)
{
    if (heap->cap > HEAP_MIN && heap->len < heap->cap / 4) {
        size_t cap = heap->cap / 2;
        void *entries = PyMem_Realloc(heap->entries, cap * sizeof(*heap->entries));
        if (entries != NULL) {
            heap->entries = entries;
            heap->cap = cap;
        }
    }
}

/* Takes the first entry out; the caller gets the heap's reference. */
static TimerHandleObject *
heap_pop(ac_timers *heap)
{
    TimerHandleObject *timer = heap->entries[0].timer;
    heap->len--;
    if (heap->len > 0) {
        heap_down(heap, 0, heap->entries[heap->len]);
    }
    heap_shrink(heap);
    AC_STORE(timer->in_heap, false);
    Py_XSETREF(timer->scheduled, Py_NewRef(Py_False));
    return timer;
}

/* Returns 0, or -1 with MemoryError. */
static int
heap_push_steal(ac_timers *heap, TimerHandleObject *timer)
{
    if (heap->len == heap->cap) {
        size_t cap = heap->cap == 0 ? HEAP_MIN : heap->cap * 2;
        void *entries = PyMem_Realloc(heap->entries, cap * sizeof(*heap->entries));
        if (entries == NULL) {
            Py_DECREF(timer);
            PyErr_NoMemory();
            return -1;
        }
        heap->entries = entries;
        heap->cap = cap;
    }
    timer->order = heap->order++;
    AC_STORE(timer->in_heap, true);
    heap->len++;
    heap_up(heap, heap->len - 1, (heap_entry){timer->deadline, timer});
    return 0;
}

/* How many entries can be dropped. */
static size_t
count_cancelled(const ac_timers *heap)
{
    size_t cancelled = heap->cancelled;
    if (AC_FREE_THREADED) {
        cancelled = 0;
        for (size_t i = 0; i < heap->len; i++) {
            cancelled += AC_LOAD(heap->entries[i].timer->cancelled) == Py_True;
        }
    }
    return cancelled;
}

/* Takes some from the count. */
static void
uncount_cancelled(ac_timers *heap, size_t count)
{
#if AC_FREE_THREADED
    size_t counted = AC_LOAD(heap->cancelled);
    while (!__atomic_compare_exchange_n(&heap->cancelled, &counted,
                                        counted > count ? counted - count : 0, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    {
    }
#else
    heap->cancelled -= count;
#endif
}

/* Rebuilds the heap without the cancelled timers. They hold nothing but a context and
 * the loop, yet dropping them may run Python: that comes last, one by one from the
 * end of the block. */
static void
heap_compact(ac_timers *heap)
{
    size_t cancelled = count_cancelled(heap);
    heap_entry *dropped = PyMem_Malloc(cancelled * sizeof(*dropped));
    if (dropped == NULL) {
        return;  // they leave when they come first
    }
    size_t ndropped = 0, kept = 0;
    for (size_t i = 0; i < heap->len; i++) {
        if (ndropped < cancelled
            && AC_LOAD(heap->entries[i].timer->cancelled) == Py_True) {
            AC_STORE(heap->entries[i].timer->in_heap, false);
            dropped[ndropped++] = heap->entries[i];
        }
        else {
            heap->entries[kept++] = heap->entries[i];
        }
    }
    assert(ndropped == cancelled);
    heap->len = kept;
    uncount_cancelled(heap, AC_FREE_THREADED ? SIZE_MAX : cancelled);
    for (size_t i = kept / HEAP_ARITY + 1; i-- > 0;) {
        if (i < kept) {
            heap_down(heap, i, heap->entries[i]);
        }
    }
    heap_shrink(heap);
    for (size_t i = 0; i < ndropped; i++) {
        Py_XSETREF(dropped[i].timer->scheduled, Py_NewRef(Py_False));
        Py_DECREF(dropped[i].timer);
    }
    PyMem_Free(dropped);
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
        TimerHandleObject *timer = heap->entries[--heap->len].timer;
        AC_STORE(timer->in_heap, false);
        uncount_cancelled(heap, AC_LOAD(timer->cancelled) == Py_True);
        ac_owner_drop_steal(loop, (PyObject *)timer);
    }
}

void
ac_timer_free(LoopObject *loop)
{
    ac_timer_clear(loop);
    if (loop->timers != NULL) {
        PyMem_Free(loop->timers->entries);
        PyMem_Free(loop->timers->young);
        PyMem_Free(loop->timers);
        loop->timers = NULL;
    }
}

int
ac_timer_traverse(LoopObject *loop, visitproc visit, void *arg)
{
    for (size_t i = 0; loop->timers != NULL && i < loop->timers->len; i++) {
        Py_VISIT(loop->timers->entries[i].timer);
    }
    return 0;
}

/* While the loop runs, a new timer stays unseen by the collector: with many timers
 * its passes cost a quarter of the time otherwise. */
static void
young_add(LoopObject *loop, TimerHandleObject *timer)
{
    ac_timers *timers = loop->timers;
    if (AC_FREE_THREADED) {  // it may end in another thread
        PyObject_GC_Track(timer);
        return;
    }
    if (loop->running && timers->young_len == timers->young_cap) {
        size_t cap = timers->young_cap == 0 ? HEAP_MIN : timers->young_cap * 2;
        void *young = PyMem_Realloc(timers->young, cap * sizeof(*timers->young));
        if (young != NULL) {  // else it is shown to the collector at once
            timers->young = young;
            timers->young_cap = cap;
        }
    }
    if (!loop->running || timers->young_len == timers->young_cap) {
        PyObject_GC_Track(timer);
        return;
    }
    timer->young = (Py_ssize_t)timers->young_len;
    timers->young[timers->young_len++] = timer;
}

void
ac_timer_grown(LoopObject *loop, TimerHandleObject *timer)
{
    ac_timers *timers = loop->timers;
    TimerHandleObject *last = timers->young[--timers->young_len];
    timers->young[timer->young] = last;
    last->young = timer->young;
    timer->young = -1;
}

void
ac_timer_track(LoopObject *loop)
{
    ac_timers *timers = loop->timers;
    if (timers == NULL) {  // before __init__
        return;
    }
    for (size_t i = 0; i < timers->young_len; i++) {
        timers->young[i]->young = -1;
        PyObject_GC_Track(timers->young[i]);
    }
    timers->young_len = 0;
    PyMem_Free(timers->young);
    timers->young = NULL;
    timers->young_cap = 0;
}

double
ac_timer_first(LoopObject *loop)
{
    ac_timers *heap = loop->timers;
    while (heap->len > 0) {
        TimerHandleObject *first = heap->entries[0].timer;
        if (AC_LOAD(first->cancelled) != Py_True) {
            return heap->entries[0].deadline;
        }
        uncount_cancelled(heap, 1);
        Py_DECREF(heap_pop(heap));
    }
    return INFINITY;
}

bool
ac_timer_is_only(const LoopObject *loop)
{
    return loop->timers->len <= 1;
}

void
ac_timer_cancelling(LoopObject *loop, TimerHandleObject *timer)
{
    if (AC_LOAD(timer->in_heap)) {
        AC_INCREMENT(loop->timers->cancelled);
    }
}

void
ac_timer_compact(LoopObject *loop)
{
    ac_timers *heap = loop->timers;
    if (heap->len > COMPACT_MIN && AC_LOAD(heap->cancelled) * 2 > heap->len) {
        heap_compact(heap);
    }
}

int
ac_timer_pop_due(LoopObject *loop, double end)
{
    while (ac_timer_first(loop) < end) {
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
        loop->due[loop->due_len++] = (PyObject *)heap_pop(loop->timers);
    }
    return 0;
}

static int
entry_compare(const void *a, const void *b)
{
    return entry_before(b, a) - entry_before(a, b);
}

PyObject *
ac_timer_list(const LoopObject *loop)
{
    // first the list: making it may run a collection, and that anything
    PyObject *list = PyList_New(0);
    const ac_timers *heap = loop->timers;
    if (list == NULL || heap == NULL || heap->len == 0) {
        return list;
    }
    size_t len = heap->len;
    heap_entry *entries = PyMem_Malloc(len * sizeof(*entries));
    if (entries == NULL) {
        Py_DECREF(list);
        return PyErr_NoMemory();
    }
    memcpy(entries, heap->entries, len * sizeof(*entries));
    qsort(entries, len, sizeof(*entries), entry_compare);
    for (size_t i = 0; list != NULL && i < len; i++) {
        if (PyList_Append(list, (PyObject *)entries[i].timer) < 0) {
            Py_CLEAR(list);
        }
    }
    PyMem_Free(entries);
    return list;
}

/* ---------------------------------------------------------------- methods -- */

/* A number of any type as seconds; an int that no double holds is as far away as can
 * be. Returns 0, or -1 with TypeError. */
static int
when_seconds(PyObject *when, double *deadline)
{
    double seconds = PyFloat_AsDouble(when);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (!PyLong_Check(when) || !PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();  // as ints and floats compare
        int overflow;
        (void)PyLong_AsLongLongAndOverflow(when, &overflow);
        seconds = overflow > 0 ? INFINITY : -INFINITY;
    }
    *deadline = seconds;
    return 0;
}

static PyObject *
timer_schedule_here(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TimerHandleObject *timer = (TimerHandleObject *)Py_NewRef(op);
    if (heap_push_steal(((LoopObject *)timer->loop)->timers, timer) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef schedule_here_method = {"_schedule", timer_schedule_here,
                                           METH_NOARGS, NULL};

/* A timer (consumed) of another thread than the one that runs the loop: that puts it
 * into the heap. Returns it, NULL with an exception. */
static PyObject *
schedule_elsewhere_steal(LoopObject *loop, PyObject *timer)
{
    PyObject_GC_Track(timer);
    PyObject *method = PyCFunction_New(&schedule_here_method, timer);
    if (ac_ready_hand_over_steal(loop, method, NULL) < 0) {
        Py_CLEAR(timer);
    }
    return timer;
}

/* The common part of call_at and call_later, after their own checks; `when` as in
 * ac_handle_new_timer. */
static PyObject *
timer_schedule(LoopObject *loop, PyObject *when, double deadline, const ac_args *parsed,
               int own_frames)
{
    PyObject *callback = parsed->leading[1];
    if (ac_loop_check_call(loop, callback, loop->state->str_call_at) < 0) {
        return NULL;
    }
    if (when != NULL && when_seconds(when, &deadline) < 0) {
        return NULL;
    }
    if (isnan(deadline)) {
        deadline = -INFINITY;  // compares false with everything: the standard calls it
    }
    PyObject *timer = ac_handle_new_timer(loop, when, deadline, callback, parsed->rest,
                                          parsed->nrest, parsed->context, own_frames);
    if (timer == NULL) {
        return NULL;
    }
    bool mine = ac_owner_is_me(loop);
    if (!mine && !ac_owner_enter(loop)) {
        return schedule_elsewhere_steal(loop, timer);
    }
    young_add(loop, (TimerHandleObject *)timer);
    // it may have been closed meanwhile, by another thread
    if ((AC_FREE_THREADED && ac_loop_check_closed(loop) < 0)
        || heap_push_steal(loop->timers, (TimerHandleObject *)Py_NewRef(timer)) < 0)
    {
        Py_CLEAR(timer);
    }
    if (!mine) {
        ac_owner_leave(loop);
    }
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
    if (!ac_args_parse_usual(&parsed, 2, state->names_context, args, nargs, kwnames)
        && ac_args_parse(&parsed, "BaseEventLoop.call_at", names, 2, state->str_context,
                         args, nargs, kwnames)
               < 0)
    {
        return NULL;
    }
    if (parsed.leading[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    return timer_schedule(loop, parsed.leading[0], 0.0, &parsed, 2);
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

/* call_later for what the short way does not take: a replaced call_at, a delay of
 * another type (None: `now` is the sum already). */
static PyObject *
call_later_slow(LoopObject *loop, double now, PyObject *delay, const ac_args *parsed)
{
    PyObject *when = PyFloat_FromDouble(now);
    if (when != NULL && delay != Py_None) {
        PyObject *sum = PyNumber_Add(when, delay);
        Py_SETREF(when, sum);
    }
    if (when == NULL) {
        return NULL;
    }
    PyObject *timer = loop->overridden & AC_OVERRIDE_CALL_AT
                          ? call_replaced_call_at(loop, when, parsed)
                          : timer_schedule(loop, when, 0.0, parsed, 3);
    Py_DECREF(when);
    return timer;
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
    if (!ac_args_parse_usual(&parsed, 2, state->names_context, args, nargs, kwnames)
        && ac_args_parse(&parsed, "BaseEventLoop.call_later", names, 2,
                         state->str_context, args, nargs, kwnames)
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
    if (ac_clock_now(loop, &now) < 0) {
        return NULL;
    }
    if (!(loop->overridden & AC_OVERRIDE_CALL_AT)) {
        if (PyFloat_CheckExact(delay)) {
            now += PyFloat_AS_DOUBLE(delay);
            return isnan(now) ? call_later_slow(loop, now, Py_None, &parsed)
                              : timer_schedule(loop, NULL, now, &parsed, 3);
        }
        if (PyLong_CheckExact(delay)) {
            double seconds = PyLong_AsDouble(delay);
            if (seconds == -1.0 && PyErr_Occurred()) {
                return NULL;  // OverflowError: int too large to convert to float
            }
            return timer_schedule(loop, NULL, now + seconds, &parsed, 3);
        }
    }
    return call_later_slow(loop, now, delay, &parsed);
}

PyMethodDef ac_timer_methods[] = {
    {"call_at", AC_CFUNCTION(loop_call_at), METH_FASTCALL | METH_KEYWORDS,
     loop_call_at_doc},
    {"call_later", AC_CFUNCTION(loop_call_later), METH_FASTCALL | METH_KEYWORDS,
     loop_call_later_doc},
    {NULL, NULL, 0, NULL},
};
