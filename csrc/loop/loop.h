/* LoopObject: one thread's event loop, `asynccore._core.Loop`.
 *
 * The Python class `asynccore.Loop` derives from it and from the standard
 * library's selector loop: what runs once per connection or process is the
 * interpreter's own code, what runs per callback, event or byte is here.
 *
 * Everything in the struct belongs to the holder of the GIL; where there is none, to
 * the thread that runs the loop, but for what core/threads.h tells. The one thread
 * that polls does so without it and touches only `poller`, `events` and the
 * watchers' `revents`; so whoever else wants to change what libuv knows while
 * `polling` is set leaves it to the polling thread (see poller.h). */
#ifndef AC_LOOP_H
#define AC_LOOP_H

#include "core/buf.h"
#include "core/python.h"
#include "core/ring.h"
#include "core/state.h"

typedef struct ac_poller ac_poller;
typedef struct ac_timers ac_timers;
typedef struct ac_watcher ac_watcher;
typedef struct LoopObject LoopObject;

/* Methods that internal code calls through the instance when a subclass or an
 * assignment replaced them. */
enum {
    AC_OVERRIDE_CALL_SOON = 1u << 0,
    AC_OVERRIDE_CALL_AT = 1u << 1,
    AC_OVERRIDE_TIME = 1u << 2,
    AC_OVERRIDE_CREATE_FUTURE = 1u << 3,
    AC_OVERRIDE_RUN_ONCE = 1u << 4,
    AC_OVERRIDE_GET_DEBUG = 1u << 5,
    /* parts of create_connection(), of an instance only: stream/connection_parts.c */
    AC_OVERRIDE_CONNECT_SOCK = 1u << 6,
    AC_OVERRIDE_CREATE_CONNECTION_TRANSPORT = 1u << 7,
    AC_OVERRIDE_ENSURE_RESOLVED = 1u << 8,
    AC_OVERRIDE_MAKE_SOCKET_TRANSPORT = 1u << 9,
    AC_OVERRIDE_SOCK_CONNECT = 1u << 10,
};

#define AC_OVERRIDE_CONNECTION                                          \
    (AC_OVERRIDE_CONNECT_SOCK | AC_OVERRIDE_CREATE_CONNECTION_TRANSPORT \
     | AC_OVERRIDE_ENSURE_RESOLVED | AC_OVERRIDE_MAKE_SOCKET_TRANSPORT  \
     | AC_OVERRIDE_SOCK_CONNECT)

/* Something that stays open beyond a call and belongs to a loop (a stream). The
 * loop's list makes what it holds visible to the collector. */
typedef struct ac_open {
    struct ac_open *prev, *next; /* NULL while not on a list */
    PyObject *object;            /* borrowed: the object that contains this node */
    bool held; /* the loop owns one reference to `object` through this node */
    /* The loop closes: let go of watchers; calls no user code. */
    void (*on_loop_close)(struct ac_open *node);
} ac_open;

/* A stream with corked bytes; `flush` sends them when the running callback has
 * returned. The loop owns a reference to `object` while the node is queued. */
typedef struct ac_flush {
    struct ac_flush *next;
    bool queued;
    PyObject *object; /* borrowed: the object that contains this node */
    /* Sends what is corked. May run Python. Returns 0, or -1 with an exception
     * that asyncio never catches. */
    int (*flush)(struct ac_flush *node);
} ac_flush;

/* See freelist.h. */
typedef struct {
    PyTypeObject *type; /* owned: what frees an object looks at its type */
    PyObject *head;
    unsigned int len;
} ac_freelist;

/* See flood.h. */
typedef struct {
    unsigned int calls; /* of call_soon_threadsafe in this turn */
    bool waiting;       /* for the turn's end */
    PyThread_type_lock turn_over;
} ac_flood;

/* A poll may be left out while callbacks are ready and no descriptor is watched: at
 * most this many turns and this long in a row. Where nothing else needs the clock, it
 * is read in one of so many of these turns, since it is a ninth of what a turn costs.
 */
#define AC_TURNS_WITHOUT_POLL 64
#define AC_NS_WITHOUT_POLL 50000.0
#define AC_TURNS_WITHOUT_CLOCK 4

/* Dead objects kept for reuse: at most so many in a burst, and so many after it. */
#define AC_FREELIST_MAX 16384
#define AC_FREELIST_KEPT 256
#define AC_READ_BUFFER (256 * 1024) /* BaseSelectorTransport.max_size */

struct LoopObject {
    PyObject_HEAD
    AC_MUTEX(mutex)   /* see core/threads.h */
    ac_state *state;  /* borrowed from the module */
    PyObject *module; /* at the end of the interpreter the type may let go first */

    /* life */
    bool closed;   /* also true before __init__ */
    bool stopping; /* stop() was called */
    bool running;  /* a thread is inside run_forever */
    bool debug;
    bool cork;               /* writes of one callback leave together */
    bool cork_turn;          /* and those of all callbacks of a turn */
    bool c_streams;          /* asyncio's streams may run in C */
    bool handle_run_patched; /* _run of Handle or TimerHandle is not that of import */
    bool instrumented;    /* debug mode, or Handle._run is patched: each callback goes
                             through a real Handle */
    bool signals_begun;   /* ac_signals_begin was called in this run */
    bool handles_signals; /* add_signal_handler has callbacks */
    bool polling;         /* the loop's thread is in a poll without the GIL: whoever
                             finds it set is another one */
    bool in_callback;     /* a turn runs callbacks: writes may wait for its end */
    unsigned long thread_id; /* of the running thread, the last one that ran it, or
                                the one that made it */
#if AC_FREE_THREADED
    unsigned long visitor; /* the thread that is in ac_owner_enter, */
    unsigned int visits;   /* and how often */
#endif
    unsigned int forks;      /* state->forks when the kernel's sets were made */
    unsigned int overridden; /* AC_OVERRIDE_* */
    unsigned int instance_overridden; /* the part of it that __dict__ holds */
    unsigned int type_version; /* of the class, when `overridden` was worked out */
    unsigned int task_version; /* of it, when create_task was looked up: */
    bool task_standard;        /* the class inherits the interpreter's */
    unsigned int connection_version; /* of it, when it made connections as is known */
    unsigned int handle_version; /* of asyncio.TimerHandle, when _run was looked up */
    unsigned int threadsafe_version; /* of _ThreadSafeHandle, likewise; and whether */
    bool threadsafe_patched;         /* it is not what it was at import */
    double slow_callback_duration;   /* seconds */
    double clock_resolution;         /* seconds */

