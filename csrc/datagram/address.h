/* The addresses that a transport has met: objects and sockaddrs, each made once. */
#ifndef AC_ADDRESS_H
#define AC_ADDRESS_H

#include "core/python.h"
#include "core/sockaddr.h"

typedef struct ac_addresses ac_addresses;

/* The object for the sender of a datagram, as recvfrom() gives it. *kept is the table,
 * made when it is NULL. New reference, or NULL with an exception. */
PyObject *
ac_address_object(ac_addresses **kept, const struct sockaddr_storage *address,
                  socklen_t len);

/* The sockaddr for an object that was given to sendto(). False, without an exception,
 * if the socket module has to look at it. */
bool
ac_address_parse(ac_addresses **kept, int family, PyObject *object,
                 struct sockaddr_storage *address, socklen_t *len);

/* Frees the table; NULL is fine. Runs no Python. */
void
ac_address_free(ac_addresses *kept);

#endif
