/* The descriptor of a stream.
 *
 * A number that nobody else knows (accepted, or connected by us) is ours: it is
 * closed by the stream and watched by libuv. A socket object that the user passed
 * stays the owner of its number: its close() is what closes, and as the user may
 * close or detach it at any moment, each use asks it first whether it still has the
 * number. When get_extra_info() makes a socket object for a number of ours, the
 * object becomes its owner, and is asked as well. So a number is closed once, by its
 * owner. */
#include "core/python.h"

#include "core/code.h"
#include "core/errors.h"
#include "core/method.h"
#include "core/nosignal.h"
#include "core/plain.h"
#include "stream/sock.h"
#include "stream/write.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROTO_UNKNOWN UINT16_MAX

/* ---------------------------------------------------------------------- ops -- */

static ssize_t
own_recv(StreamObject *self, void *data, size_t len)
{
    ssize_t n = recv(self->fd, data, len, 0);
    return n < 0 ? -errno : n;
}

static ssize_t
own_send(StreamObject *self, struct iovec *pieces, int n)
{
    ssize_t sent;
    if (n == 1) {
        sent = send(self->fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL);
    }
    else {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)n};
        sent = sendmsg(self->fd, &message, MSG_NOSIGNAL);
    }
    return sent < 0 ? -errno : sent;
}

static int
own_shutdown(StreamObject *self)
{
    return shutdown(self->fd, SHUT_WR) < 0 ? -errno : 0;
}

static const ac_stream_ops own_ops = {
    .recv = own_recv,
    .send = own_send,
    .shutdown = own_shutdown,
};

/* Whether the socket object still has the number. Calls the method of the C base
 * class, which runs no Python. */
static bool
shared_is_valid(StreamObject *self)
{
    PyObject *number =
        PyObject_CallOneArg(ac_stream_state(self)->socket_fileno, self->sock);
    if (number == NULL) {
        PyErr_Clear();  // out of memory
        return false;
    }
    bool valid = PyLong_AsLong(number) == self->fd;
    Py_DECREF(number);
    return valid;
}

static ssize_t
shared_recv(StreamObject *self, void *data, size_t len)
{
    return shared_is_valid(self) ? own_recv(self, data, len) : -EBADF;
}

static ssize_t
shared_send(StreamObject *self, struct iovec *pieces, int n)
{
    return shared_is_valid(self) ? own_send(self, pieces, n) : -EBADF;
}

static int
shared_shutdown(StreamObject *self)
{
    return shared_is_valid(self) ? own_shutdown(self) : -EBADF;
}

static const ac_stream_ops shared_ops = {
    .recv = shared_recv,
    .send = shared_send,
    .shutdown = shared_shutdown,
};

static ssize_t
gone_recv(StreamObject *Py_UNUSED(self), void *Py_UNUSED(data), size_t Py_UNUSED(len))
{
    return -EBADF;
}

static ssize_t
gone_send(StreamObject *Py_UNUSED(self), struct iovec *Py_UNUSED(pieces),
          int Py_UNUSED(n))
{
    return -EBADF;
}

static int
gone_shutdown(StreamObject *Py_UNUSED(self))
{
    return -EBADF;
}

static const ac_stream_ops gone_ops = {
    .recv = gone_recv,
    .send = gone_send,
    .shutdown = gone_shutdown,
};

void
ac_sock_abandon(StreamObject *self)
{
    self->ops = &gone_ops;
}

bool
ac_sock_is_valid(StreamObject *self)
{
    return self->ops != &shared_ops || shared_is_valid(self);
}

/* ----------------------------------------------------------------- adopting -- */

/* A socket's protocol as it is kept. */
static uint16_t
kept_proto(long proto)
{
    return proto >= 0 && proto < PROTO_UNKNOWN ? (uint16_t)proto : PROTO_UNKNOWN;
}

/* What a socket object says of itself. */
typedef struct {
    long fd, family, proto;
    int type; /* of a plain socket */
    bool plain;
} description;

/* Asks the object, which is a plain socket, or has to be asked by its methods. Returns
 * 0, or -1 with an exception. */
