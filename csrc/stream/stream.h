/* StreamObject: a stream transport, `asynccore._core.StreamTransport`.
 *
 * It behaves as asyncio's _SelectorSocketTransport, step by step, but for the cork
 * (write.c). The files of this folder share the struct:
 *   stream.c    the type: its constructor, its attributes
 *   life.c      from the allocation to the release; the finalizer
 *   sock.c      the descriptor, the socket object, addresses
 *   protocol.c  every call into the user's protocol
 *   events.c    its watcher and the callbacks of it
 *   read.c      reading, pause and resume
 *   write.c     writing: the cork
 *   refused.c   what the kernel has not taken; flow control
 *   queue.c     what is still to be sent
 *   close.c     half close, close, abort, errors; connection_lost once
 *   accept.c    connections of a listening socket
 *   pipe.c      the same over a pipe: two more types of this struct
 *
 * Life (life.c): made - connection_made and the start of reading, by call_soon -
 * open - CLOSING (close(), abort() or an error) - LOST (the end is scheduled) -
 * CLOSED (connection_lost was called, the descriptor is given back). The finalizer
 * gives the descriptor back at once (ABANDONED) and changes nothing else.
 *
 * References: the stream owns the loop, the protocol and the server until CLOSED.
 * The loop owns the stream while its watcher wants events (`open`) or while bytes
 * are corked (`flush`); otherwise an idle stream that nobody refers to is collected.
 * Whoever calls into Python holds the stream and looks at the flags again. */
#ifndef AC_STREAM_H
#define AC_STREAM_H

#include "core/buf.h"
#include "core/mixin.h"
#include "core/python.h"
#include "core/sockaddr.h"
#include "loop/loop.h"
#include "loop/owner.h"
#include "loop/watcher.h"
#include "stream/sink.h"

#include <assert.h>

enum {
    /* life */
    AC_STREAM_CLOSING = 1u << 0, /* close() or abort() was called, or an error came */
    AC_STREAM_LOST = 1u << 1,    /* conn_lost > 0: the end is scheduled */
    AC_STREAM_CLOSED = 1u << 2,  /* connection_lost was called; also before __init__ */
    /* reading */
    AC_STREAM_PAUSED = 1u << 3,     /* by pause_reading() */
    AC_STREAM_BUFFERED = 1u << 4,   /* the protocol is a BufferedProtocol */
    AC_STREAM_LARGE_READ = 1u << 5, /* the last read was large */
    /* writing */
    AC_STREAM_EOF = 1u << 6,     /* write_eof() was called */
    AC_STREAM_REFUSED = 1u << 7, /* the kernel refused bytes: the rest waits for
                                    AC_WRITE, which is wanted exactly then */
    AC_STREAM_REST = 1u << 8,    /* what is corked is the rest of a write, of which a
                                     part has left */
    AC_STREAM_WAITER = 1u << 9,  /* empty_waiter is set: sendfile owns the socket */
    /* contexts */
    AC_STREAM_OWN_CONTEXT = 1u << 10, /* read_context was given for all callbacks */
    /* what `extra` holds already */
    AC_STREAM_HAS_SOCKET = 1u << 11,
    AC_STREAM_HAS_SOCKNAME = 1u << 12,
    AC_STREAM_HAS_PEERNAME = 1u << 13,
    /* the descriptor */
    AC_STREAM_SHARED = 1u << 14,    /* somebody else knows it: a foreign watcher */
    AC_STREAM_ABANDONED = 1u << 15, /* given back by the finalizer */
    AC_STREAM_GUEST = 1u << 18,     /* an earlier transport sends its rest through it:
                                       watched through the loop's methods */
    /* the kind; neither is set for a StreamTransport */
    AC_STREAM_READ_PIPE = 1u << 16,
    AC_STREAM_WRITE_PIPE = 1u << 17,
};

/* One of the pipe transports: never corked, watched through the loop's methods. */
#define AC_STREAM_PIPE (AC_STREAM_READ_PIPE | AC_STREAM_WRITE_PIPE)

