#include "core/python.h"

#include "core/selfpipe.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#ifdef __linux__

int
ac_selfpipe_open(int fds[2])
{
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0) {
        fds[0] = fds[1] = -1;
        return -errno;
    }
    return 0;
}

#else

int
ac_selfpipe_open(int fds[2])
{
    if (pipe(fds) < 0) {
        fds[0] = fds[1] = -1;
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        if (fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0
            || fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0) {
            int err = -errno;
            ac_selfpipe_close(fds);
            return err;
        }
    }
    return 0;
}

#endif

void
ac_selfpipe_close(int fds[2])
{
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
            fds[i] = -1;
        }
    }
}
