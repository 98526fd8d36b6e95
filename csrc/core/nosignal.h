/* MSG_NOSIGNAL: a send to a peer that is gone is an error and no SIGPIPE. */
#ifndef AC_NOSIGNAL_H
#define AC_NOSIGNAL_H

#include <sys/socket.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* the interpreter ignores SIGPIPE */
#endif

#endif