/* What a stream is until it has a descriptor. */
#define AC_STREAM_NEVER_OPENED (AC_STREAM_CLOSED | AC_STREAM_LOST | AC_STREAM_CLOSING)

/* Any of these sends write() out of its short way. */
#define AC_STREAM_WRITE_STOPS (AC_STREAM_EOF | AC_STREAM_WAITER | AC_STREAM_LOST)

typedef struct StreamObject StreamObject;

/* How bytes arrive and leave. The functions call no Python and never block; they
 * return a negative errno on failure. */
typedef struct {
    /* Up to `len` bytes into `data`: how many, 0 at the end of the stream. */
    ssize_t (*recv)(StreamObject *self, void *data, size_t len);
    /* The bytes of `n` pieces, in one system call: how many were taken. */
    ssize_t (*send)(StreamObject *self, struct iovec *pieces, int n);
    /* Sends EOF. Returns 0. Pipes have none: they end with their last byte. */
    int (*shutdown)(StreamObject *self);
} ac_stream_ops;

struct StreamObject {
    /* `_extra` and `_loop` are shadowed by descriptors of ours: `extra` is a dict, NULL
     * until needed; `protocol` is NULL once CLOSED. */
    AC_MIXIN_SLOTS(protocol)

    PyObject *dict, *weakrefs;
    LoopObject *loop;       /* NULL once CLOSED */
    PyObject *server;       /* which counts us, or NULL */
    PyObject *sock;         /* the object that owns the number: a socket, a pipe's file;
                               or NULL: we do */
    PyObject *read_context; /* of _read_ready, as the standard's reader handle has it */
    PyObject *write_context; /* corked: the writer's; REFUSED: of _write_ready */
    PyObject *empty_waiter;
    PyObject *first; /* exact bytes: all that is corked, when it is one write */
    ac_buf *queue;   /* else what is corked or was refused; never both */
    const ac_stream_ops *ops;
    const ac_sink_ops *sink; /* of the protocol, where it takes bytes in C; or NULL */
    ac_sink_note note;       /* and what that has found out; dropped when CLOSED */
    ac_watcher *watcher;     /* NULL while there is nothing to watch any more */
    ac_sockaddr_pair *addresses;
    ac_open open;
    ac_flush flush;
    uint32_t flags;
    uint32_t conn_lost;
    int fd;
    uint16_t proto;  /* of the socket, for a socket object made later; MPTCP's is 262 */
    uint8_t watched; /* by add_reader and add_writer: AC_READ, AC_WRITE (pipes) */
};

/* Registers StreamTransport. Returns 0, or -1 with an exception. */
int
ac_stream_register(PyObject *module, ac_state *state);

/* What the types of this struct have in common: the slots, a getter whose closure is
 * a flag, one for a member that others may read (None: NULL), and methods that a type
 * takes from the tables of the other files, by name
 * (`names` ends with NULL; NULL itself: all of them). Adding returns 0, or -1 with an
 * exception. */
PyObject *
ac_stream_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
void
ac_stream_tp_finalize(PyObject *op);
void
ac_stream_tp_dealloc(PyObject *op);
int
ac_stream_tp_traverse(PyObject *op, visitproc visit, void *arg);
int
ac_stream_tp_clear(PyObject *op);
PyObject *
ac_stream_get_flag(PyObject *op, void *closure);
PyObject *
ac_stream_get_slot(PyObject *op, void *closure);
int
ac_stream_set_protocol_attr(PyObject *op, PyObject *value, void *closure);
#define AC_STREAM_SLOT(name, member, set)                                           \
    {                                                                               \
        name, ac_stream_get_slot, set, NULL, (void *)offsetof(StreamObject, member) \
    }
int
ac_stream_add_methods(PyTypeObject *type, PyMethodDef *methods,
                      const char *const *names);
extern PyMethodDef ac_stream_methods[];

/* An empty stream of the exact type; NULL with an exception. */
StreamObject *
ac_stream_new(ac_state *state);

