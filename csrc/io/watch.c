/* What waits for descriptors of the user: one FdHandles object for each watched number
 * holds the handles of its reader and writer, and a foreign watcher. In the place of a
 * handle there may be a waiter.
 *
 * The loop owns it while one of the handles is there. Numbers may be closed and
 * reused at any moment: the poller takes care of that. */
#include "core/python.h"

#include "io/watch.h"
#include "loop/freelist.h"
#include "loop/handle.h"
#include "loop/owner.h"
#include "loop/ready.h"
#include "loop/watcher.h"

typedef struct ac_registration {
    PyObject_HEAD
    LoopObject *loop; /* owned */
    ac_open open;
    ac_watcher *watcher;  /* NULL once ended */
    PyObject *fileobj;    /* what the user named, when it is no int */
    PyObject *handles[2]; /* owned: reader, writer; NULL where there is none */
    const ac_waiter_ops *waiters[2]; /* NULL for a handle */
} FdHandlesObject;

static const unsigned int event_of[] = {AC_READ, AC_WRITE};

static int
index_of(unsigned int event)
{
    return event == AC_READ ? AC_WATCH_READER : AC_WATCH_WRITER;
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

/* The reader, then the writer, as _process_events has them. One that was cancelled by
 * itself is taken out. A writer behind a reader that ends the run comes first in the
 * next; an operation of a socket is left to the next poll. */
int
ac_watch_on_ready(ac_watcher *watcher, unsigned int events)
{
    LoopObject *loop = watcher->loop;
    FdHandlesObject *self = (FdHandlesObject *)Py_NewRef(watcher->owner);
    PyObject *due[2] = {NULL, NULL};
    const ac_waiter_ops *waiters[2] = {self->waiters[AC_WATCH_READER],
                                       self->waiters[AC_WATCH_WRITER]};
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
        else if (rc == 0 && AC_LOAD(((HandleObject *)due[i])->cancelled) == Py_True) {
            if (self->handles[i] == due[i] && self->watcher != NULL) {
                rc = drop_cancelled(self, i);
            }
        }
        else if (rc == 0) {
            rc = ac_ready_run(loop, due[i]);
        }
        else if (waiters[i] == NULL) {
            ac_ready_put_first_steal(loop, Py_NewRef(due[i]));
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
    Py_VISIT(self->handles[AC_WATCH_READER]);
    Py_VISIT(self->handles[AC_WATCH_WRITER]);
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

ac_registration *
ac_watch_at_borrowed(LoopObject *loop, int fd)
{
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    if (watcher == NULL || watcher->on_ready != ac_watch_on_ready) {
        return NULL;
    }
    return watcher->owner;
}

ac_registration *
ac_watch_as_borrowed(LoopObject *loop, PyObject *fileobj)
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
    FdHandlesObject *self = (FdHandlesObject *)ac_freelist_new_clear(
        AC_FREELIST_OF(loop, fd_handles), loop->state->FdHandles,
        sizeof(FdHandlesObject));
    if (self == NULL) {
        return NULL;
    }
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    PyObject_GC_Track(self);
    self->open.object = (PyObject *)self;
    self->open.on_loop_close = fd_handles_on_loop_close;
    self->fileobj =
        fileobj == NULL || PyLong_CheckExact(fileobj) ? NULL : Py_NewRef(fileobj);
    self->watcher =
        ac_watcher_new(loop, AC_WATCHER_FOREIGN, fd, ac_watch_on_ready, self);
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

/* The registration of a number, made if there is none. NULL with an exception. */
static FdHandlesObject *
registration_borrowed(LoopObject *loop, int fd, PyObject *fileobj)
{
    ac_watcher *watcher = ac_watcher_of_foreign(loop, fd);
    if (watcher != NULL && watcher->give_way != NULL && watcher->give_way(watcher) < 0)
    {
        return NULL;
    }
    FdHandlesObject *self = ac_watch_at_borrowed(loop, fd);
    return self != NULL ? self : register_number(loop, fd, fileobj);
}

/* Puts a handle in its place, or a waiter, which learns its registration, and watches
 * the number. `user` as in ac_watch_wait. Returns 0, or -1 with an exception. */
static int
put_in_place(LoopObject *loop, int which, int fd, PyObject *fileobj, const void *user,
             PyObject *handle, const ac_waiter_ops *waiter,
             ac_registration **registration)
{
    FdHandlesObject *self = registration_borrowed(loop, fd, fileobj);
    if (self == NULL) {
        return -1;
    }
    unsigned int wanted = event_of[which];
    if (self->handles[1 - which] != NULL) {
        wanted |= event_of[1 - which];
    }
    self->watcher->user = user;
    if (ac_watcher_set(self->watcher, wanted) < 0) {
        if (self->handles[AC_WATCH_READER] == NULL
            && self->handles[AC_WATCH_WRITER] == NULL) {
            fd_handles_end(self);
        }
        return -1;
    }
    ac_watcher_forget(self->watcher, event_of[which]);  // it was for the old handle
    PyObject *old = fd_handles_take(self, which);
    self->handles[which] = Py_NewRef(handle);
    self->waiters[which] = waiter;
    if (waiter != NULL) {
        *registration = self;
    }
    if (old != NULL) {
        cancel_steal(loop->state, old);  // runs Python: the last thing that is done
    }
    return 0;
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
    ac_err_restore_steal(exc);
}

int
ac_watch_put(LoopObject *loop, int which, int fd, PyObject *fileobj, PyObject *handle)
{
    return put_in_place(loop, which, fd, fileobj, NULL, handle, NULL, NULL);
}

bool
ac_watch_remove(ac_registration *self, int which)
{
    ac_state *state = self->loop->state;
    PyObject *handle = fd_handles_take(self, which);
    unwatch(self, which);
    if (handle == NULL) {
        return false;
    }
    cancel_steal(state, handle);
    return true;
}

PyObject *
ac_watch_handle_borrowed(const ac_registration *self, int which)
{
    return self->handles[which];
}

/* -------------------------------------------------------------------- waiters -- */

int
ac_watch_wait(LoopObject *loop, int fd, const void *user, unsigned int event,
              PyObject *waiter, const ac_waiter_ops *ops,
              ac_registration **registration)
{
    if (ac_loop_check_closed(loop) < 0 || ac_owner_check(loop) < 0) {
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
ac_watch_end(ac_registration *self, unsigned int event)
{
    int which = index_of(event);
    PyObject *waiter = self->handles[which];
    assert(self->waiters[which] != NULL);
    self->handles[which] = NULL;
    self->waiters[which] = NULL;
    unwatch(self, which);
    Py_DECREF(waiter);
}

/* ------------------------------------------------------------------- the type -- */

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
    return state->FdHandles == NULL ? -1 : 0;
}
