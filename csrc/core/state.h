/* Module state: one per interpreter. The types, what is taken from asyncio and
 * its neighbours at import, and the interned names.
 *
 * Names that a program may patch later (asyncio.events._set_running_loop,
 * asyncio.base_events._set_nodelay, ...) are kept as their module and looked up at
 * each use, as the standard loop does. */
#ifndef AC_STATE_H
#define AC_STATE_H

#include "core/python.h"
#include "core/threads.h"

#define AC_TLS_PIECES 24 /* more than flow control lets one connection queue */

/* Interned strings, in the order of ASCII: AC_NAMES(X) calls X(member) with the
 * string's text; the member is called str_<text>. */
#define AC_NAMES(X)                      \
    X(FLOW_CONTROL_HIGH_WATER_SSL_READ)  \
    X(FLOW_CONTROL_HIGH_WATER_SSL_WRITE) \
    X(Future)                            \
    X(LOG_THRESHOLD_FOR_CONNLOST_WRITES) \
    X(MemoryBIO)                         \
    X(SSL_HANDSHAKE_TIMEOUT)             \
    X(SSL_SHUTDOWN_TIMEOUT)              \
    X(StreamReader)                      \
    X(StreamWriter)                      \
    X(Task)                              \
    X(_ThreadSafeHandle)                 \
    X(__class__)                         \
    X(__del__)                           \
    X(__init__)                          \
    X(_add_reader)                       \
    X(_add_writer)                       \
    X(_asyncgen_finalizer_hook)          \
    X(_asyncgen_firstiter_hook)          \
    X(_attach)                           \
    X(_buffer)                           \
    X(_call_connection_lost)             \
    X(_call_eof_received)                \
    X(_cancelled)                        \
    X(_check_callback)                   \
    X(_check_handshake_timeout)          \
    X(_check_running)                    \
    X(_check_shutdown_timeout)           \
    X(_check_thread)                     \
    X(_client_connected_cb)              \
    X(_clients)                          \
    X(_closed)                           \
    X(_connect_sock)                     \
    X(_connection_lost)                  \
    X(_control_app_writing)              \
    X(_control_ssl_reading)              \
    X(_create_connection_transport)      \
    X(_eof)                              \
    X(_detach)                           \
    X(_do_flush)                         \
    X(_do_handshake)                     \
    X(_do_read)                          \
    X(_do_shutdown)                      \
    X(_do_write)                         \
    X(_drain_helper)                     \
    X(_drain_waiters)                    \
    X(_ensure_fd_no_transport)           \
    X(_ensure_resolved)                  \
    X(_exception)                        \
    X(_fatal_error)                      \
    X(_format_callback_source)           \
    X(_get_app_transport)                \
    X(_get_close_waiter)                 \
    X(_get_running_loop)                 \
    X(_handle_signal)                    \
    X(_limit)                            \
    X(_ipaddr_info)                      \
    X(_loop)                             \
    X(_make_socket_transport)            \
    X(_msg_callback)                     \
    X(_on_handshake_complete)            \
    X(_on_shutdown_complete)             \
    X(_paused)                           \
    X(_pending_removals)                 \
    X(_process_outgoing)                 \
    X(_protocol)                         \
    X(_read_ready)                       \
    X(_reader)                           \
    X(_ready)                            \
    X(_remove)                           \
    X(_remove_reader)                    \
    X(_remove_writer)                    \
    X(_run)                              \
    X(_run_once)                         \
    X(_set_app_protocol)                 \
    X(_set_coroutine_origin_tracking)    \
    X(_set_nodelay)                      \
    X(_set_read_buffer_limits)           \
    X(_set_result_unless_cancelled)      \
    X(_set_running_loop)                 \
    X(_set_state)                        \
    X(_set_write_buffer_limits)          \
    X(_signal_handlers)                  \
    X(_sockets)                          \
    X(_sslobj)                           \
    X(_start_handshake)                  \
    X(_start_reading)                    \
    X(_start_shutdown)                   \
    X(_stream_reader_wr)                 \
    X(_stream_writer)                    \
    X(_task_factory)                     \
    X(_transport)                        \
    X(_transports)                       \
    X(_waiter)                           \
    X(_wrap_bio)                         \
    X(_write_appdata)                    \
    X(_write_ready)                      \
    X(accept)                            \
    X(addr)                              \
    X(append)                            \
    X(buffer_updated)                    \
    X(call_at)                           \
    X(call_exception_handler)            \
    X(call_later)                        \
    X(call_soon)                         \
    X(call_soon_threadsafe)              \
    X(callback)                          \
    X(can_write_eof)                     \
    X(cancel)                            \
    X(cancelled)                         \
    X(check_hostname)                    \
    X(cipher)                            \
    X(clear)                             \
    X(close)                             \
    X(compression)                       \
    X(connect)                           \
    X(connection_lost)                   \
    X(connection_made)                   \
    X(context)                           \
    X(create_future)                     \
    X(create_task)                       \
    X(data)                              \
    X(data_received)                     \
    X(datagram_received)                 \
    X(debug)                             \
    X(delay)                             \
    X(detach)                            \
    X(do_handshake)                      \
    X(done)                              \
    X(eager_start)                       \
    X(eof_received)                      \
    X(error_received)                    \
    X(exc_info)                          \
    X(exception)                         \
    X(extract_stack)                     \
    X(family)                            \
    X(fd)                                \
    X(fileno)                            \
    X(get_buffer)                        \
    X(get_debug)                         \
    X(get_extra_info)                    \
    X(getpeercert)                       \
    X(getpeername)                       \
    X(getsockname)                       \
    X(info)                              \
    X(is_closing)                        \
    X(loop)                              \
    X(max_size)                          \
    X(monotonic)                         \
    X(name)                              \
    X(pause_reading)                     \
    X(pause_writing)                     \
    X(peercert)                          \
    X(peername)                          \
    X(pending)                           \
    X(pipe)                              \
    X(proto)                             \
    X(read)                              \
    X(recv)                              \
    X(recv_into)                         \
    X(recvfrom)                          \
    X(recvfrom_into)                     \
    X(resume_reading)                    \
    X(resume_writing)                    \
    X(send)                              \
    X(sendto)                            \
    X(set_exception)                     \
    X(set_result)                        \
    X(set_write_buffer_limits)           \
    X(setblocking)                       \
    X(shutdown)                          \
    X(sleep)                             \
    X(sock_connect)                      \
    X(socket)                            \
    X(sockname)                          \
    X(source_traceback)                  \
    X(ssl)                               \
    X(ssl_object)                        \
    X(sslcontext)                        \
    X(tasks)                             \
    X(time)                              \
    X(unwrap)                            \
    X(update)                            \
    X(warning)                           \
    X(when)                              \
    X(wrap_bio)                          \
    X(write)                             \
    X(write_eof)                         \
    X(writelines)