static int
describe(ac_state *state, PyObject *sock, description *of)
{
    int family, proto;
    int plain = ac_plain_is(state, sock);
    if (plain < 0) {
        return -1;
    }
    of->plain = plain && ac_plain_kind(state, sock, &family, &of->type, &proto);
    of->fd = of->plain ? ac_plain_number(state, sock)
                       : ac_method_number(sock, state->str_fileno);
    if (of->fd < 0 || of->fd > INT_MAX) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", of->fd);
        }
        return -1;
    }
    if (of->plain) {
        of->family = family;
        of->proto = proto;
        return 0;
    }
    of->family = ac_method_attribute_number(sock, state->str_family);
    if (of->family == -1 && PyErr_Occurred()) {
        return -1;
    }
    of->proto = ac_method_attribute_number(sock, state->str_proto);
    return of->proto == -1 && PyErr_Occurred() ? -1 : 0;
}

static bool
is_tcp(long family, long proto)
{
    return proto == IPPROTO_TCP && (family == AF_INET || family == AF_INET6);
}

static int
set_nodelay_fd(int fd)
{
    int on = 1;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* base_events._set_nodelay(sock), whose frames are needed if it is not the function
 * that is known, or the socket not plain. Returns 0, or -1 with an exception. */
static int
set_nodelay(ac_state *state, PyObject *sock, const description *of)
{
    PyObject *function = PyObject_GetAttr(state->base_events, state->str__set_nodelay);
    if (function == NULL) {
        return -1;
    }
    int rc = 0;
    if (of->plain && function == state->stock_set_nodelay) {
        if (of->type == SOCK_STREAM && is_tcp(of->family, of->proto)
            && set_nodelay_fd((int)of->fd) < 0)
        {
            (void)ac_errors_errno(errno);
            rc = -1;
        }
    }
    else {
        PyObject *result = PyObject_CallOneArg(function, sock);
        Py_XDECREF(result);
        rc = result == NULL ? -1 : 0;
    }
    Py_DECREF(function);
    return rc;
}

/* Reads both addresses, unless `has_peer`: then that one is in `extra`. */
static int
read_addresses(StreamObject *self, bool has_peer)
{
    struct sockaddr_storage sock, peer;
    socklen_t sock_len = sizeof(sock), peer_len = sizeof(peer);
    if (getsockname(self->fd, (struct sockaddr *)&sock, &sock_len) < 0) {
        sock_len = 0;
    }
    if (has_peer || getpeername(self->fd, (struct sockaddr *)&peer, &peer_len) < 0) {
        peer_len = 0;
    }
    self->addresses = ac_sockaddr_pair_new(&sock, sock_len, &peer, peer_len);
    return self->addresses == NULL ? -1 : 0;
}

/* Makes `extra`, unless it is there. Returns 0, or -1 with MemoryError. */
static int
extra_make(StreamObject *self)
{
    if (self->extra != NULL) {
        return 0;
    }
    PyObject *made = PyDict_New();
    if (made == NULL) {
        return -1;
    }
    AC_LOCK_OBJECT(self);
    if (self->extra == NULL) {  // else by what a collection has run
        self->extra = made;
        made = NULL;
    }
    AC_UNLOCK_OBJECT(self);
    Py_XDECREF(made);
    return 0;
}

/* extra[name] = sock.<method>(), None if that raises OSError. */
static int
ask_address(StreamObject *self, PyObject *sock, PyObject *method, PyObject *name)
{
    PyObject *address = PyObject_CallMethodNoArgs(sock, method);
    if (address == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return -1;
        }
        PyErr_Clear();
        address = Py_NewRef(Py_None);
    }
    int rc = PyDict_SetItem(self->extra, name, address);
    Py_DECREF(address);
    return rc;
}

/* The addresses of a family that only the socket object knows about. */
static int
ask_addresses(StreamObject *self, ac_state *state, PyObject *sock)
{
    if (extra_make(self) < 0
        || ask_address(self, sock, state->str_getsockname, state->str_sockname) < 0)
    {
        return -1;
    }
    self->flags |= AC_STREAM_HAS_SOCKNAME;
    if (!(self->flags & AC_STREAM_HAS_PEERNAME)
        && ask_address(self, sock, state->str_getpeername, state->str_peername) < 0)
    {
        return -1;
    }
    self->flags |= AC_STREAM_HAS_PEERNAME;
    return 0;
}

