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