#define AC_STRING_(token) #token
#define AC_STRING(token) AC_STRING_(token)

extern struct PyModuleDef ac_module_def; /* module.c */

typedef struct ac_state {
    /* types of ours */
    PyTypeObject *Loop;
    PyTypeObject *Handle;
    PyTypeObject *TimerHandle;
    PyTypeObject *ThreadSafeHandle; /* NULL before 3.14 */
    PyTypeObject *FdHandles;        /* the reader and writer of one descriptor */
    PyTypeObject *Stream;
    PyTypeObject *Datagram;
    PyTypeObject *Connection;
    PyTypeObject *Accepted; /* a connection that waits for its turn to be set up */
    PyTypeObject *ReadPipe;
    PyTypeObject *WritePipe;
    PyTypeObject *Awaiter; /* what __await__() of a coroutine returns */
    PyTypeObject *CoroutineMethod;
    PyTypeObject *Operation; /* the coroutine of a sock_* method */
    PyTypeObject *TLSProtocol;
    PyTypeObject *TLSTransport;
    PyTypeObject *ReaderState; /* what a StreamReader of ours has */
    PyTypeObject *Reader;
    PyTypeObject *Writer;
    PyTypeObject *ReaderCoroutine;
    PyTypeObject *WriterCoroutine;
    PyTypeObject *Connected; /* makes the Writer of an accepted connection */

    /* classes and functions of the standard library, kept for good */
    PyObject *asyncio_Handle;
    PyObject *asyncio_TimerHandle;
    PyObject *asyncio_ThreadSafeHandle; /* NULL before 3.14 */
    PyObject *asyncio_FlowControlMixin; /* of asyncio.transports */
    PyObject *asyncio_BufferedProtocol;
    PyObject *standard_write; /* the selector transport's: it knows the TypeError */
    PyObject *datagram_read_ready; /* of the standard datagram transport: called for */
    PyObject *datagram_sendto;     /* all that is not the usual way */
    PyObject *datagram_max_size;
    PyObject *deque_type; /* collections.deque */
    PyObject *TransportSocket;
    PyObject *socket_module;
    PyObject *socket_type;
    PyObject *socket_base; /* its C base class, and methods of it */
    PyObject *socket_fileno;
    PyObject *socket_gettimeout;
    PyObject *socket_stock; /* methods of socket.socket at import, a tuple; plain.c */
    PyObject *stock_set_nodelay; /* of asyncio.base_events; NULL: another one */
    PyObject *stock_ipaddr_info; /* likewise */
    PyObject *connection_parts;  /* tuple: see connection_parts.h; NULL if not known */
    PyObject *standard_loop;     /* asyncio.SelectorEventLoop */
    PyObject *fast_Future;       /* _asyncio.Future, whose methods stay, and two */
    PyObject *future_done;       /* of these; NULL where there is none */
    PyObject *future_set_result;
    PyObject *asyncio_Task;         /* the one in C, and BaseEventLoop.create_task: */
    PyObject *standard_create_task; /* NULL where they are not the interpreter's */
    PyObject *names_task;           /* ("loop", "name", "context") */
    PyObject *names_eager_task;     /* and "eager_start" */
    PyObject *names_context; /* ("context",), the one that was used last; or NULL */
    PyObject *no_variables;  /* of every empty context; NULL if unknown; context.c */
    PyObject *empty_tuple;
    PyObject *stop_iteration; /* the last one of bytes in an await, or NULL */
    PyObject *high_water;     /* the limits of a new transport */
    PyObject *low_water;
    PyObject *handle_run;           /* asyncio.Handle._run as it was at import */
    PyObject *threadsafe_stock;     /* likewise what threadsafe.c replaces; or NULL */
    PyObject *transport_extra_info; /* likewise BaseTransport.get_extra_info */
    PyObject *get_asyncgen_hooks;
    PyObject *set_asyncgen_hooks;
    PyObject *logger;       /* the logger "asyncio" */
    PyObject *stock_reader; /* asyncio.StreamReader, StreamWriter and */
    PyObject *stock_writer; /* StreamReaderProtocol */
    PyObject *stock_protocol;
    PyObject *stock_attributes; /* what they had at import; see stock.c */
    PyObject *stock_functions;  /* tuple: see stock.h */
    PyObject *server_type;      /* asyncio.base_events.Server */
    PyObject *weakset_type;     /* weakref.WeakSet */
    PyObject *clients_stock;    /* tuple: what clients.c replaces; or NULL */
    PyObject *newline;          /* b'\n' */
    PyObject *IncompleteReadError;
    PyObject *LimitOverrunError;
    PyObject *SSLProtocol;    /* of asyncio.sslproto */
    PyObject *SSLTransport;   /* asyncio.sslproto._SSLProtocolTransport */
    PyObject *SSLAgainErrors; /* NULL where there is no ssl module, as the next two */
    PyObject *SSLError;
    PyObject *MemoryBIO;
    PyObject *tls_handshake; /* members of SSLProtocolState */
    PyObject *tls_wrapped;
    PyObject *tls_flushing;
    PyObject *tls_shutdown;
    PyObject *tls_unwrapped;
    PyObject *tls_app_init; /* members of AppProtocolState */
    PyObject *tls_app_made;
    PyObject *tls_app_eof;
    PyObject *tls_app_lost;
    PyObject *names_wrap_bio;    /* ("server_side", "server_hostname") */
    PyObject *names_wrap_served; /* and "owner", "session" */
    PyTypeObject *SSLSocket;  /* _ssl._SSLSocket; NULL until asked for, as the rest */
    PyTypeObject *SSLContext; /* ssl.SSLContext and ssl.SSLObject */
    PyTypeObject *SSLObject;
    PyObject *ssl_read; /* functions of it, as they were then */
    PyObject *ssl_write;
    PyObject *ssl_pending;
    PyObject *why_no_libssl; /* str: what the proof said; NULL if it was passed */

    /* modules: their functions are looked up when they are used */
    PyObject *base_events;
    PyObject *constants;
    PyObject *events;
    PyObject *format_helpers;
    PyObject *futures;
    PyObject *sslproto;
    PyObject *unix_events;
    PyObject *streams;
    PyObject *time_dict; /* of the module time; dictwatch.h watches these four */
    PyObject *futures_dict;
    PyObject *tasks_dict;
    PyObject *base_events_dict;
    PyObject *time_monotonic; /* time.monotonic as it was at import */
    PyObject *dict_watch;     /* keeps `dict_changes` alive; NULL where it need not */

    const struct ac_sink_ops *sinks[2];  /* of the reader and of TLS; stream/sink.h */
    struct ac_libssl *libssl;            /* proven, or NULL */
    bool tls_chosen;                     /* that new connections use it */
    bool tls_again;                      /* the proof had no descriptor */
    bool tls_direct;                     /* new connections use it */
    PyObject *tls_pieces[AC_TLS_PIECES]; /* exact bytes or NULL; tls/pieces.h */

    struct ac_dict_changes *dict_changes; /* NULL if there are none; dictwatch.h */
    const uint64_t *module_changes;       /* of them; NULL if nobody can tell */
    uint64_t time_unreplaced; /* ac_dictwatch_modules() when time.monotonic was that, */
    uint64_t future_unreplaced; /* asyncio.futures.Future the one in C, */
    uint64_t task_unreplaced;   /* and base_events.tasks.Task */
    Py_ssize_t context_offset;  /* of the variables in a context */
    Py_ssize_t
        future_loop; /* where a Future keeps it; 0: not yet known, -1: by a call */
    unsigned int socket_version; /* of socket.socket, if its methods are its base's */
    uint8_t socket_layout;       /* of its struct: unknown, proven, other; plain.c */
    unsigned long main_thread;   /* its identifier, 0 until looked up */
    unsigned int main_thread_forks; /* `forks` when it was */
    struct ac_signals *signals;     /* of the loops; signals.c */
    AC_MUTEX(mutex)                 /* for them */
    bool libuv_started;             /* a loop of this interpreter has been opened */
    unsigned int forks; /* how often this interpreter has found itself in a child */
    unsigned int ssl_version; /* of the two, when libssl was looked for */
    unsigned int context_version;
    unsigned int stock_versions[3];   /* of the three, when they were compared */
    bool stock_unchanged;             /* what came out */
    bool stock_tuples;                /* readuntil() takes a tuple */
    unsigned int clients_versions[2]; /* of the two, while they are unchanged */
    Py_ssize_t weakset_parts;         /* how many attributes a WeakSet has */
    bool server_takes_transport;      /* Server._attach(transport), since 3.13 */
    bool connection_has_context; /* one for all callbacks of a connection, since 3.15 */
    bool accept_reports;  /* failed factories, without debug mode as well (gh-155934) */
    uint8_t factory_call; /* how create_task() calls the task factory: loop/task.c */
    bool create_task_passes_on; /* create_task(**kwargs), since 3.13.3 */
    bool format_has_debug;      /* _format_callback_source takes debug= */

#define AC_NAME_MEMBER(name) PyObject *str_##name;
    AC_NAMES(AC_NAME_MEMBER)
#undef AC_NAME_MEMBER
} ac_state;

