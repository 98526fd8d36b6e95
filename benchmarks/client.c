/* The load client of the benchmarks: one thread, one epoll set, no allocation per
 * request, so that the server is what limits the run.
 *
 * It connects, warms the server up, prints "ready" and waits for a line on standard
 * input.  Then it loads the server for a time or a number of requests, lets what is
 * under way finish, prints one line of JSON, and keeps its connections open until
 * standard input ends: whoever reads the server's CPU time before the line and after
 * the answer sees requests only, no connection being set up or torn down.
 *
 * A round is: write `depth` requests of `size` bytes at once, read `depth` replies.
 * Linux only (epoll, binding to 127.x.y.z, MSG_TRUNC). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef AC_TLS
#include <openssl/ssl.h>
#endif

enum {
    AC_READ_SIZE = 1 << 18,
    AC_EVENTS = 1024,
    /* Latencies: 64 buckets for each power of two, 1.6 % apart. */
    AC_BUCKET_BITS = 6,
    AC_BUCKETS = 64 << AC_BUCKET_BITS,
};

typedef struct {
    int fd;
    bool waits_to_send; /* EPOLLOUT is asked for */
    size_t unsent;      /* bytes of this round still to be written */
    size_t unread;      /* bytes of its replies still to come */
    uint64_t began;
#ifdef AC_TLS
    SSL *ssl;
#endif
} connection;

static struct {
    const char *host, *path;
    int port;
    size_t connections, size, reply, depth;
    bool reconnect, http, hold, udp, tls;
    double seconds, warm_up;
    uint64_t requests;
} opt = {
    .host = "127.0.0.1",
    .connections = 1,
    .size = 1024,
    .depth = 1,
    .seconds = 1,
    .warm_up = 0.2,
};

static connection *connections;
static char *payload; /* one round: depth * size bytes */
static size_t payload_size, reply_size;
static char read_buffer[AC_READ_SIZE];
static int epoll_fd;
static unsigned source_address;

/* The phase that runs. */
static uint64_t deadline, rounds_left, rounds_done;
static size_t active;
static uint32_t histogram[AC_BUCKETS];

#ifdef AC_TLS
static SSL_CTX *tls_context;
#endif

static void
die(const char *format, ...)
{
    const int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("client: ", stderr);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, error == 0 ? "\n" : " (errno: %s)\n", strerror(error));
    va_end(arguments);
    exit(1);
}

static uint64_t
now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static unsigned
bucket_of(uint64_t ns)
{
    if (ns < (1u << AC_BUCKET_BITS)) {
        return (unsigned)ns;
    }
    const int exponent = 63 - __builtin_clzll(ns) - AC_BUCKET_BITS;
    const unsigned bucket =
        ((unsigned)exponent << AC_BUCKET_BITS) + (unsigned)(ns >> exponent);
    return bucket < AC_BUCKETS ? bucket : AC_BUCKETS - 1;
}

static uint64_t
percentile(double share)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < AC_BUCKETS; i++) {
        total += histogram[i];
    }
    for (unsigned i = 0; i < AC_BUCKETS; i++) {
        seen += histogram[i];
        if (total && (double)seen >= share * (double)total) {
            if (i < (1u << AC_BUCKET_BITS)) {
                return i;
            }
            const unsigned exponent = (i >> AC_BUCKET_BITS) - 1;
            return (uint64_t)(i - (exponent << AC_BUCKET_BITS)) << exponent;
        }
    }
    return 0;
}

/* Connect ------------------------------------------------------------------------- */

static int
open_socket(void)
{
    const int type = opt.udp ? SOCK_DGRAM : SOCK_STREAM;
    const int fd = socket(opt.path ? AF_UNIX : AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        die("socket");
    }
    int rc;
    if (opt.path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(opt.path) >= sizeof(address.sun_path)) {
            die("path too long");
        }
        strcpy(address.sun_path, opt.path);
        rc = connect(fd, (struct sockaddr *)&address, sizeof(address));
    }
    else {
        const int one = 1;
        if (opt.reconnect) {
            /* Closed connections linger in TIME_WAIT: 28,000 ports of one address
             * are used up in seconds, so take turns among 250 addresses. */
            struct sockaddr_in source = {
                .sin_family = AF_INET,
                .sin_addr.s_addr = htonl(0x7f000002u + source_address),
            };
            source_address = (source_address + 1) % 250;
            setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
            if (bind(fd, (struct sockaddr *)&source, sizeof(source)) < 0) {
                die("bind");
            }
        }
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)opt.port),
        };
        inet_pton(AF_INET, opt.host, &address.sin_addr);
        rc = connect(fd, (struct sockaddr *)&address, sizeof(address));
        if (!opt.udp) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        }
    }
    if (rc < 0) {
        die("connect");
    }
    return fd;
}

