/* As a stream transport's (stream/life.c): sendto, close and abort are left to the
 * thread that runs the loop; what cannot wait is refused. */
#include "core/python.h"

#include "core/args.h"
#include "datagram/elsewhere.h"
#include "loop/owner.h"
#include "loop/ready.h"

#if AC_FREE_THREADED

/* The loop, whoever takes it out meanwhile: a new reference; NULL if it has none, or
 * another one than ours. */
static LoopObject *
loop_of(DatagramObject *self)
{
    AC_LOCK_OBJECT(self);
    PyObject *loop = Py_XNewRef(self->loop);
    AC_UNLOCK_OBJECT(self);
    if (loop != NULL && !PyObject_TypeCheck(loop, self->state->Loop)) {
        Py_CLEAR(loop);
    }
    return (LoopObject *)loop;
}

/* The loop, if that is another thread's: a new reference. NULL: go on. */
static LoopObject *
foreign_loop(DatagramObject *self)
{
    LoopObject *loop = loop_of(self);
    if (loop != NULL && !ac_owner_is_another(loop)) {
        Py_CLEAR(loop);
    }
    return loop;
}

int
ac_elsewhere_check(DatagramObject *self)
{
    LoopObject *loop = loop_of(self);
    int rc = loop == NULL ? 0 : ac_owner_check(loop);
    Py_XDECREF(loop);
    return rc;
}

/* call_soon_threadsafe(self.sendto, bytes(data), address) */
static PyObject *
send_threadsafe(DatagramObject *self, LoopObject *loop, PyObject *data,
                PyObject *address)
{
    PyObject *bytes = PyBytes_FromObject(data);  // itself, if it is
    PyObject *method =
        bytes == NULL ? NULL : PyObject_GetAttrString((PyObject *)self, "sendto");
    PyObject *handle =
        method == NULL ? NULL
                       : PyObject_CallMethod((PyObject *)loop, "call_soon_threadsafe",
                                             "OOO", method, bytes, address);
    Py_XDECREF(method);
    Py_XDECREF(bytes);
    return handle;
}

int
ac_elsewhere_send(DatagramObject *self, PyObject *data, PyObject *address)
{
    LoopObject *loop = ac_args_is_data(data) ? foreign_loop(self) : NULL;
    if (loop == NULL) {
        return 0;
    }
    PyObject *handle = send_threadsafe(self, loop, data, address);
    Py_XDECREF(handle);
    Py_DECREF(loop);
    return handle == NULL ? -1 : 1;
}

/* The standard's method of this name, or by the loop's thread. */
static PyObject *
end(PyObject *op, const char *name)
{
    DatagramObject *self = (DatagramObject *)op;
    LoopObject *loop = foreign_loop(self);
    if (loop != NULL) {
        int rc = loop->debug ? ac_owner_check(loop) : 0;
        if (rc == 0) {
            rc = ac_ready_hand_over_steal(loop, PyObject_GetAttrString(op, name), NULL);
        }
        Py_DECREF(loop);
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *super = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type,
                                                   self->state->Datagram, op, NULL);
    PyObject *result = super == NULL ? NULL : PyObject_CallMethod(super, name, NULL);
    Py_XDECREF(super);
    return result;
}

static PyObject *
datagram_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return end(op, "close");
}

static PyObject *
datagram_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return end(op, "abort");
}

PyMethodDef ac_elsewhere_methods[] = {
    {"close", datagram_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose the transport when all is sent."},
    {"abort", datagram_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose the transport at once."},
    {NULL, NULL, 0, NULL},
};

#endif