/* From here on the stream has a descriptor to give back. */
static void
adopted(StreamObject *self)
{
    self->flags &= ~(uint32_t)(AC_STREAM_CLOSED | AC_STREAM_LOST | AC_STREAM_CLOSING);
    self->conn_lost = 0;
}

int
ac_sock_adopt(StreamObject *self, ac_state *state, PyObject *sock, PyObject *extra,
              bool own)
{
    description of;
    if (describe(state, sock, &of) < 0 || set_nodelay(state, sock, &of) < 0) {
        return -1;
    }
    self->fd = (int)of.fd;
    self->proto = kept_proto(of.proto);
    Py_XSETREF(self->extra, Py_XNewRef(extra));
    if (extra != NULL) {
        int has_peer = PyDict_Contains(extra, state->str_peername);
        if (has_peer < 0) {
            return -1;
        }
        self->flags |= has_peer ? AC_STREAM_HAS_PEERNAME : 0;
    }
    int rc = ac_sockaddr_is_known((int)of.family)
                 ? read_addresses(self, self->flags & AC_STREAM_HAS_PEERNAME)
                 : ask_addresses(self, state, sock);
    if (rc < 0) {
        return -1;
    }
    self->ops = &own_ops;
    if (own) {
        if (ac_method_number(sock, state->str_detach) == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    else {
        Py_XSETREF(self->sock, Py_NewRef(sock));
        self->flags |= AC_STREAM_SHARED;
        if (PyObject_TypeCheck(sock, PyDescr_TYPE(state->socket_fileno))) {
            self->ops = &shared_ops;
        }
    }
    adopted(self);
    return 0;
}

int
ac_sock_adopt_fd(StreamObject *self, int fd, long proto,
                 const struct sockaddr_storage *peer, socklen_t peer_len)
{
    struct sockaddr_storage sock;
    socklen_t sock_len = sizeof(sock);
    if (getsockname(fd, (struct sockaddr *)&sock, &sock_len) < 0) {
        sock_len = 0;
    }
    self->addresses = ac_sockaddr_pair_new(&sock, sock_len, peer, peer_len);
    if (self->addresses == NULL) {
        return -1;
    }
    int family = ac_sockaddr_pair_family(self->addresses);
    if (is_tcp(family, proto)) {
        (void)set_nodelay_fd(fd);  // fails only for a dead connection
    }
    self->fd = fd;
    self->proto = kept_proto(proto);
    self->ops = &own_ops;
    adopted(self);
    return 0;
}

/* ------------------------------------------------------------ socket object -- */

/* socket.socket(family, type, proto, fileno=fd); a negative `fd` makes a new one. */
static PyObject *
make_socket(StreamObject *self, ac_state *state, int fd)
{
    int family = ac_sockaddr_pair_family(self->addresses);
    PyObject *args = Py_BuildValue(
        "(iii)", family == AF_UNSPEC ? (fd < 0 ? AF_UNIX : -1) : family, SOCK_STREAM,
        self->proto == PROTO_UNKNOWN ? (fd < 0 ? 0 : -1) : (int)self->proto);
    PyObject *keywords = fd < 0 ? PyDict_New() : Py_BuildValue("{si}", "fileno", fd);
    PyObject *sock = NULL;
    if (args != NULL && keywords != NULL) {
        sock = PyObject_Call(state->socket_type, args, keywords);
    }
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    return sock;
}

/* Takes the number out of a socket object again. Keeps the exception raised. */
static void
unmake_socket_steal(ac_state *state, PyObject *sock)
{
    PyObject *exc = ac_err_take();
    PyObject *number = PyObject_CallMethodNoArgs(sock, state->str_detach);
    if (number == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(number);
    Py_DECREF(sock);
    ac_err_restore_steal(exc);
}

/* A socket object that is closed, for whoever asks after the end. */
static PyObject *
closed_socket(StreamObject *self, ac_state *state)
{
    PyObject *sock = make_socket(self, state, -1);
    if (sock != NULL) {
        PyObject *result = PyObject_CallMethodNoArgs(sock, state->str_close);
        if (result == NULL) {
            Py_CLEAR(sock);
        }
        Py_XDECREF(result);
    }
    return sock;
}

PyObject *
ac_sock_object(StreamObject *self)
{
    if (self->flags & AC_STREAM_CLOSED) {
        Py_RETURN_NONE;
    }
    if (self->sock != NULL) {
        return Py_NewRef(self->sock);
    }
    ac_state *state = ac_stream_state(self);
    if (self->flags & AC_STREAM_ABANDONED) {
        return closed_socket(self, state);
    }
    PyObject *sock = make_socket(self, state, self->fd);
    if (sock == NULL) {
        return NULL;
    }
    PyObject *done = PyObject_CallMethodOneArg(sock, state->str_setblocking, Py_False);
    // Python code has run: somebody else may have been faster
    if (done == NULL || self->sock != NULL
        || self->flags & (AC_STREAM_CLOSED | AC_STREAM_ABANDONED))
    {
        unmake_socket_steal(state, sock);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
        return ac_sock_object(self);
    }
    Py_DECREF(done);
    self->sock = sock;
    // it may be closed or detached by whoever gets hold of it
    self->ops = &shared_ops;
    if (self->watcher != NULL) {
        self->watcher->exposed = true;
    }
    return Py_NewRef(sock);
}

int
ac_sock_close(StreamObject *self)
{
    int rc = 0;
    ac_state *state = ac_stream_state(self);
    ac_watcher *watcher = self->watcher;
    PyObject *sock = self->sock;
    self->watcher = NULL;
    AC_LOCK_OBJECT(self);
    self->sock = NULL;
    AC_UNLOCK_OBJECT(self);
    if (sock == NULL) {
        ac_watcher_close(watcher, self->fd);
    }
    else if (watcher != NULL && self->loop->polling) {
        // libuv lets go of the number when its thread gets to it, and then closes it
        long fd = ac_method_number(sock, state->str_detach);
        rc = PyErr_Occurred() ? -1 : 0;
        ac_watcher_close(watcher, (int)fd);
    }
    else {
        ac_watcher_close(watcher, -1);
        PyObject *result = PyObject_CallMethodNoArgs(sock, state->str_close);
        rc = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_XDECREF(sock);
    return rc;
}

/* --------------------------------------------------------------- extra info -- */

static PyObject *
make_transport_socket(StreamObject *self, ac_state *state)
{
    PyObject *sock = self->flags & AC_STREAM_CLOSED ? closed_socket(self, state)
                                                    : ac_sock_object(self);
    if (sock == NULL) {
        return NULL;
    }
    PyObject *wrapper = PyObject_CallOneArg(state->TransportSocket, sock);
    Py_DECREF(sock);
    return wrapper;
}

/* Puts the value of one key into `extra` unless it is there. Returns 0, or -1 with
 * an exception. */
static int
extra_need(StreamObject *self, ac_state *state, uint32_t flag)
{
    // whoever gets the socket may shut it down
    if (flag == AC_STREAM_HAS_SOCKET && ac_write_flush(self) < 0) {
        return -1;
    }
    if (self->flags & flag || self->fd < 0) {
        return 0;
    }
    PyObject *name, *value;
    if (flag == AC_STREAM_HAS_SOCKET) {
        name = state->str_socket;
        value = make_transport_socket(self, state);
    }
    else if (flag == AC_STREAM_HAS_SOCKNAME) {
        name = state->str_sockname;
        value = ac_sockaddr_pair_sock(self->addresses);
    }
    else {
        name = state->str_peername;
        value = ac_sockaddr_pair_peer(self->addresses);
    }
    if (value == NULL) {
        return -1;
    }
    int rc = extra_make(self);
    // making the socket object has run Python, which may have asked for it as well
    if (rc == 0 && !(self->flags & flag)) {
        rc = PyDict_SetItem(self->extra, name, value);
        self->flags |= rc < 0 ? 0 : flag;
    }
    Py_DECREF(value);
    return rc;
}

/* The key that has to be made for a name, or 0. -1 with an exception. */
static int64_t
extra_flag(ac_state *state, PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        return 0;
    }
    if (PyUnicode_Compare(name, state->str_socket) == 0) {
        return AC_STREAM_HAS_SOCKET;
    }
    if (PyUnicode_Compare(name, state->str_peername) == 0) {
        return AC_STREAM_HAS_PEERNAME;
    }
    return PyUnicode_Compare(name, state->str_sockname) == 0 ? AC_STREAM_HAS_SOCKNAME
                                                             : 0;
}

/* get_extra_info(name, default): new reference, NULL with an exception. */
static PyObject *
extra_info(StreamObject *self, PyObject *name, PyObject *fallback)
{
    ac_state *state = ac_stream_state(self);
    int64_t flag = extra_flag(state, name);
    if (ac_stream_check_thread(self) < 0) {
        return NULL;
    }
    if (flag != 0 && extra_need(self, state, (uint32_t)flag) < 0) {
        return NULL;
    }
    PyObject *value = NULL;
    if (self->extra != NULL) {
        PyObject *extra = Py_NewRef(self->extra);  // hashing may run Python
        value = Py_XNewRef(PyDict_GetItemWithError(extra, name));
        Py_DECREF(extra);
    }
    else if (PyObject_Hash(name) == -1) {  // what dict.get() does with it
        return NULL;
    }
    if (value == NULL && !PyErr_Occurred()) {
        value = Py_NewRef(fallback);
    }
    return value;
}

PyObject *
ac_sock_extra(StreamObject *self)
{
    ac_state *state = ac_stream_state(self);
    if (extra_need(self, state, AC_STREAM_HAS_SOCKET) < 0
        || extra_need(self, state, AC_STREAM_HAS_SOCKNAME) < 0
        || extra_need(self, state, AC_STREAM_HAS_PEERNAME) < 0)
    {
        return NULL;
    }
    return extra_make(self) < 0 ? NULL : Py_NewRef(self->extra);
}

/* What somebody has put in the place of BaseTransport.get_extra_info, bound; NULL,
 * mostly without an exception. */
static PyObject *
replaced_extra_info(StreamObject *self)
{
    ac_state *state = ac_stream_state(self);
    PyObject *found =
        PyObject_GetAttr(state->asyncio_FlowControlMixin, state->str_get_extra_info);
    if (found == NULL || found == state->transport_extra_info) {
        Py_XDECREF(found);
        return NULL;
    }
    descrgetfunc get = Py_TYPE(found)->tp_descr_get;
    if (get != NULL) {
        Py_SETREF(found, get(found, (PyObject *)self, (PyObject *)Py_TYPE(self)));
    }
    return found;
}

PyDoc_STRVAR(stream_get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "Information on the connection: 'socket', 'sockname', 'peername'.");

static PyObject *
stream_get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "default", NULL};
    PyObject *name, *fallback = Py_None;
    PyObject *replaced = replaced_extra_info((StreamObject *)self);
    if (replaced != NULL) {
        PyObject *result = PyObject_Call(replaced, args, kwargs);
        Py_DECREF(replaced);
        return result;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", names, &name,
                                     &fallback))
    {
        return NULL;
    }
    return extra_info((StreamObject *)self, name, fallback);
}

PyMethodDef ac_sock_methods[] = {
    {"get_extra_info", AC_CFUNCTION(stream_get_extra_info),
     METH_VARARGS | METH_KEYWORDS, stream_get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

int
ac_sock_register(ac_state *state)
{
    static const char *const known[] = {
        "family", "socket",     "AF_INET",     "AF_INET6",    "type", "SOCK_STREAM",
        "proto",  "setsockopt", "IPPROTO_TCP", "TCP_NODELAY", NULL,
    };
    PyObject *function = PyObject_GetAttr(state->base_events, state->str__set_nodelay);
    int rc =
        function == NULL
            ? -1
            : ac_code_uses_only(function, PyModule_GetDict(state->base_events), known);
    state->stock_set_nodelay = rc > 0 ? Py_NewRef(function) : NULL;
    Py_XDECREF(function);
    return rc < 0 ? -1 : 0;
}
