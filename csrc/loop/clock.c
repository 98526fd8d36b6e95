#include "core/python.h"

#include "loop/clock.h"
#include "loop/overrides.h"
#include "loop/owner.h"

#include <time.h>

/* As time.monotonic() of the interpreter: whole seconds exactly. */
double
ac_clock_real(void)
{
#ifdef __APPLE__
    int64_t ns = (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
#else
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);  // cannot fail for this clock
    int64_t ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
#endif
    return (double)ns / 1e9;
}

/* The number that a callable gives, in seconds; consumes the result of the call. */
static int
time_from_result_steal(PyObject *value, double *now)
{
    if (value == NULL) {
        return -1;
    }
    double seconds = PyFloat_AsDouble(value);
    Py_DECREF(value);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *now = seconds;
    return 0;
}

/* Sets *found to what replaces time.monotonic, a new reference, or to NULL. The
 * standard loop looks it up at each call: freezegun and its like replace it. Here that
 * is done when the module has changed. Returns 0, or -1 with an exception. */
static int
look_up_clock(ac_state *state, PyObject **found)
{
    uint64_t changes = ac_dictwatch_modules(state);
    *found = ac_dictwatch_get(state->time_dict, state->str_monotonic);
    if (*found == state->time_monotonic) {
        AC_STORE(state->time_unreplaced, changes);
        Py_CLEAR(*found);
        return 0;
    }
    return *found == NULL && PyErr_Occurred() ? -1 : 0;
}

/* As look_up_clock(), where nobody has changed the module since. */
static inline int
find_replaced_clock(ac_state *state, PyObject **found)
{
    *found = NULL;
    return ac_clock_module_is_unchanged(state) ? 0 : look_up_clock(state, found);
}

int
ac_clock_both(LoopObject *loop, double *now, double *real)
{
    ac_state *state = loop->state;
    PyObject *replaced = NULL;
    *real = ac_clock_real();
    if (ac_clock_is_real(loop)) {
        *now = *real;
        if (ac_owner_is_me(loop)) {
            loop->clock_seen = *real;
        }
        return 0;
    }
    if (ac_overrides_check(loop) < 0) {
        return -1;
    }
    if (loop->overridden & AC_OVERRIDE_TIME) {
        return time_from_result_steal(
            PyObject_CallMethodNoArgs((PyObject *)loop, state->str_time), now);
    }
    if (find_replaced_clock(state, &replaced) < 0) {
        return -1;
    }
    if (replaced == NULL) {
        *now = *real;
        return 0;
    }
    int rc = time_from_result_steal(PyObject_CallNoArgs(replaced), now);
    Py_DECREF(replaced);
    return rc;
}

int
ac_clock_now(LoopObject *loop, double *now)
{
    double real;
    return ac_clock_both(loop, now, &real);
}

PyDoc_STRVAR(loop_time_doc, "time($self, /)\n--\n\n"
                            "The loop's clock in seconds: time.monotonic().");

/* Not through ac_clock_now, which would call a replacement that calls this. */
static PyObject *
loop_time(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *replaced;
    if (find_replaced_clock(((LoopObject *)self)->state, &replaced) < 0) {
        return NULL;
    }
    if (replaced == NULL) {
        return PyFloat_FromDouble(ac_clock_real());
    }
    PyObject *now = PyObject_CallNoArgs(replaced);
    Py_DECREF(replaced);
    return now;
}

PyMethodDef ac_clock_methods[] = {
    {"time", loop_time, METH_NOARGS, loop_time_doc},
    {NULL, NULL, 0, NULL},
};
