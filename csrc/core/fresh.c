#include "core/python.h"

#include "core/fresh.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#ifdef SOCK_NONBLOCK

int
ac_fresh_socket(int family, int proto)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, proto);
    return fd < 0 ? -errno : fd;
}

int
ac_fresh_accept(int fd, struct sockaddr_storage *peer, socklen_t *peer_len)
{
    *peer_len = sizeof(*peer);
    int accepted =
        accept4(fd, (struct sockaddr *)peer, peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return accepted < 0 ? -errno : accepted;
}

#else

/* The same in more calls. `fd` is closed if they fail. */
static int
prepare(int fd)
{
    if (fd < 0) {
        return -errno;
    }
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0
        || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
    {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int
ac_fresh_socket(int family, int proto)
{
    return prepare(socket(family, SOCK_STREAM, proto));
}

int
ac_fresh_accept(int fd, struct sockaddr_storage *peer, socklen_t *peer_len)
{
    *peer_len = sizeof(*peer);
    return prepare(accept(fd, (struct sockaddr *)peer, peer_len));
}

#endif
