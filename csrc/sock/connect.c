/* Connecting: once, then by SO_ERROR, when the socket is writable. */
#include "core/python.h"

#include "core/plain.h"
#include "core/sockaddr.h"
#include "core/connecting.h"
#include "loop/watcher.h"
#include "sock/connect.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Addresses that take no look-up: `_ensure_resolved` gives them as they are. */
static bool
connect_accepts(ac_state *state, PyObject *const *args)
{
    int family, type, proto;
    if (!ac_plain_kind(state, args[0], &family, &type, &proto)) {
        return false;
    }
    if (family != AF_INET && family != AF_INET6) {
        return true;
    }
    struct sockaddr_storage address;
    socklen_t len;
    return (type == SOCK_STREAM || type == SOCK_DGRAM)
           && (proto == 0 || proto == IPPROTO_TCP || proto == IPPROTO_UDP)
           && ac_sockaddr_parse(family, args[1], &address, &len);
}

static ac_connecting_target
target_of(OperationObject *self)
{
    int family = AF_UNSPEC, type, proto;
    (void)ac_plain_kind(self->loop->state, self->sock, &family, &type, &proto);
    return (ac_connecting_target){family, self->args[0]};
}

static PyObject *
socket_of(void *op)
{
    return Py_NewRef(((OperationObject *)op)->sock);
}

/* sock.connect(address) by the method. */
static int
connect_by_method(OperationObject *self, ac_connecting_target *target,
                  PyObject **result)
{
    PyObject *address = ac_connecting_address(target);
    if (address == NULL) {
        return -1;
    }
    int rc = ac_operation_call(self->loop->state->str_connect, self->sock, &address, 1,
                               result);
    Py_DECREF(address);
    return rc;
}

/* sock.connect(address). What is not usual goes to the method. */
static int
connect_first(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    struct sockaddr_storage address;
    socklen_t len;
    ac_connecting_target target = target_of(self);
    if (!self->nonblocking
        || !ac_sockaddr_parse(target.family, target.address, &address, &len))
    {
        return connect_by_method(self, &target, result);
    }
    if (ac_connecting_audit(socket_of, self, &target) < 0) {
        return -1;
    }
    int fd = ac_plain_number(state, self->sock);  // a hook may have closed it
    if (fd == -2) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&address, len) < 0) {
        return ac_operation_failed(-errno);
    }
    *result = Py_NewRef(Py_None);
    return 1;
}

static int
connect_attempt(OperationObject *self, PyObject **result)
{
    ac_state *state = self->loop->state;
    if (!self->waited) {
        return connect_first(self, result);
    }
    int fd = ac_plain_number(state, self->sock);
    if (fd == -2) {
        return -1;
    }
    ac_connecting_target target = target_of(self);
    int rc = ac_connecting_result(fd, &target);
    *result = rc > 0 ? Py_NewRef(Py_None) : NULL;
    return rc;
}

const ac_operation_kind ac_connect = {
    .min_args = 1,
    .max_args = 1,
    .event = AC_WRITE,
    .accepts = connect_accepts,
    .attempt = connect_attempt,
};
