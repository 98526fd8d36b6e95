/* Socket addresses. Most connections are never asked for theirs, so they are kept
 * as bytes and become Python objects on demand; the objects equal those that
 * Modules/socketmodule.c makes. */
#include "core/python.h"

#include "core/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

bool
ac_sockaddr_is_known(int family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

/* The bytes that matter of an address. */
static uint8_t
significant(const struct sockaddr_storage *address, socklen_t len)
{
    if (len < (socklen_t)sizeof(address->ss_family)) {
        return 0;
    }
    if (address->ss_family == AF_INET) {
        return offsetof(struct sockaddr_in, sin_zero);
    }
    return len < UINT8_MAX ? (uint8_t)len : UINT8_MAX;
}

ac_sockaddr_pair *
ac_sockaddr_pair_new(const struct sockaddr_storage *sock, socklen_t sock_len,
                     const struct sockaddr_storage *peer, socklen_t peer_len)
{
    uint8_t sock_size = significant(sock, sock_len);
    uint8_t peer_size = significant(peer, peer_len);
    ac_sockaddr_pair *pair = PyMem_Malloc(sizeof(*pair) + sock_size + peer_size);
    if (pair == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    pair->sock_len = sock_size;
    pair->peer_len = peer_size;
    memcpy(pair->bytes, sock, sock_size);
    memcpy(pair->bytes + sock_size, peer, peer_size);
    return pair;
}

static PyObject *
make_inet(const struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("si", host, (int)ntohs(address->sin_port));
}

static PyObject *
make_inet6(const struct sockaddr_in6 *address)
{
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("siII", host, (int)ntohs(address->sin6_port),
                         (unsigned int)ntohl(address->sin6_flowinfo),
                         (unsigned int)address->sin6_scope_id);
}

/* A path, '' without a name, bytes for a name in Linux' abstract namespace. */
static PyObject *
make_unix(const struct sockaddr_un *address, size_t len)
{
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    size_t size = len > offset ? len - offset : 0;
#ifdef __linux__
    if (size > 0 && address->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)size);
    }
#endif
    size = strnlen(address->sun_path, size);
    return PyUnicode_DecodeFSDefaultAndSize(address->sun_path, (Py_ssize_t)size);
}

static PyObject *
make_address(const unsigned char *bytes, uint8_t len)
{
    if (len == 0) {
        Py_RETURN_NONE;
    }
    union {
        struct sockaddr_storage any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        unsigned char bytes[UINT8_MAX + 1];
    } address;
    memset(&address, 0, sizeof(address));
    memcpy(address.bytes, bytes, len);
    switch (address.any.ss_family) {
    case AF_INET:
        return make_inet(&address.in);
    case AF_INET6:
        return make_inet6(&address.in6);
    case AF_UNIX:
        return make_unix(&address.un, len);
    default:  // as socket does with a family it does not know
        return Py_BuildValue("iy#", (int)address.any.ss_family,
                             bytes + offsetof(struct sockaddr, sa_data),
                             (Py_ssize_t)len
                                 - (Py_ssize_t)offsetof(struct sockaddr, sa_data));
    }
}

PyObject *
ac_sockaddr_pair_sock(const ac_sockaddr_pair *pair)
{
    if (pair == NULL) {
        Py_RETURN_NONE;
    }
    return make_address(pair->bytes, pair->sock_len);
}

PyObject *
ac_sockaddr_pair_peer(const ac_sockaddr_pair *pair)
{
    if (pair == NULL) {
        Py_RETURN_NONE;
    }
    return make_address(pair->bytes + pair->sock_len, pair->peer_len);
}

PyObject *
ac_sockaddr_object(const struct sockaddr_storage *address, socklen_t len)
{
    return make_address((const unsigned char *)address, significant(address, len));
}

