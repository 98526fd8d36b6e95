/* TLSObject: the part of asyncio.sslproto.SSLProtocol that runs for each record,
 * `asynccore._core.TLSProtocol`.
 *
 * The class of the connections, asynccore._tls.SSLProtocol, derives from it and from
 * the interpreter's own SSLProtocol, in this order: time-outs and errors are the
 * standard's code, on attributes that live in this struct; the constructor, handshake
 * and shutdown are here again, as far as all goes well. What differs is where cipher
 * text and plain text pass through:
 *   libssl.c    finds the functions of libssl, proves the layout of `_ssl`
 *   cipher.c    cipher text on its way in and out
 *   bio.c       OpenSSL's view of it
 *   engine.c    one record, by libssl or by the methods of ssl.SSLObject
 *   decrypt.c   from the transport below to the protocol above
 *   pieces.c    memory of large writes
 *   encrypt.c   from write() to the transport below
 *   setup.c     the constructor
 *   states.c    what the next two share
 *   handshake.c from connection_made() to the protocol above, and connection_lost()
 *   shutdown.c  from the end of the stream, or close(), to the transport's close()
 *   sslmodule.c whether the classes of the ssl module are what they were
 *   transport.c the transport that the protocol above gets
 *   tls.c       the type
 *
 * Three ways, decided when `_sslobj` is set:
 *   OWN_BIO and DIRECT  records by calls of libssl on a BIO over `flows`
 *   OWN_BIO             records by the methods of the SSLObject on that BIO: somebody
 *                       listens with _msg_callback, or has replaced one of them in
 *                       the object
 *   neither             the methods, on the two MemoryBIO that the standard made
 *
 * References: the TLS object owns its protocol above and its transport below, which
 * owns it, until connection_lost(). `ssl` is borrowed from `socket`. */
#ifndef AC_TLS_H
#define AC_TLS_H

#include "core/python.h"
#include "core/state.h"
#include "stream/sink.h"
#include "tls/bio.h"

enum {
    AC_TLS_OWN_BIO = 1u << 0,
    AC_TLS_DIRECT = 1u << 1,
    AC_TLS_BUSY = 1u << 2,    /* OpenSSL is at work: a callback of it may come back */
    AC_TLS_RECORDS = 1u << 3, /* the handshake is over, and ac_engine_settle() called */
    AC_TLS_REST = 1u << 4,    /* a part of what is being written has gone down */
};

typedef struct {
    PyObject_HEAD
    ac_state *state;  /* borrowed from the module */
    PyObject *module; /* at the end of the interpreter the type may let go first */
    uint32_t flags;
    PyObject *socket; /* the `_ssl._SSLSocket` in `sslobj`, with OWN_BIO */
    ac_ssl *ssl;
    ac_bio *bio;        /* owned */
    Py_ssize_t members; /* of `sslobj`, when they were looked through */
    ac_flows flows;
    PyObject *buffer;            /* between get_buffer() and buffer_updated() */
    const ac_sink_ops *app_sink; /* of app_protocol, where it takes bytes in C */

    /* attributes of SSLProtocol */
    PyObject *app_protocol, *app_get_buffer, *app_buffer_updated, *app_is_buffer;
    PyObject *app_reading_paused, *app_writing_paused;
    PyObject *transport; /* below */
    PyObject *sslobj;
    PyObject *protocol_state; /* SSLProtocolState */
    PyObject *write_backlog;  /* deque of what waits for the handshake */
    Py_ssize_t write_buffer_size;
    PyObject *incoming, *outgoing; /* MemoryBIO */
    PyObject *incoming_high, *incoming_low, *outgoing_high, *outgoing_low;
    PyObject *ssl_reading_paused, *ssl_writing_paused;
    PyObject *handshake_start, *handshake_timeout, *shutdown_timeout; /* or None */
    PyObject *loop, *sslcontext, *server_side, *server_hostname, *waiter, *extra;
    PyObject *ssl_handshake_timeout, *ssl_shutdown_timeout; /* seconds */
    PyObject *app_transport, *app_transport_created;
    PyObject *app_state; /* AppProtocolState */
    PyObject *eof_received;
    Py_ssize_t conn_lost;
    Py_ssize_t max_size;
} TLSObject;

/* Registers TLSProtocol, TLSTransport and their functions. Returns 0, or -1 with an
 * exception. */
int
ac_tls_register(PyObject *module, ac_state *state);

/* Gives back what the module state holds for this folder. */
void
ac_tls_free(ac_state *state);

/* The setters of `_sslobj`, which the constructor has made on two MemoryBIO, and of
 * `_app_protocol`, which NULL deletes. Return 0, or -1 with an exception. */
int
ac_tls_set_sslobj(TLSObject *self, PyObject *value);
int
ac_tls_set_app_protocol(TLSObject *self, PyObject *value);

/* self.<name>(argument), without argument if that is NULL. Returns 0, or -1 with an
 * exception. */
int
ac_tls_call(TLSObject *self, PyObject *name, PyObject *argument);

/* loop.call_soon(self.<name>). Returns 0, or -1 with an exception. */
int
ac_tls_call_soon(TLSObject *self, PyObject *name);

/* Where there is no GIL: whether a call comes from another thread than the loop's. It
 * is left to that one then, as object.name(argument), where `object` is the protocol or
 * its transport. Returns 1 if so, 0: go on, or -1 with an exception. */
int
ac_tls_pass_to_loop(TLSObject *self, PyObject *object, const char *name,
                    PyObject *argument);

static inline int
ac_tls_hand_over(TLSObject *self, PyObject *object, const char *name,
                 PyObject *argument)
{
    return AC_FREE_THREADED ? ac_tls_pass_to_loop(self, object, name, argument) : 0;
}

/* The interpreter's SSLProtocol.<name>(self, argument): what ours has replaced.
 * Returns 0, or -1 with an exception. */
int
ac_tls_call_standard(TLSObject *self, PyObject *name, PyObject *argument);

/* An `except Exception as ex: self._fatal_error(ex, 'Fatal error on SSL protocol')`
 * for the exception being raised. Returns 0, or -1 with one that goes on. */
int
ac_tls_fatal_raised(TLSObject *self);

static inline bool
ac_tls_is_wrapped(const TLSObject *self)
{
    return self->protocol_state == self->state->tls_wrapped;
}

#endif
