/* The number that a method of the loop was given: which it is, as selectors have it,
 * and whether a transport uses it. */
#include "core/python.h"

#include "core/plain.h"
#include "io/number.h"
#include "io/watch.h"
#include "loop/owner.h"
#include "loop/watcher.h"

/* The number that a plain int or a plain socket is, told without running Python; -1 for
 * everything else. Raises nothing. */
static int
plain_number(ac_state *state, PyObject *fileobj)
{
    if (PyLong_CheckExact(fileobj)) {
        int overflow;
        long number = PyLong_AsLongAndOverflow(fileobj, &overflow);
        return overflow != 0 || number < 0 || number > INT_MAX ? -1 : (int)number;
    }
    int plain = ac_plain_is(state, fileobj);
    int fd = plain > 0 ? ac_plain_number(state, fileobj) : -1;
    if (plain < 0 || fd < -1) {
        PyErr_Clear();  // the long way meets it again
        return -1;
    }
    return fd;
}

int
ac_number_of(ac_state *state, PyObject *fileobj)
{
    int known = plain_number(state, fileobj);
    if (known >= 0) {
        return known;
    }
    PyObject *value;
    if (PyLong_Check(fileobj)) {
        value = Py_NewRef(fileobj);
    }
    else {
        PyObject *result = PyObject_CallMethodNoArgs(fileobj, state->str_fileno);
        value = result == NULL ? NULL : PyNumber_Long(result);
        Py_XDECREF(result);
        if (value == NULL) {
            if (PyErr_ExceptionMatches(PyExc_AttributeError)
                || PyErr_ExceptionMatches(PyExc_TypeError)
                || PyErr_ExceptionMatches(PyExc_ValueError))
            {
                PyErr_Clear();  // replaced by the exception of selectors
                PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
            }
            return -1;
        }
    }
    int overflow;
    long number = PyLong_AsLongAndOverflow(value, &overflow);
    if (overflow < 0 || (overflow == 0 && number < 0)) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", value);
        number = -1;
    }
    else if (overflow > 0 || number > INT_MAX) {
        // the words of epoll.register
        PyErr_SetString(PyExc_OverflowError,
                        "Python int too large to convert to C int");
        number = -1;
    }
    Py_DECREF(value);
    return (int)number;
}

/* True if no transport can have the number: the usual case, told without Python. */
static bool
surely_no_transport(LoopObject *loop, int fd)
{
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    if (ac_watcher_of_own(loop, fd) != NULL
        || (watcher != NULL && watcher->on_ready != ac_watch_on_ready))
    {
        return false;
    }
    return loop->transports_data != NULL && PyDict_GET_SIZE(loop->transports_data) == 0;
}

int
ac_number_ensure_free(LoopObject *loop, PyObject *fileobj)
{
    if (ac_owner_check(loop) < 0) {
        return -1;
    }
    int fd = plain_number(loop->state, fileobj);
    if (fd >= 0 && surely_no_transport(loop, fd)) {
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->state->str__ensure_fd_no_transport, fileobj);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
ac_number_ensure_free_int(LoopObject *loop, int fd)
{
    if (ac_owner_check(loop) < 0) {
        return -1;
    }
    if (fd >= 0 && surely_no_transport(loop, fd)) {
        return 0;
    }
    PyObject *number = PyLong_FromLong(fd);
    int rc = number == NULL ? -1 : ac_number_ensure_free(loop, number);
    Py_XDECREF(number);
    return rc;
}