/* An exact int from 0 to `max`. */
static bool
parse_number(PyObject *object, unsigned long max, uint32_t *number)
{
    if (!PyLong_CheckExact(object)) {
        return false;
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(object, &overflow);
    if (overflow != 0 || value < 0 || (unsigned long)value > max) {
        return false;
    }
    *number = (uint32_t)value;
    return true;
}

/* The host and the port that every tuple begins with; `host` must be numeric. */
static bool
parse_host_port(PyObject *tuple, int family, void *host, in_port_t *port)
{
    PyObject *name = PyTuple_GET_ITEM(tuple, 0);
    uint32_t number;
    if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_ASCII(name)
        || !parse_number(PyTuple_GET_ITEM(tuple, 1), UINT16_MAX, &number))
    {
        return false;
    }
    const char *text = (const char *)PyUnicode_1BYTE_DATA(name);
    *port = htons((uint16_t)number);
    return strlen(text) == (size_t)PyUnicode_GET_LENGTH(name)
           && inet_pton(family, text, host) == 1;
}

static bool
parse_inet(PyObject *object, struct sockaddr_in *address)
{
    address->sin_family = AF_INET;
    return PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 2
           && parse_host_port(object, AF_INET, &address->sin_addr, &address->sin_port);
}

static bool
parse_inet6(PyObject *object, struct sockaddr_in6 *address)
{
    if (!PyTuple_CheckExact(object)) {
        return false;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(object);
    uint32_t flow = 0, scope = 0;
    if (size < 2 || size > 4
        || (size > 2 && !parse_number(PyTuple_GET_ITEM(object, 2), 0xFFFFF, &flow))
        || (size > 3 && !parse_number(PyTuple_GET_ITEM(object, 3), UINT32_MAX, &scope)))
    {
        return false;
    }
    address->sin6_family = AF_INET6;
    address->sin6_flowinfo = htonl(flow);
    address->sin6_scope_id = scope;
    return parse_host_port(object, AF_INET6, &address->sin6_addr, &address->sin6_port);
}

/* A path, or bytes for a name in Linux' abstract namespace. */
static bool
parse_unix(PyObject *object, struct sockaddr_un *address, socklen_t *len)
{
    PyObject *name = NULL;
    if (PyUnicode_CheckExact(object)) {
        name = PyUnicode_EncodeFSDefault(object);
        if (name == NULL) {
            PyErr_Clear();  // found again by the socket module
            return false;
        }
    }
    else if (PyBytes_CheckExact(object)) {
        name = Py_NewRef(object);
    }
    else {
        return false;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(name);
    const char *text = PyBytes_AS_STRING(name);
    bool fits = size > 0 && size < sizeof(address->sun_path);
#ifndef __linux__
    fits = fits && text[0] != '\0';
#endif
    if (fits) {
        address->sun_family = AF_UNIX;
        memcpy(address->sun_path, text, size);
        // the byte that ends a path counts, a name has none
        *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size
                           + (text[0] == '\0' ? 0 : 1));
    }
    Py_DECREF(name);
    return fits;
}

bool
ac_sockaddr_parse(int family, PyObject *object, struct sockaddr_storage *address,
                  socklen_t *len)
{
    union {
        struct sockaddr_storage any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } made;
    bool found = false;
    memset(&made, 0, sizeof(made));
    if (family == AF_INET) {
        *len = sizeof(made.in);
        found = parse_inet(object, &made.in);
    }
    else if (family == AF_INET6) {
        *len = sizeof(made.in6);
        found = parse_inet6(object, &made.in6);
    }
    else if (family == AF_UNIX) {
        found = parse_unix(object, &made.un, len);
    }
    if (found) {
        memcpy(address, &made, *len);
    }
    return found;
}

int
ac_sockaddr_pair_family(const ac_sockaddr_pair *pair)
{
    if (pair == NULL || pair->sock_len == 0) {
        return AF_UNSPEC;
    }
    struct sockaddr_storage head;
    memcpy(&head, pair->bytes,
           offsetof(struct sockaddr_storage, ss_family) + sizeof(head.ss_family));
    return head.ss_family;
}
