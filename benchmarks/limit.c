/* The limit of the benchmarks: what a loop that costs nothing would reach.
 *
 * It does the work of a few workloads with the system calls that no loop can do
 * without, on bare epoll, and with the same OpenSSL, if its headers are there: no
 * objects, no callbacks, no Python.
 *
 *     limit echo|bulk|udp|unix [--address=PATH] [--tls=PEM] [--cpu=N]
 *     limit cat|turns|lines --number=N [--repeat=N] [--cpu=N]
 *
 * A server (echo and bulk over TCP) tells its process id and its port or path and
 * serves until it is killed; the others tell the least nanoseconds of CPU time that N
 * pieces through a child took. client.c is the other side.
 *
 * Linux only (epoll, accept4). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef AC_TLS
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#endif

enum {
    AC_PIECE = 64 * 1024,
    AC_EVENTS = 1024,
    AC_BACKLOG = 2048,
    /* What 64 KiB are over TLS: records of 16 KiB, each with a header, its type and
     * a tag. */
    AC_RECORDS = AC_PIECE + 4 * (5 + 1 + 16),
};

#define AC_BULK ((size_t)1 << 30) /* what each byte is answered with, by bulk */

typedef struct {
    int fd;
    size_t owed; /* bytes that a bulk answer still has */
    char *kept;  /* what could not be sent at once: EPOLLOUT is asked for */
    size_t kept_size;
#ifdef AC_TLS
    SSL *ssl;
#endif
} connection;

static char buffer[AC_PIECE];
static const char zeros[AC_PIECE];
static int epoll_fd;
static bool bulk;
#ifdef AC_TLS
static SSL_CTX *tls_context;
static BIO_METHOD *records_method;
static char records[2 * AC_RECORDS]; /* of one connection, that leave in one send */
static size_t records_size;
#endif

static void
watch(int how, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll_fd, how, fd, &event) < 0) {
        err(1, "epoll_ctl");
    }
}

/* Connections --------------------------------------------------------------------- */

static void
connection_accept(int listener)
{
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    connection *const c = calloc(1, sizeof(*c));
    if (fd < 0 || c == NULL) {
        err(1, "accept4");
    }
    c->fd = fd;
#ifdef AC_TLS
    if (tls_context) {
        c->ssl = SSL_new(tls_context);
        SSL_set_bio(c->ssl, BIO_new_socket(fd, BIO_NOCLOSE), BIO_new(records_method));
        SSL_set_accept_state(c->ssl);
    }
#endif
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

/* Send, and keep what cannot be sent now; a reset is left to the next recv. */
static void
connection_send(connection *c, const char *data, size_t size)
{
    const ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
    if (n == (ssize_t)size || (n < 0 && errno != EAGAIN)) {
        return;
    }
    const size_t sent = n < 0 ? 0 : (size_t)n;
    c->kept_size = size - sent;
    c->kept = malloc(c->kept_size);
    if (c->kept == NULL) {
        err(1, "malloc");
    }
    memcpy(c->kept, data + sent, c->kept_size);
    watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
}

/* Send the records that have been collected. */
static void
connection_flush(connection *c)
{
#ifdef AC_TLS
    const size_t size = records_size;
    records_size = 0;
    if (size) {
        connection_send(c, records, size);
    }
#else
    (void)c;
#endif
}

static void
connection_write(connection *c, const char *data, size_t size)
{
#ifdef AC_TLS
    if (c->ssl) {
        if (SSL_write(c->ssl, data, (int)size) != (int)size) {
            errx(1, "SSL_write");
        }
        if (records_size >= AC_PIECE) {
            connection_flush(c);
        }
        return;
    }
#endif
    connection_send(c, data, size);
}

/* Bytes read, 0 at the end or after an error, -1 where it would block. */
static ssize_t
connection_read(connection *c)
{
#ifdef AC_TLS
    if (c->ssl) {
        const int n = SSL_read(c->ssl, buffer, sizeof(buffer));
        const bool blocked = n <= 0 && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        return n > 0 ? n : blocked ? -1 : 0;
    }
#endif
    const ssize_t n = recv(c->fd, buffer, sizeof(buffer), 0);
    return n < 0 && errno != EAGAIN ? 0 : n;
}

/* Whether bytes have been read from the socket that have not been given out. */
static bool
connection_has_more(const connection *c)
{
#ifdef AC_TLS
    return c->ssl && SSL_has_pending(c->ssl);
#else
    (void)c;
    return false;
#endif
}

static void
connection_close(connection *c)
{
#ifdef AC_TLS
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        connection_flush(c);
        SSL_free(c->ssl);
        ERR_clear_error(); /* which SSL_get_error of others would look at */
    }
#endif
    close(c->fd);
    free(c->kept);
    free(c);
}

