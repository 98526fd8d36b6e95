/* add_reader, add_writer: one FdHandles object for each watched number holds the
 * two handles and a foreign watcher. In the place of a handle there may be a waiter.
 *
 * The loop owns it while one of the handles is there. Numbers may be closed and
 * reused at any moment: the poller takes care of that, this file of what the
 * methods of BaseSelectorEventLoop return and raise. */
#include "core/python.h"

#include "core/args.h"
#include "core/plain.h"
#include "io/watch.h"
#include "loop/freelist.h"
#include "loop/handle.h"
#include "loop/poller.h"
#include "loop/ready.h"

#include <stddef.h>

typedef struct {
    PyObject_HEAD
    LoopObject *loop; /* owned */
    ac_open open;
    ac_watcher *watcher;  /* NULL once ended */
    PyObject *fileobj;    /* what the user named, when it is no int */
    PyObject *handles[2]; /* owned: reader, writer; NULL where there is none */
    const ac_waiter_ops *waiters[2]; /* NULL for a handle */
} FdHandlesObject;

enum {
    READER,
    WRITER
};

static const unsigned int event_of[] = {AC_READ, AC_WRITE};

static int
index_of(unsigned int event)
{
    return event == AC_READ ? READER : WRITER;
}

/* ------------------------------------------------------------------- object -- */

/* Takes the handle or waiter out of its place; a waiter is told. Returns a new
 * reference, or NULL where there is none. */
static PyObject *
fd_handles_take(FdHandlesObject *self, int which)
{
    PyObject *handle = self->handles[which];
    const ac_waiter_ops *waiter = self->waiters[which];
    self->handles[which] = NULL;
    self->waiters[which] = NULL;
    if (waiter != NULL) {
        waiter->dropped(handle);
    }
    return handle;
}

/* Ends the registration; the object goes with the loop's reference. */
static void
fd_handles_end(FdHandlesObject *self)
{
    ac_watcher *watcher = self->watcher;
    if (watcher == NULL) {
        return;
    }
    self->watcher = NULL;
    ac_watcher_close(watcher, -1);  // the number is the user's
    ac_loop_open_remove(&self->open);
    ac_loop_release(&self->open);  // may free self
}

static void
fd_handles_on_loop_close(ac_open *node)
{
    FdHandlesObject *self = (FdHandlesObject *)node->object;
    ac_watcher *watcher = self->watcher;
    self->watcher = NULL;
    ac_watcher_close(watcher, -1);
}

static int
run_waiter(LoopObject *loop, const ac_waiter_ops *ops, PyObject *waiter)
{
    if (loop->instrumented) {
        return ac_ready_run_instrumented(loop, waiter, loop->state->str__ready, NULL);
    }
    return ops->ready(waiter);
}

/* Takes out a handle that was cancelled by itself. Returns 0, or -1 with an exception.
 */
static int
drop_cancelled(FdHandlesObject *self, int which)
{
    int other = 1 - which;
    Py_CLEAR(self->handles[which]);
    if (self->handles[other] == NULL) {
        fd_handles_end(self);
        return 0;
    }
    return ac_watcher_set(self->watcher, event_of[other]);
}

/* The event of a watched number: the reader, then the writer, as _process_events
 * has them. One that was cancelled by itself is taken out. */
static int
on_fd_ready(ac_watcher *watcher, unsigned int events)
{
    LoopObject *loop = watcher->loop;
    FdHandlesObject *self = (FdHandlesObject *)Py_NewRef(watcher->owner);
    PyObject *due[2] = {NULL, NULL};
    const ac_waiter_ops *waiters[2] = {self->waiters[READER], self->waiters[WRITER]};
    for (int i = 0; i < 2; i++) {
        if (events & event_of[i]) {
            due[i] = Py_XNewRef(self->handles[i]);
        }
    }
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        if (due[i] == NULL) {
            continue;
        }
        if (rc == 0 && waiters[i] != NULL) {
            if (self->handles[i] == due[i]) {  // not taken out by the first of the two
                rc = run_waiter(loop, waiters[i], due[i]);
            }
        }
        else if (rc == 0 && ((HandleObject *)due[i])->cancelled == Py_True) {
            if (self->handles[i] == due[i] && self->watcher != NULL) {
                rc = drop_cancelled(self, i);
            }
        }
        else if (rc == 0) {
            rc = ac_ready_run(loop, due[i]);
        }
        Py_DECREF(due[i]);
    }
    Py_DECREF(self);
    return rc;
}

static int
fd_handles_traverse(PyObject *op, visitproc visit, void *arg)
{
    FdHandlesObject *self = (FdHandlesObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->fileobj);
    Py_VISIT(self->handles[READER]);
    Py_VISIT(self->handles[WRITER]);
    return 0;
}