/* Fills the state's names and imports. Returns 0, or -1 with an exception. */
int
ac_state_init(ac_state *state);
int
ac_state_traverse(ac_state *state, visitproc visit, void *arg);
int
ac_state_clear(ac_state *state);

static inline ac_state *
ac_state_of(PyObject *module)
{
    return (ac_state *)PyModule_GetState(module);
}

/* That of an object whose type, or a base of it, is the module's; cannot fail. */
static inline ac_state *
ac_state_of_object(PyObject *object)
{
    return ac_state_of(PyType_GetModuleByDef(Py_TYPE(object), &ac_module_def));
}

/* ac_type_version() of a type that is given one, for what is about to be found out
 * about the type and remembered by this number: it is another one if a thread changes
 * the type meanwhile. May run Python where a metaclass has such a look-up. */
unsigned int
ac_type_version_to_note(PyTypeObject *type);

/* Creates a heap type of the module and adds it under its name; `bases` may be
 * NULL. Returns a new reference, or NULL with an exception. */
PyTypeObject *
ac_state_add_type(PyObject *module, PyType_Spec *spec, PyObject *bases);

/* Adds a method, or all of a table, to a type that is being set up. Returns 0, or -1
 * with an exception. */
int
ac_state_add_method(PyTypeObject *type, PyMethodDef *method);
int
ac_state_add_methods(PyTypeObject *type, PyMethodDef *methods);

/* The attribute of a module that is imported. New reference, NULL with an
 * exception. */
PyObject *
ac_state_import(const char *module_name, const char *attribute);

/* Where a slot of an asyncio class lies in a struct of ours. */
typedef struct {
    const char *name; /* NULL ends a table */
    size_t offset;
} ac_slot_offset;

/* Compares a struct of ours with the member descriptors of the class that it
 * mirrors, and with its size; refuses to load where they differ. Returns 0, or -1
 * with ImportError. */
int
ac_state_check_layout(PyObject *base, const ac_slot_offset *slots, size_t basicsize);

#endif