/* The second half of the constructor, for a stream that has its descriptor: takes
 * up protocol and server (may be NULL) and schedules connection_made, the start of
 * reading and the result of `waiter` (may be NULL). `context` (may be NULL) is the
 * one of all callbacks. Runs Python. Returns 0, or -1 with an exception and the
 * stream for ac_stream_release or the finalizer. */
int
ac_stream_open(StreamObject *self, LoopObject *loop, PyObject *protocol,
               PyObject *waiter, PyObject *server, PyObject *context);

/* The end, from the point where the protocol has been told or never will be: gives
 * back the descriptor, the watcher, the references. May run Python. Returns 0, or -1
 * with an exception of its own; the one being raised, if any, is its context or stays.
 */
int
ac_stream_release(StreamObject *self);

/* loop.call_soon(callback, *args) in the stream's context, or in a copy of the
 * current one. Returns 0, or -1 with an exception. */
int
ac_stream_call_soon(StreamObject *self, PyObject *callback, PyObject *const *args,
                    Py_ssize_t nargs);

/* The context for a callback that is registered now: the stream's, or a copy of
 * the current one. New reference, NULL with an exception. */
PyObject *
ac_stream_context(StreamObject *self);

/* Calls logger.debug(format, self) in debug mode. Returns 0, or -1 with an
 * exception. */
int
ac_stream_log_debug(StreamObject *self, const char *format);

/* The invariants; a statement of what a bug would break. */
static inline void
ac_stream_check(const StreamObject *self)
{
    assert(self->first == NULL || self->queue == NULL);
    assert((self->conn_lost > 0) == ((self->flags & AC_STREAM_LOST) != 0)
           || self->flags & AC_STREAM_PIPE);
    assert(!(self->flags & AC_STREAM_LOST) || (self->flags & AC_STREAM_CLOSING));
    assert(self->flags & AC_STREAM_CLOSED || self->loop != NULL);
    // from CLOSED to here ac_stream_release runs Python, which may call any method
    assert(self->loop != NULL || self->watcher == NULL);
    assert(!(self->flags & AC_STREAM_ABANDONED) || self->watcher == NULL);
    assert(!(self->flags & AC_STREAM_REFUSED) || self->queue != NULL);
    assert(((self->flags & AC_STREAM_WAITER) != 0) == (self->empty_waiter != NULL));
    (void)self;  // without assertions
}

/* Whether a call comes from another thread than the loop's, where there is no GIL: then
 * it is left to that one, as self.name(argument). Returns 1 if so, 0: go on, or -1 with
 * an exception. `ends`: the standard transport comes to call_soon() in it, so that
 * debug mode refuses it. */
int
ac_stream_pass_to_loop(StreamObject *self, const char *name, PyObject *argument,
                       bool ends);

/* Whether that is so. */
bool
ac_stream_is_elsewhere(StreamObject *self);

/* Refuses what cannot be left to the loop's thread. Returns 0, or -1 with RuntimeError.
 */
static inline int
ac_stream_check_thread(StreamObject *self)
{
    return AC_FREE_THREADED && ac_stream_is_elsewhere(self) ? ac_owner_raise() : 0;
}

static inline int
ac_stream_hand_over(StreamObject *self, const char *name, PyObject *argument)
{
    return AC_FREE_THREADED ? ac_stream_pass_to_loop(self, name, argument, false) : 0;
}

static inline int
ac_stream_hand_over_end(StreamObject *self, const char *name, PyObject *argument)
{
    return AC_FREE_THREADED ? ac_stream_pass_to_loop(self, name, argument, true) : 0;
}

static inline bool
ac_stream_is_reading(const StreamObject *self)
{
    return !(self->flags & (AC_STREAM_CLOSING | AC_STREAM_PAUSED));
}

static inline ac_state *
ac_stream_state(const StreamObject *self)
{
    const LoopObject *loop = AC_LOAD(self->loop);
    return loop != NULL ? loop->state : ac_state_of_object((PyObject *)self);
}

/* True if nobody can have replaced a method of this stream. */
static inline bool
ac_stream_is_plain(const StreamObject *self, const ac_state *state)
{
    return self->dict == NULL && Py_IS_TYPE(self, state->Stream);
}

#endif