static int
fd_handles_clear(PyObject *op)
{
    FdHandlesObject *self = (FdHandlesObject *)op;
    Py_CLEAR(self->fileobj);
    for (int i = 0; i < 2; i++) {
        PyObject *handle = fd_handles_take(self, i);
        Py_XDECREF(handle);
    }
    return 0;
}

static void
fd_handles_dealloc(PyObject *op)
{
    LoopObject *loop = ((FdHandlesObject *)op)->loop;
    PyObject_GC_UnTrack(op);
    (void)fd_handles_clear(op);
    ac_freelist_free(op, loop, &loop->fd_handles);
}

/* --------------------------------------------------------------- registering -- */

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

/* The number of an int or of an object with fileno(), as
 * selectors._fileobj_to_fd. Returns -1 with ValueError, or with OverflowError for a
 * number that no descriptor has. */
static int
fileobj_number(ac_state *state, PyObject *fileobj)
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

/* The registration of a number, or NULL. Borrowed. */
static FdHandlesObject *
registered_at(LoopObject *loop, int fd)
{
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    if (watcher == NULL || watcher->on_ready != on_fd_ready) {
        return NULL;
    }
    return watcher->owner;
}

/* The registration of a file object that has lost its number (a closed socket). */
static FdHandlesObject *
registered_as(LoopObject *loop, PyObject *fileobj)
{
    for (ac_open *node = loop->open_head.next; node != &loop->open_head;
         node = node->next) {
        if (node->on_loop_close == fd_handles_on_loop_close
            && ((FdHandlesObject *)node->object)->fileobj == fileobj)
        {
            return (FdHandlesObject *)node->object;
        }
    }
    return NULL;
}