    /* the turn; what is left here after an exception runs first next time */
    ac_ring ready;       /* owned handles */
    size_t snapshot;     /* handles of the current turn still to run */
    ac_watcher **events; /* watchers with revents, in the order of the poll */
    size_t events_len, events_pos, events_cap;
    size_t events_kept;   /* of a turn that an exception left: the first so many, */
    size_t events_before; /* which run after this many handles of the next snapshot */
    PyObject **due;       /* owned timer handles, popped before the snapshot ran */
    size_t due_len, due_pos, due_cap;
    unsigned int turns_without_poll;
    size_t watched;    /* watchers that want events */
    double last_poll;  /* by ac_clock_real */
    double clock_seen; /* a time of that clock since the last turn, or -INFINITY */
    ac_flood flood;

    ac_timers *timers;
    ac_poller *poller;          /* NULL while closed */
    struct ac_signals *signals; /* NULL until first needed */
    ac_flush *flush_head, *flush_tail;
    ac_open open_head;                  /* list head of the open objects */
    ac_freelist handles, timer_handles; /* see handle.c */
    ac_freelist threadsafe_handles;     /* see threadsafe.c */
    ac_freelist fd_handles;             /* see io/watch.c */
    ac_freelist operations;             /* see sock/operation.c */
    ac_freelist reads, drains;          /* see reader/reads.c, drain.c */
    PyObject *spare_context; /* new, for the next handle that needs one; or NULL */
    ac_buf *spare_buf; /* small and empty, for the next stream that queues; or NULL */
    char *read_buffer; /* AC_READ_BUFFER bytes, made at the first read */
    PyObject *future_keywords; /* owned, in a run: {"loop": the loop}; or NULL */
    PyObject *transports;      /* owned: `_transports`, and its dict, if it has one */
    PyObject *transports_data;
    bool sock_reads_are_large; /* the last sock_recv was: the next one may be, too */
};

/* Registers _core.Loop. Returns 0, or -1 with an exception. */
int
ac_loop_register(PyObject *module, ac_state *state);

/* While the module is being set up, other files add methods to _core.Loop; this ends
 * that: what programs patch is a subclass. */
void
ac_loop_seal(ac_state *state);

/* Raises RuntimeError('Event loop is closed'); returns -1. */
int
ac_loop_raise_closed(void);

/* Raises that and returns -1 if it is. */
static inline int
ac_loop_check_closed(LoopObject *loop)
{
    return AC_LOAD(loop->closed) ? ac_loop_raise_closed() : 0;
}

/* True in a forked child as long as the loop still shares its kernel sets with the
 * parent: then nothing may be changed in them. */
static inline bool
ac_loop_is_forked(const LoopObject *loop)
{
    return loop->forks != loop->state->forks;
}

/* What the method of that name checks before it schedules `callback`: that the loop is
 * open; in debug mode also that the thread is its own, but for call_soon_threadsafe,
 * and that `callback` is no coroutine. Returns 0, or -1 with an exception. */
int
ac_loop_check_call_slow(LoopObject *loop, PyObject *callback, PyObject *method);

static inline int
ac_loop_check_call(LoopObject *loop, PyObject *callback, PyObject *method)
{
    return AC_LOAD(loop->closed) || loop->debug
               ? ac_loop_check_call_slow(loop, callback, method)
               : 0;
}

/* Puts a node on the list of open objects, or takes it off; neither touches
 * references. */
void
ac_loop_open_add(LoopObject *loop, ac_open *node);
void
ac_loop_open_remove(ac_open *node);

/* Makes the loop own a reference to the node's object, or drops it. Dropping may
 * run Python (the object's finalizer). */
void
ac_loop_hold(ac_open *node);
void
ac_loop_release(ac_open *node);

/* Queues a node for the flush after the running callback, in order of the first
 * write. */
void
ac_loop_flush_later(LoopObject *loop, ac_flush *node);

/* Flushes all queued nodes. Returns 0, or -1 with an exception that asyncio
 * never catches. */
int
ac_loop_flush_queued(LoopObject *loop);

static inline int
ac_loop_flush(LoopObject *loop)
{
    return loop->flush_head == NULL ? 0 : ac_loop_flush_queued(loop);
}

/* The same after what returned `rc`: its exception is the one to raise. Returns 0 or
 * -1. */
int
ac_loop_flush_after(LoopObject *loop, int rc);

/* Whether what callbacks write is held until the end of the turn. */
static inline bool
ac_loop_holds(const LoopObject *loop)
{
    return loop->cork && loop->cork_turn;
}

/* Frees what the freelists keep, but for `kept` objects each. */
void
ac_loop_trim_freelists(LoopObject *loop, unsigned int kept);

/* A buffer of AC_READ_BUFFER bytes, shared by all reads of the loop; its content
 * is dead as soon as Python code runs. NULL with MemoryError on failure. */
char *
ac_loop_read_buffer(LoopObject *loop);

#endif