static void
connection_answer(connection *c, size_t size)
{
    if (!bulk) {
        connection_write(c, buffer, size);
        return;
    }
    c->owed += size * AC_BULK;
    while (c->owed && c->kept == NULL) {
        c->owed -= AC_PIECE;
        connection_write(c, zeros, AC_PIECE);
    }
}

static void
on_writable(connection *c)
{
    char *const kept = c->kept;
    c->kept = NULL;
    connection_send(c, kept, c->kept_size);
    free(kept);
    if (bulk) {
        connection_answer(c, 0);
    }
    if (c->kept == NULL) {
        watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
    }
}

static void
on_readable(connection *c)
{
    do {
        const ssize_t n = connection_read(c);
        if (n == 0) {
            connection_close(c);
            return;
        }
        if (n < 0) {
            break;
        }
        connection_answer(c, (size_t)n);
    } while (c->kept == NULL && connection_has_more(c));
    connection_flush(c);
}

static void
on_event(connection *c)
{
    const bool waited = c->kept != NULL;
    if (waited) {
        on_writable(c);
    }
    if (c->kept == NULL && (!waited || connection_has_more(c))) {
        on_readable(c);
    }
}

/* Servers ------------------------------------------------------------------------- */

/* Bind a socket, to any port of 127.0.0.1 without a path, and tell where. */
static int
bind_socket(int type, const char *path)
{
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    struct sockaddr_in here = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct sockaddr *const address = path ? (void *)&there : (void *)&here;
    socklen_t size = path ? sizeof(there) : sizeof(here);
    strncpy(there.sun_path, path ? path : "", sizeof(there.sun_path) - 1);
    const int fd = socket(address->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, address, size) < 0
        || (type == SOCK_STREAM && listen(fd, AC_BACKLOG) < 0)
        || getsockname(fd, address, &size) < 0)
    {
        err(1, "bind");
    }
    char port[8];
    snprintf(port, sizeof(port), "%d", ntohs(here.sin_port));
    printf("%d %s\n", (int)getpid(), path ? path : port);
    fflush(stdout);
    return fd;
}

static void
serve(int listener)
{
    const int one = 1;
    /* What is accepted inherits it; that a unix socket has none does not matter. */
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    struct epoll_event events[AC_EVENTS];
    for (;;) {
        const int n = epoll_wait(epoll_fd, events, AC_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) {
                on_event(events[i].data.ptr);
            }
            else {
                connection_accept(listener);
            }
        }
    }
}

static void
serve_udp(int fd)
{
    struct sockaddr_in from;
    struct sockaddr *const peer = (struct sockaddr *)&from;
    struct epoll_event event;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, NULL);
    for (;;) {
        socklen_t size = sizeof(from);
        const ssize_t n = recvfrom(fd, buffer, sizeof(buffer), 0, peer, &size);
        if (n < 0) {
            epoll_wait(epoll_fd, &event, 1, -1);
        }
        else {
            sendto(fd, buffer, (size_t)n, 0, peer, size);
        }
    }
}

#ifdef AC_TLS
static int
records_write(BIO *bio, const char *data, int size)
{
    (void)bio;
    if (records_size + (size_t)size > sizeof(records)) {
        errx(1, "too many records");
    }
    memcpy(records + records_size, data, (size_t)size);
    records_size += (size_t)size;
    return size;
}

static long
records_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static void
prepare_tls(const char *pem)
{
    BIO *const text = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *const key = PEM_read_bio_PrivateKey(text, NULL, NULL, NULL);
    X509 *const certificate = PEM_read_bio_X509(text, NULL, NULL, NULL);
    tls_context = SSL_CTX_new(TLS_server_method());
    if (tls_context == NULL || SSL_CTX_use_certificate(tls_context, certificate) != 1
        || SSL_CTX_use_PrivateKey(tls_context, key) != 1)
    {
        errx(1, "the certificate");
    }
    /* One recv for all that is there, without a copy. */
    SSL_CTX_set_read_ahead(tls_context, 1);
    SSL_CTX_set_default_read_buffer_len(tls_context, AC_RECORDS);
    records_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "records");
    BIO_meth_set_write(records_method, records_write);
    BIO_meth_set_ctrl(records_method, records_control);
    X509_free(certificate);
    EVP_PKEY_free(key);
    BIO_free(text);
}
#endif

