#include "core/python.h"

#include "core/selfpipe.h"
#include "loop/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

void
ac_descriptor_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

#ifdef __linux__

int
ac_descriptor_open_bell(int fds[2])
{
    fds[0] = fds[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fds[0] < 0 ? -errno : 0;
}

#else

int
ac_descriptor_open_bell(int fds[2])
{
    return ac_selfpipe_open(fds);
}

#endif

void
ac_descriptor_ring(const int fds[2])
{
    uint64_t one = 1;
    ssize_t n = write(fds[1], &one, sizeof(one));
    (void)n;  // full: it is ringing
}

void
ac_descriptor_silence(const int fds[2])
{
    uint64_t numbers[64];
    ssize_t n = read(fds[0], numbers, sizeof(numbers));
    (void)n;
}

void
ac_descriptor_close_bell(int fds[2])
{
    if (fds[1] != fds[0]) {
        ac_descriptor_close(&fds[1]);
    }
    fds[1] = -1;
    ac_descriptor_close(&fds[0]);
}

int
ac_descriptor_replace(uv_poll_t *handle, uv_poll_cb on_ready, int fd, int fresh)
{
    int err = 0;
    // while it is the old file's: a process forked before may hold that open, and the
    // kernel would report it for ever
    uv_poll_stop(handle);
    if (fresh < 0 || (fresh != fd && dup2(fresh, fd) < 0)
        || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
    {
        err = -errno;
    }
    if (fresh != fd) {  // the number of a kqueue is free again in a forked child
        ac_descriptor_close(&fresh);
    }
    int started = uv_poll_start(handle, UV_READABLE, on_ready);
    return err < 0 ? err : started;
}

int
ac_descriptor_probe(void)
{
    int one[2], two[2];
    int err = ac_selfpipe_open(one);
    if (err == 0) {
        err = ac_selfpipe_open(two);
        ac_selfpipe_close(two);
        ac_selfpipe_close(one);
    }
    return err;
}

int
ac_descriptor_hold_low(int held[3])
{
    int n = 0;
    while (n < 3) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd > STDERR_FILENO) {
            close(fd);
        }
        if (fd < 0 || fd > STDERR_FILENO) {
            break;
        }
        held[n++] = fd;
    }
    return n;
}

void
ac_descriptor_release_low(const int *held, int n)
{
    while (n > 0) {
        close(held[--n]);
    }
}
