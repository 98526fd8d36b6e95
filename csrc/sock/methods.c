/* The sock_* methods of the loop. */
#include "core/python.h"

#include "sock/connect.h"
#include "sock/incoming.h"
#include "sock/methods.h"
#include "sock/receive.h"
#include "sock/transmit.h"

/* In the order of state->standard_sock. */
static const ac_operation_kind *const kinds[] = {
    &ac_receive_recv,          &ac_receive_recv_into, &ac_receive_recvfrom,
    &ac_receive_recvfrom_into, &ac_transmit_sendall,  &ac_transmit_sendto,
    &ac_incoming_accept,       &ac_connect,
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

enum {
    RECV,
    RECV_INTO,
    RECVFROM,
    RECVFROM_INTO,
    SENDALL,
    SENDTO,
    ACCEPT,
    CONNECT,
};

PyDoc_STRVAR(loop_sock_recv_doc,
             "sock_recv($self, /, sock, n)\n--\n\n"
             "Receive up to n bytes. Counterpart of asyncio's, as are its siblings.");

static PyObject *
loop_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    return ac_operation_new(self, kinds[RECV], RECV, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_sock_recv_into_doc, "sock_recv_into($self, /, sock, buf)\n--\n\n"
                                      "Receive into a buffer, return how many bytes.");

static PyObject *
loop_sock_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    return ac_operation_new(self, kinds[RECV_INTO], RECV_INTO, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_sock_recvfrom_doc,
             "sock_recvfrom($self, /, sock, bufsize)\n--\n\n"
             "Receive a datagram, return its bytes and where it came from.");

static PyObject *
loop_sock_recvfrom(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return ac_operation_new(self, kinds[RECVFROM], RECVFROM, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_sock_recvfrom_into_doc,
             "sock_recvfrom_into($self, /, sock, buf, nbytes=0)\n--\n\n"
             "Receive a datagram into a buffer, return its size and where it came "
             "from.");

static PyObject *
loop_sock_recvfrom_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    return ac_operation_new(self, kinds[RECVFROM_INTO], RECVFROM_INTO, args, nargs,
                            kwnames);
}

PyDoc_STRVAR(loop_sock_sendall_doc,
             "sock_sendall($self, /, sock, data)\n--\n\n"
             "Send all of the data. Cancelled, it may have sent a part.");

static PyObject *
loop_sock_sendall(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return ac_operation_new(self, kinds[SENDALL], SENDALL, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_sock_sendto_doc, "sock_sendto($self, /, sock, data, address)\n--\n\n"
                                   "Send a datagram, return its size.");

static PyObject *
loop_sock_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return ac_operation_new(self, kinds[SENDTO], SENDTO, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_sock_accept_doc,
             "sock_accept($self, /, sock)\n--\n\n"
             "Accept a connection, return its non-blocking socket and the address.");

static PyObject *
loop_sock_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return ac_operation_new(self, kinds[ACCEPT], ACCEPT, args, nargs, kwnames);
}

PyDoc_STRVAR(loop_sock_connect_doc, "sock_connect($self, /, sock, address)\n--\n\n"
                                    "Connect to an address.");

static PyObject *
loop_sock_connect(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return ac_operation_new(self, kinds[CONNECT], CONNECT, args, nargs, kwnames);
}

#define METHOD(name)                                                     \
    {                                                                    \
#name, AC_CFUNCTION(loop_##name), METH_FASTCALL | METH_KEYWORDS, \
            loop_##name##_doc,                                           \
    }

static PyMethodDef sock_methods[] = {
    METHOD(sock_recv),          METHOD(sock_recv_into), METHOD(sock_recvfrom),
    METHOD(sock_recvfrom_into), METHOD(sock_sendall),   METHOD(sock_sendto),
    METHOD(sock_accept),        METHOD(sock_connect),   {NULL, NULL, 0, NULL},
};

#undef METHOD

/* The methods of the standard loop, for what is left to them, and for their names. */
static PyObject *
standard_methods(void)
{
    PyObject *type = ac_state_import("asyncio", "SelectorEventLoop");
    PyObject *found = type == NULL ? NULL : PyTuple_New(KINDS);
    for (size_t i = 0; found != NULL && i < KINDS; i++) {
        PyObject *function = PyObject_GetAttrString(type, kinds[i]->name);
        if (function == NULL) {
            Py_CLEAR(found);
        }
        else {
            PyTuple_SET_ITEM(found, (Py_ssize_t)i, function);
        }
    }
    Py_XDECREF(type);
    return found;
}

int
ac_methods_register(PyObject *module, ac_state *state)
{
    state->standard_sock = standard_methods();
    if (state->standard_sock == NULL || ac_operation_register(module, state) < 0) {
        return -1;
    }
    return ac_state_add_methods(state->Loop, sock_methods);
}