/* Through a child ----------------------------------------------------------------- */

static pid_t
spawn_cat(int *in, int *out)
{
    char *const arguments[] = {"cat", NULL};
    int to[2], from[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0) {
        err(1, "pipe2");
    }
    posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
    errno = posix_spawnp(&pid, "cat", &actions, NULL, arguments, environ);
    if (errno) {
        err(1, "posix_spawnp");
    }
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    *in = to[1];
    *out = from[0];
    fcntl(*in, F_SETFL, O_NONBLOCK);
    fcntl(*out, F_SETFL, O_NONBLOCK);
    return pid;
}

/* The CPU time that `number` pieces take, each after the last came back or, without
 * `in_turns`, as fast as they go. */
static clock_t
through_cat(size_t number, const char *data, size_t piece, bool in_turns)
{
    const size_t total = number * piece;
    size_t written = 0, have = 0;
    int in, out;
    const pid_t pid = spawn_cat(&in, &out);
    const clock_t start = clock();
    watch(EPOLL_CTL_ADD, out, EPOLLIN, &out);
    watch(EPOLL_CTL_ADD, in, EPOLLOUT | EPOLLET, &in);
    while (have < total) {
        const size_t allowed = in_turns ? (have / piece + 1) * piece : total;
        while (written < allowed) {
            const size_t from = written % piece;
            const ssize_t n = write(in, data + from, piece - from);
            if (n < 0) {
                break;
            }
            written += (size_t)n;
        }
        struct epoll_event events[2];
        const int ready = epoll_wait(epoll_fd, events, 2, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &out) {
                const ssize_t n = read(out, buffer, sizeof(buffer));
                if (n <= 0) {
                    err(1, "read");
                }
                have += (size_t)n;
            }
        }
    }
    const clock_t elapsed = clock() - start;
    close(in);
    close(out);
    waitpid(pid, NULL, 0);
    return elapsed;
}

static void
measure(const char *role, size_t number, int repeat)
{
    static const char line[] = "a line of some words\n";
    const bool lines = strcmp(role, "lines") == 0;
    const bool in_turns = lines || strcmp(role, "turns") == 0;
    const size_t piece = lines ? sizeof(line) - 1 : AC_PIECE;
    clock_t least = 0;
    while (repeat-- > 0) {
        const clock_t time = through_cat(number, lines ? line : zeros, piece, in_turns);
        least = least && least < time ? least : time;
    }
    printf("%.0f\n", (double)least * 1e9 / CLOCKS_PER_SEC);
}

/* The value of the last argument that begins with `name`, if there is one. */
static const char *
option(int argc, char **argv, const char *name)
{
    const size_t length = strlen(name);
    while (argc-- > 1) {
        if (strncmp(argv[argc], name, length) == 0) {
            return argv[argc] + length;
        }
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    const char *const role = argc > 1 ? argv[1] : "";
    const char *const address = option(argc, argv, "--address=");
    const char *const pem = option(argc, argv, "--tls=");
    const char *const number = option(argc, argv, "--number=");
    const char *const repeat = option(argc, argv, "--repeat=");
    const char *const cpu = option(argc, argv, "--cpu=");
    if (cpu) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(atoi(cpu), &cpus);
        sched_setaffinity(0, sizeof(cpus), &cpus);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (pem) {
#ifdef AC_TLS
        prepare_tls(pem);
#else
        errx(1, "built without TLS: OpenSSL's headers were not found");
#endif
    }
    bulk = strcmp(role, "bulk") == 0;
    if (number) {
        measure(role, strtoul(number, NULL, 10), repeat ? atoi(repeat) : 1);
    }
    else if (strcmp(role, "udp") == 0) {
        serve_udp(bind_socket(SOCK_DGRAM, NULL));
    }
    else {
        serve(bind_socket(SOCK_STREAM, strcmp(role, "unix") == 0 ? address : NULL));
    }
    return 0;
}
