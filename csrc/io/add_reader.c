/* add_reader, add_writer and their siblings: what the methods of BaseSelectorEventLoop
 * take, return and raise. */
#include "core/python.h"

#include "core/args.h"
#include "io/add_reader.h"
#include "io/number.h"
#include "io/watch.h"
#include "loop/handle.h"
#include "loop/owner.h"

/* _add_reader and _add_writer: (fd, callback, *args, context=None). */
static PyObject *
add_handle_entered(LoopObject *loop, int which, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    ac_state *state = loop->state;
    PyObject *const names[] = {state->str_fd, state->str_callback};
    ac_args parsed;
    if (ac_args_parse(&parsed,
                      which == AC_WATCH_READER ? "BaseSelectorEventLoop._add_reader"
                                               : "BaseSelectorEventLoop._add_writer",
                      names, 2, state->str_context, args, nargs, kwnames)
        < 0)
    {
        return NULL;
    }
    if (ac_loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyObject *handle = ac_handle_new(loop, parsed.leading[1], parsed.rest, parsed.nrest,
                                     parsed.context, 0);
    if (handle == NULL) {
        return NULL;
    }
    ac_handle_track(handle);
    int fd = ac_number_of(state, parsed.leading[0]);
    if (fd < 0 || ac_loop_check_closed(loop) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    if (ac_watch_put(loop, which, fd, parsed.leading[0], handle) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* _remove_reader and _remove_writer. */
static PyObject *
remove_handle_entered(LoopObject *loop, int which, PyObject *fileobj)
{
    if (AC_LOAD(loop->closed)) {
        Py_RETURN_FALSE;
    }
    ac_registration *found;
    int fd = ac_number_of(loop->state, fileobj);
    if (fd >= 0) {
        found = ac_watch_at_borrowed(loop, fd);
    }
    else if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        // as in selectors, the object itself is looked for
        found = ac_watch_as_borrowed(loop, fileobj);
        if (found == NULL) {
            return NULL;
        }
        PyErr_Clear();
    }
    else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();  // such a number is not registered
        found = NULL;
    }
    else {
        return NULL;
    }
    return PyBool_FromLong(found != NULL && ac_watch_remove(found, which));
}

static PyObject *
add_handle(LoopObject *loop, int which, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    if (ac_owner_enter_or_raise(loop) < 0) {
        return NULL;
    }
    PyObject *handle = add_handle_entered(loop, which, args, nargs, kwnames);
    ac_owner_leave(loop);
    return handle;
}

static PyObject *
remove_handle(LoopObject *loop, int which, PyObject *fileobj)
{
    if (ac_owner_enter_or_raise(loop) < 0) {
        return NULL;
    }
    PyObject *result = remove_handle_entered(loop, which, fileobj);
    ac_owner_leave(loop);
    return result;
}

PyDoc_STRVAR(loop__add_reader_doc,
             "_add_reader($self, /, fd, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) whenever fd is readable; returns the Handle.");

static PyObject *
loop__add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return add_handle((LoopObject *)self, AC_WATCH_READER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop__add_writer_doc,
             "_add_writer($self, /, fd, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) whenever fd is writable; returns the Handle.");

static PyObject *
loop__add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return add_handle((LoopObject *)self, AC_WATCH_WRITER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop__remove_reader_doc, "_remove_reader($self, fd, /)\n--\n\n"
                                      "True if there was a reader.");

static PyObject *
loop__remove_reader(PyObject *self, PyObject *fd)
{
    return remove_handle((LoopObject *)self, AC_WATCH_READER, fd);
}

PyDoc_STRVAR(loop__remove_writer_doc, "_remove_writer($self, fd, /)\n--\n\n"
                                      "True if there was a writer.");

static PyObject *
loop__remove_writer(PyObject *self, PyObject *fd)
{
    return remove_handle((LoopObject *)self, AC_WATCH_WRITER, fd);
}

/* Raises RuntimeError where a transport uses the number. Returns 0, or -1. */
static int
ensure_free(LoopObject *loop, PyObject *fileobj)
{
    if (ac_owner_enter_or_raise(loop) < 0) {
        return -1;
    }
    int rc = ac_number_ensure_free(loop, fileobj);
    ac_owner_leave(loop);
    return rc;
}

/* add_reader and add_writer: (fd, callback, *args). */
static PyObject *
add_checked(LoopObject *loop, int which, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    ac_state *state = loop->state;
    PyObject *const names[] = {state->str_fd, state->str_callback};
    ac_args parsed;
    if (ac_args_parse(&parsed,
                      which == AC_WATCH_READER ? "BaseSelectorEventLoop.add_reader"
                                               : "BaseSelectorEventLoop.add_writer",
                      names, 2, NULL, args, nargs, kwnames)
            < 0
        || ensure_free(loop, parsed.leading[0]) < 0)
    {
        return NULL;
    }
    PyObject *handle = add_handle(loop, which, args, nargs, kwnames);
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

/* remove_reader and remove_writer: (fd). */
static PyObject *
remove_checked(LoopObject *loop, int which, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    const char *function = which == AC_WATCH_READER
                               ? "BaseSelectorEventLoop.remove_reader"
                               : "BaseSelectorEventLoop.remove_writer";
    ac_args parsed;
    if (ac_args_parse(&parsed, function, &loop->state->str_fd, 1, NULL, args, nargs,
                      kwnames)
        < 0)
    {
        return NULL;
    }
    if (parsed.nrest > 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 2 positional arguments but %zd were given", function,
                     parsed.nrest + 2);
        return NULL;
    }
    if (ensure_free(loop, parsed.leading[0]) < 0) {
        return NULL;
    }
    return remove_handle(loop, which, parsed.leading[0]);
}

PyDoc_STRVAR(
    loop_add_reader_doc,
    "add_reader($self, /, fd, callback, *args)\n--\n\n"
    "Call callback(*args) whenever fd is readable.\n\n"
    "Counterpart of asyncio's. RuntimeError if a transport uses fd, OSError if\n"
    "it cannot be watched (PermissionError for a regular file).");

static PyObject *
loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return add_checked((LoopObject *)self, AC_WATCH_READER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_add_writer_doc,
             "add_writer($self, /, fd, callback, *args)\n--\n\n"
             "Call callback(*args) whenever fd is writable; see add_reader.");

static PyObject *
loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return add_checked((LoopObject *)self, AC_WATCH_WRITER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_remove_reader_doc, "remove_reader($self, /, fd)\n--\n\n"
                                     "Return True if there was a reader to remove.");

static PyObject *
loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return remove_checked((LoopObject *)self, AC_WATCH_READER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_remove_writer_doc, "remove_writer($self, /, fd)\n--\n\n"
                                     "Return True if there was a writer to remove.");

static PyObject *
loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return remove_checked((LoopObject *)self, AC_WATCH_WRITER, args, nargs, kwnames);
}

PyDoc_STRVAR(
    loop__watched_doc,
    "_watched($self, fd, /)\n--\n\n"
    "The (reader, writer) handles of fd, None for each that is not there; None\n"
    "if fd is not watched, or by a loop that another thread runs.");

static PyObject *
loop__watched(PyObject *self, PyObject *fileobj)
{
    LoopObject *loop = (LoopObject *)self;
    int fd = ac_number_of(loop->state, fileobj);
    if (fd < 0) {
        return NULL;
    }
    PyObject *handles = Py_NewRef(Py_None);
    if (!ac_owner_enter(loop)) {  // a repr asks, which shall not fail
        return handles;
    }
    ac_registration *found = ac_watch_at_borrowed(loop, fd);
    if (found != NULL) {
        PyObject *reader = ac_watch_handle_borrowed(found, AC_WATCH_READER);
        PyObject *writer = ac_watch_handle_borrowed(found, AC_WATCH_WRITER);
        handles = PyTuple_Pack(2, reader == NULL ? Py_None : reader,
                               writer == NULL ? Py_None : writer);
    }
    ac_owner_leave(loop);
    return handles;
}

PyDoc_STRVAR(loop__ensure_number_free_doc,
             "_ensure_number_free($self, fileobj, /)\n--\n\n"
             "_ensure_fd_no_transport(), not called if no transport can have it.");

static PyObject *
loop__ensure_number_free(PyObject *self, PyObject *fileobj)
{
    if (ac_number_ensure_free((LoopObject *)self, fileobj) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef add_reader_methods[] = {
    {"add_reader", AC_CFUNCTION(loop_add_reader), METH_FASTCALL | METH_KEYWORDS,
     loop_add_reader_doc},
    {"add_writer", AC_CFUNCTION(loop_add_writer), METH_FASTCALL | METH_KEYWORDS,
     loop_add_writer_doc},
    {"remove_reader", AC_CFUNCTION(loop_remove_reader), METH_FASTCALL | METH_KEYWORDS,
     loop_remove_reader_doc},
    {"remove_writer", AC_CFUNCTION(loop_remove_writer), METH_FASTCALL | METH_KEYWORDS,
     loop_remove_writer_doc},
    {"_watched", loop__watched, METH_O, loop__watched_doc},
    {"_ensure_number_free", loop__ensure_number_free, METH_O,
     loop__ensure_number_free_doc},
    {"_add_reader", AC_CFUNCTION(loop__add_reader), METH_FASTCALL | METH_KEYWORDS,
     loop__add_reader_doc},
    {"_add_writer", AC_CFUNCTION(loop__add_writer), METH_FASTCALL | METH_KEYWORDS,
     loop__add_writer_doc},
    {"_remove_reader", loop__remove_reader, METH_O, loop__remove_reader_doc},
    {"_remove_writer", loop__remove_writer, METH_O, loop__remove_writer_doc},
    {NULL, NULL, 0, NULL},
};

int
ac_add_reader_register(ac_state *state)
{
    return ac_state_add_methods(state->Loop, add_reader_methods);
}