static FdHandlesObject *
register_number(LoopObject *loop, int fd, PyObject *fileobj)
{
    FdHandlesObject *self = (FdHandlesObject *)ac_freelist_new(
        &loop->fd_handles, loop->state->FdHandles, sizeof(FdHandlesObject));
    if (self == NULL) {
        return NULL;
    }
    memset(&self->loop, 0, sizeof(*self) - offsetof(FdHandlesObject, loop));
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    PyObject_GC_Track(self);
    self->open.object = (PyObject *)self;
    self->open.on_loop_close = fd_handles_on_loop_close;
    self->fileobj =
        fileobj == NULL || PyLong_CheckExact(fileobj) ? NULL : Py_NewRef(fileobj);
    self->watcher = ac_watcher_new(loop, AC_WATCHER_FOREIGN, fd, on_fd_ready, self);
    if (self->watcher == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    ac_loop_open_add(loop, &self->open);
    ac_loop_hold(&self->open);
    Py_DECREF(self);  // the loop's reference is the one that keeps it
    return self;
}

/* Drops what has lost its place: a handle is cancelled, a waiter was told. */
static void
cancel_steal(ac_state *state, PyObject *handle)
{
    if (handle == NULL || !Py_IS_TYPE(handle, state->Handle)) {
        Py_XDECREF(handle);
        return;
    }
    if (ac_handle_cancel(handle) < 0) {
        PyErr_WriteUnraisable(handle);  // a repr that fails in debug mode
    }
    Py_DECREF(handle);
}

/* Puts a handle in its place, or a waiter, which learns its registration, and watches
 * the number. `user` as in ac_watch_wait. Returns 0, or -1 with an exception. */
static int
put_in_place(LoopObject *loop, int which, int fd, PyObject *fileobj, const void *user,
             PyObject *handle, const ac_waiter_ops *waiter,
             ac_registration **registration)
{
    FdHandlesObject *self = registered_at(loop, fd);
    if (self == NULL) {
        self = register_number(loop, fd, fileobj);
        if (self == NULL) {
            return -1;
        }
    }
    unsigned int wanted = event_of[which];
    if (self->handles[1 - which] != NULL) {
        wanted |= event_of[1 - which];
    }
    self->watcher->user = user;
    if (ac_watcher_set(self->watcher, wanted) < 0) {
        if (self->handles[READER] == NULL && self->handles[WRITER] == NULL) {
            fd_handles_end(self);
        }
        return -1;
    }
    ac_watcher_forget(self->watcher, event_of[which]);  // it was for the old handle
    PyObject *old = fd_handles_take(self, which);
    self->handles[which] = Py_NewRef(handle);
    self->waiters[which] = waiter;
    if (waiter != NULL) {
        *registration = (ac_registration *)self;
    }
    if (old != NULL) {
        cancel_steal(loop->state, old);  // runs Python: the last thing that is done
    }
    return 0;
}

/* _add_reader and _add_writer: (fd, callback, *args, context=None). */
static PyObject *
add_handle(LoopObject *loop, int which, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    ac_state *state = loop->state;
    PyObject *const names[] = {state->str_fd, state->str_callback};
    ac_args parsed;
    if (ac_args_parse(&parsed, which == READER ? "_add_reader" : "_add_writer", names,
                      2, state->str_context, args, nargs, kwnames)
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
    int fd = fileobj_number(state, parsed.leading[0]);
    if (fd < 0 || ac_loop_check_closed(loop) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    if (put_in_place(loop, which, fd, parsed.leading[0], NULL, handle, NULL, NULL) < 0)
    {
        Py_CLEAR(handle);
    }
    return handle;
}

/* The place is empty: no event is wanted for it. May free self; the exception being
 * raised, if any, stays. */
static void
unwatch(FdHandlesObject *self, int which)
{
    if (self->watcher == NULL) {
        return;  // the loop is being closed
    }
    if (self->handles[1 - which] == NULL) {
        fd_handles_end(self);
        return;
    }
    PyObject *exc = ac_err_take();
    if (ac_watcher_set(self->watcher, event_of[1 - which]) < 0) {
        PyErr_Clear();  // the number is closed: nothing is watched any more
    }
    if (exc != NULL) {
        ac_err_restore_steal(exc);
    }
}

/* _remove_reader and _remove_writer. */
static PyObject *
remove_handle(LoopObject *loop, int which, PyObject *fileobj)
{
    if (loop->closed) {
        Py_RETURN_FALSE;
    }
    FdHandlesObject *self;
    int fd = fileobj_number(loop->state, fileobj);
    if (fd >= 0) {
        self = registered_at(loop, fd);
    }
    else if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        // as in selectors, the object itself is looked for
        self = registered_as(loop, fileobj);
        if (self == NULL) {
            return NULL;
        }
        PyErr_Clear();
    }
    else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();  // such a number is not registered
        self = NULL;
    }
    else {
        return NULL;
    }
    if (self == NULL) {
        Py_RETURN_FALSE;
    }
    PyObject *handle = fd_handles_take(self, which);
    unwatch(self, which);
    if (handle == NULL) {
        Py_RETURN_FALSE;
    }
    cancel_steal(loop->state, handle);
    Py_RETURN_TRUE;
}

/* ------------------------------------------------------------------- methods -- */

PyDoc_STRVAR(loop__add_reader_doc,
             "_add_reader($self, /, fd, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) whenever fd is readable; returns the Handle.");

static PyObject *
loop__add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return add_handle((LoopObject *)self, READER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop__add_writer_doc,
             "_add_writer($self, /, fd, callback, *args, context=None)\n--\n\n"
             "Call callback(*args) whenever fd is writable; returns the Handle.");

static PyObject *
loop__add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return add_handle((LoopObject *)self, WRITER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop__remove_reader_doc, "_remove_reader($self, fd, /)\n--\n\n"
                                      "True if there was a reader.");

static PyObject *
loop__remove_reader(PyObject *self, PyObject *fd)
{
    return remove_handle((LoopObject *)self, READER, fd);
}

PyDoc_STRVAR(loop__remove_writer_doc, "_remove_writer($self, fd, /)\n--\n\n"
                                      "True if there was a writer.");

static PyObject *
loop__remove_writer(PyObject *self, PyObject *fd)
{
    return remove_handle((LoopObject *)self, WRITER, fd);
}

/* True if no transport can have the number: the usual case, told without Python. */
static bool
surely_no_transport(LoopObject *loop, int fd)
{
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    if (ac_watcher_of_own(loop, fd) != NULL
        || (watcher != NULL && watcher->on_ready != on_fd_ready))
    {
        return false;
    }
    return loop->transports_data != NULL && PyDict_GET_SIZE(loop->transports_data) == 0;
}

/* BaseSelectorEventLoop._ensure_fd_no_transport. Returns 0, or -1 with an exception. */
static int
ensure_no_transport(LoopObject *loop, PyObject *fileobj)
{
    int fd = plain_number(loop->state, fileobj);
    if (fd >= 0 && surely_no_transport(loop, fd)) {
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->state->str__ensure_fd_no_transport, fileobj);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* add_reader and add_writer: (fd, callback, *args). */
static PyObject *
add_checked(LoopObject *loop, int which, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    ac_state *state = loop->state;
    PyObject *const names[] = {state->str_fd, state->str_callback};
    ac_args parsed;
    if (ac_args_parse(&parsed, which == READER ? "add_reader" : "add_writer", names, 2,
                      NULL, args, nargs, kwnames)
            < 0
        || ensure_no_transport(loop, parsed.leading[0]) < 0)
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
    const char *function = which == READER ? "remove_reader" : "remove_writer";
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
    if (ensure_no_transport(loop, parsed.leading[0]) < 0) {
        return NULL;
    }
    return remove_handle(loop, which, parsed.leading[0]);
}

int
ac_watch_ensure_no_transport(LoopObject *loop, int fd)
{
    if (fd >= 0 && surely_no_transport(loop, fd)) {
        return 0;
    }
    PyObject *number = PyLong_FromLong(fd);
    int rc = number == NULL ? -1 : ensure_no_transport(loop, number);
    Py_XDECREF(number);
    return rc;
}

/* -------------------------------------------------------------------- waiters -- */

int
ac_watch_wait(LoopObject *loop, int fd, const void *user, unsigned int event,
              PyObject *waiter, const ac_waiter_ops *ops,
              ac_registration **registration)
{
    if (ac_loop_check_closed(loop) < 0) {
        return -1;
    }
    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        return -1;
    }
    return put_in_place(loop, index_of(event), fd, NULL, user, waiter, ops,
                        registration);
}

void
ac_watch_end(ac_registration *registration, unsigned int event)
{
    FdHandlesObject *self = (FdHandlesObject *)registration;
    int which = index_of(event);
    PyObject *waiter = self->handles[which];
    assert(self->waiters[which] != NULL);
    self->handles[which] = NULL;
    self->waiters[which] = NULL;
    unwatch(self, which);
    Py_DECREF(waiter);
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
    return add_checked((LoopObject *)self, READER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_add_writer_doc,
             "add_writer($self, /, fd, callback, *args)\n--\n\n"
             "Call callback(*args) whenever fd is writable; see add_reader.");

static PyObject *
loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return add_checked((LoopObject *)self, WRITER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_remove_reader_doc, "remove_reader($self, /, fd)\n--\n\n"
                                     "Return True if there was a reader to remove.");

static PyObject *
loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return remove_checked((LoopObject *)self, READER, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_remove_writer_doc, "remove_writer($self, /, fd)\n--\n\n"
                                     "Return True if there was a writer to remove.");

static PyObject *
loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return remove_checked((LoopObject *)self, WRITER, args, nargs, kwnames);
}

PyDoc_STRVAR(
    loop__watched_doc,
    "_watched($self, fd, /)\n--\n\n"
    "The (reader, writer) handles of fd, None for each that is not there; None\n"
    "if fd is not watched.");

static PyObject *
loop__watched(PyObject *self, PyObject *fileobj)
{
    LoopObject *loop = (LoopObject *)self;
    int fd = fileobj_number(loop->state, fileobj);
    if (fd < 0) {
        return NULL;
    }
    FdHandlesObject *found = registered_at(loop, fd);
    if (found == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *reader = found->handles[READER], *writer = found->handles[WRITER];
    return PyTuple_Pack(2, reader == NULL ? Py_None : reader,
                        writer == NULL ? Py_None : writer);
}

static PyMethodDef watch_methods[] = {
    {"add_reader", (PyCFunction)(void (*)(void))loop_add_reader,
     METH_FASTCALL | METH_KEYWORDS, loop_add_reader_doc},
    {"add_writer", (PyCFunction)(void (*)(void))loop_add_writer,
     METH_FASTCALL | METH_KEYWORDS, loop_add_writer_doc},
    {"remove_reader", (PyCFunction)(void (*)(void))loop_remove_reader,
     METH_FASTCALL | METH_KEYWORDS, loop_remove_reader_doc},
    {"remove_writer", (PyCFunction)(void (*)(void))loop_remove_writer,
     METH_FASTCALL | METH_KEYWORDS, loop_remove_writer_doc},
    {"_watched", loop__watched, METH_O, loop__watched_doc},
    {"_add_reader", (PyCFunction)(void (*)(void))loop__add_reader,
     METH_FASTCALL | METH_KEYWORDS, loop__add_reader_doc},
    {"_add_writer", (PyCFunction)(void (*)(void))loop__add_writer,
     METH_FASTCALL | METH_KEYWORDS, loop__add_writer_doc},
    {"_remove_reader", loop__remove_reader, METH_O, loop__remove_reader_doc},
    {"_remove_writer", loop__remove_writer, METH_O, loop__remove_writer_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fd_handles_slots[] = {
    {Py_tp_doc, "The reader and the writer of one file descriptor."},
    {Py_tp_dealloc, fd_handles_dealloc},
    {Py_tp_traverse, fd_handles_traverse},
    {Py_tp_clear, fd_handles_clear},
    {0, NULL},
};

static PyType_Spec fd_handles_spec = {
    .name = "asynccore._core._FdHandles",
    .basicsize = sizeof(FdHandlesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = fd_handles_slots,
};

int
ac_watch_register(PyObject *module, ac_state *state)
{
    state->FdHandles = ac_state_add_type(module, &fd_handles_spec, NULL);
    if (state->FdHandles == NULL) {
        return -1;
    }
    return ac_loop_add_methods(state, watch_methods);
}