static void
connection_open(connection *c)
{
    c->fd = open_socket();
#ifdef AC_TLS
    if (opt.tls) {
        c->ssl = SSL_new(tls_context);
        SSL_set_fd(c->ssl, c->fd);
        if (SSL_connect(c->ssl) != 1) {
            die("TLS handshake");
        }
    }
#endif
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    c->waits_to_send = false;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void
connection_close(connection *c)
{
#ifdef AC_TLS
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
#endif
    close(c->fd);
    c->fd = -1;
}

/* Read and write: the number of bytes, or -1 where it would block. */

static ssize_t
connection_write(connection *c, const char *data, size_t size)
{
#ifdef AC_TLS
    if (c->ssl) {
        const int n = SSL_write(c->ssl, data, (int)size);
        if (n > 0) {
            return n;
        }
        const int why = SSL_get_error(c->ssl, n);
        if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ) {
            die("SSL_write");
        }
        return -1;
    }
#endif
    const ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        die("send");
    }
    return n;
}

static ssize_t
connection_read(connection *c)
{
    ssize_t n;
#ifdef AC_TLS
    if (c->ssl) {
        n = SSL_read(c->ssl, read_buffer, AC_READ_SIZE);
        if (n > 0) {
            return n;
        }
        if (SSL_get_error(c->ssl, (int)n) != SSL_ERROR_WANT_READ) {
            die("SSL_read");
        }
        return -1;
    }
#endif
    if (!opt.path && !opt.udp && c->unread > (1u << 20)) {
        /* A bulk transfer: the kernel drops the bytes, nothing is copied. */
        n = recv(c->fd, NULL, 1u << 20, MSG_TRUNC);
    }
    else {
        n = recv(c->fd, read_buffer, AC_READ_SIZE, 0);
    }
    if (n == 0 && !opt.udp) {
        die("the server closed a connection");
    }
    if (n < 0 && errno != EAGAIN) {
        die("recv");
    }
    return n;
}

/* Rounds -------------------------------------------------------------------------- */

static void
round_send(connection *c)
{
    while (c->unsent) {
        const char *data = payload + payload_size - c->unsent;
        const size_t size = opt.udp ? opt.size : c->unsent;
        const ssize_t n = connection_write(c, data, size);
        if (n < 0) {
            break;
        }
        c->unsent -= (size_t)n;
    }
    if (c->waits_to_send != (c->unsent > 0)) {
        c->waits_to_send = c->unsent > 0;
        struct epoll_event event = {
            .events = EPOLLIN | (c->waits_to_send ? (uint32_t)EPOLLOUT : 0u),
            .data.ptr = c,
        };
        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) {
            die("epoll_ctl");
        }
    }
}

/* Begin the next round, if the phase has one more; else this connection rests. */
static void
round_begin(connection *c, uint64_t time)
{
    if (rounds_left == 0 || (deadline && time >= deadline)) {
        return;
    }
    rounds_left--;
    active++;
    if (opt.reconnect) {
        connection_open(c);
    }
    c->began = time;
    c->unsent = payload_size;
    c->unread = reply_size * opt.depth;
    round_send(c);
}

static void
round_end(connection *c)
{
    const uint64_t time = now();
    histogram[bucket_of(time - c->began)]++;
    rounds_done++;
    active--;
    if (opt.reconnect) {
        connection_close(c);
    }
    round_begin(c, time);
}

static void
on_readable(connection *c)
{
    for (;;) {
        const ssize_t n = connection_read(c);
        if (n < 0) {
            return;
        }
        if ((size_t)n > c->unread) {
            die("%zd bytes came where %zu were expected", n, c->unread);
        }
        if (opt.http && c->unread == reply_size * opt.depth
            && (n < 12 || memcmp(read_buffer + 8, " 200", 4) != 0))
        {
            die("not a 200 response: %.*s", (int)(n < 60 ? n : 60), read_buffer);
        }
        c->unread -= (size_t)n;
        if (c->unread == 0) {
            round_end(c);
            return;
        }
#ifdef AC_TLS
        if (c->ssl && SSL_pending(c->ssl)) {
            continue;
        }
#endif
        return;
    }
}

/* Run rounds on all connections until `seconds` are over, if that is not zero, or
 * until `requests` were made, if that is not. */
static uint64_t
run_phase(double seconds, uint64_t requests)
{
    memset(histogram, 0, sizeof(histogram));
    rounds_done = 0;
    rounds_left = requests ? (requests + opt.depth - 1) / opt.depth : UINT64_MAX;
    const uint64_t start = now();
    deadline = seconds > 0 ? start + (uint64_t)(seconds * 1e9) : 0;
    for (size_t i = 0; i < opt.connections; i++) {
        round_begin(&connections[i], start);
    }
    struct epoll_event events[AC_EVENTS];
    while (active) {
        const int n = epoll_wait(epoll_fd, events, AC_EVENTS, 10000);
        if (n == 0) {
            die("no reply for 10 seconds");
        }
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                round_send(c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                on_readable(c);
            }
        }
    }
    return now() - start;
}

