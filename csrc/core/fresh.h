/* New sockets, whose calls do not wait and which no child inherits. */
#ifndef AC_FRESH_H
#define AC_FRESH_H

#include "core/python.h"

#include <sys/socket.h>

/* socket(family, SOCK_STREAM, proto). Returns the descriptor or a negative errno. */
int
ac_fresh_socket(int family, int proto);

/* accept(fd), with the address of the peer. Returns the same. */
int
ac_fresh_accept(int fd, struct sockaddr_storage *peer, socklen_t *peer_len);

#endif
