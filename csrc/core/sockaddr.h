/* Socket addresses: kept small, and as the Python objects that socket gives. */
#ifndef AC_SOCKADDR_H
#define AC_SOCKADDR_H

#include "core/python.h"

#include <sys/socket.h>

/* The two addresses of a connection, without the padding of their structs. A
 * length of 0 means that there is none. */
typedef struct {
    uint8_t sock_len, peer_len;
    unsigned char bytes[]; /* the socket's own, then the peer's */
} ac_sockaddr_pair;

/* A block with both addresses, each of which may be absent (length 0); freed by
 * PyMem_Free. Returns NULL with MemoryError. */
ac_sockaddr_pair *
ac_sockaddr_pair_new(const struct sockaddr_storage *sock, socklen_t sock_len,
                     const struct sockaddr_storage *peer, socklen_t peer_len);

/* What sock.getsockname() and sock.getpeername() give, None for an absent one. The
 * pair may be NULL. New reference, or NULL with an exception. */
PyObject *
ac_sockaddr_pair_sock(const ac_sockaddr_pair *pair);
PyObject *
ac_sockaddr_pair_peer(const ac_sockaddr_pair *pair);

/* What recvfrom() gives as the peer of a datagram: None for a length of 0. New
 * reference, or NULL with an exception. */
PyObject *
ac_sockaddr_object(const struct sockaddr_storage *address, socklen_t len);

/* The other way: fills *address and *len from what sendto() is given, if that takes no
 * look-up and no judgement. A tuple of exact types with a numeric host for AF_INET and
 * AF_INET6, a name for AF_UNIX. False, without an exception, for everything else: the
 * socket module knows what to do with it. */
bool
ac_sockaddr_parse(int family, PyObject *object, struct sockaddr_storage *address,
                  socklen_t *len);

/* The address family of the socket's own address, or AF_UNSPEC. */
int
ac_sockaddr_pair_family(const ac_sockaddr_pair *pair);

/* True for the families whose addresses are known here: AF_INET, AF_INET6 and
 * AF_UNIX. */
bool
ac_sockaddr_is_known(int family);

#endif