/* Ask once and learn how long the responses are. */
static void
learn_response(void)
{
    const int fd = open_socket();
    if (send(fd, payload, opt.size, 0) != (ssize_t)opt.size) {
        die("send");
    }
    size_t have = 0;
    for (;;) {
        const ssize_t n = recv(fd, read_buffer + have, AC_READ_SIZE - 1 - have, 0);
        if (n <= 0) {
            die("no response");
        }
        have += (size_t)n;
        read_buffer[have] = 0;
        const char *end = strstr(read_buffer, "\r\n\r\n");
        const char *length = strcasestr(read_buffer, "content-length:");
        if (end && !length) {
            die("a response without Content-Length");
        }
        if (end) {
            reply_size = (size_t)(end + 4 - read_buffer) + strtoul(length + 15, 0, 10);
            if (have >= reply_size) {
                break;
            }
        }
    }
    close(fd);
}

static void
prepare(void)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    if (opt.http) {
        opt.size = sizeof(request) - 1;
    }
    reply_size = opt.reply ? opt.reply : opt.size;
    payload_size = opt.size * opt.depth;
    payload = malloc(payload_size);
    connections = calloc(opt.connections, sizeof(*connections));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (payload == NULL || connections == NULL || epoll_fd < 0) {
        die("set-up");
    }
    for (size_t i = 0; i < opt.depth; i++) {
        char *one = payload + i * opt.size;
        if (opt.http) {
            memcpy(one, request, opt.size);
        }
        else {
            memset(one, 'x', opt.size);
            one[opt.size - 1] = '\n';
        }
    }
    if (opt.tls) {
#ifdef AC_TLS
        tls_context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE
                                          | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#else
        die("built without TLS: OpenSSL's headers were not found");
#endif
    }
}

static void
parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"host", required_argument, NULL, 'h'},
        {"port", required_argument, NULL, 'p'},
        {"unix", required_argument, NULL, 'u'},
        {"connections", required_argument, NULL, 'c'},
        {"size", required_argument, NULL, 's'},
        {"reply", required_argument, NULL, 'r'},
        {"depth", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 't'},
        {"warm-up", required_argument, NULL, 'w'},
        {"requests", required_argument, NULL, 'n'},
        {"reconnect", no_argument, NULL, 'R'},
        {"http", no_argument, NULL, 'H'},
        {"hold", no_argument, NULL, 'O'},
        {"udp", no_argument, NULL, 'U'},
        {"tls", no_argument, NULL, 'T'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'h':
            opt.host = optarg;
            break;
        case 'p':
            opt.port = atoi(optarg);
            break;
        case 'u':
            opt.path = optarg;
            break;
        case 'c':
            opt.connections = strtoul(optarg, NULL, 10);
            break;
        case 's':
            opt.size = strtoul(optarg, NULL, 10);
            break;
        case 'r':
            opt.reply = strtoul(optarg, NULL, 10);
            break;
        case 'd':
            opt.depth = strtoul(optarg, NULL, 10);
            break;
        case 't':
            opt.seconds = atof(optarg);
            break;
        case 'w':
            opt.warm_up = atof(optarg);
            break;
        case 'n':
            opt.requests = strtoull(optarg, NULL, 10);
            break;
        case 'R':
            opt.reconnect = true;
            break;
        case 'H':
            opt.http = true;
            break;
        case 'O':
            opt.hold = true;
            break;
        case 'U':
            opt.udp = true;
            break;
        case 'T':
            opt.tls = true;
            break;
        default:
            exit(2);
        }
    }
    if (!opt.connections || !opt.size || !opt.depth || (!opt.path && !opt.port)) {
        fputs("client: --port or --unix is needed, and counts above 0\n", stderr);
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    parse(argc, argv);
    prepare();
    if (opt.http) {
        learn_response();
    }
    if (!opt.reconnect) {
        for (size_t i = 0; i < opt.connections; i++) {
            connection_open(&connections[i]);
        }
    }
    if (opt.hold) {
        run_phase(0, opt.connections); /* one request each: all are accepted */
    }
    else if (opt.warm_up > 0) {
        run_phase(opt.warm_up, 0);
    }
    puts("ready");
    fflush(stdout);
    int byte;
    while ((byte = getchar()) != EOF && byte != '\n') {
    }
    if (byte != EOF && !opt.hold) {
        const uint64_t elapsed =
            run_phase(opt.requests ? 0 : opt.seconds, opt.requests);
        printf("{\"requests\": %llu, \"elapsed_ns\": %llu, \"p50_ns\": %llu, "
               "\"p99_ns\": %llu}\n",
               (unsigned long long)(rounds_done * opt.depth),
               (unsigned long long)elapsed, (unsigned long long)percentile(0.50),
               (unsigned long long)percentile(0.99));
        fflush(stdout);
    }
    while (byte != EOF && getchar() != EOF) {
    }
    return 0;
}
