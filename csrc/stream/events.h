/* The events of a stream. */
#ifndef AC_EVENTS_H
#define AC_EVENTS_H

#include "stream/stream.h"

/* Makes the watcher, which wants nothing yet, so that the number counts as used by the
 * stream. Pipes have none: the loop's add_reader and add_writer watch them (pipe.c).
 * May run Python (another watcher of a shared number is replaced). Returns 0,
 * or -1 with an exception. */
int
ac_events_open(StreamObject *self);

/* Adds to or takes away from the events that are wanted; the loop owns the stream
 * while there are any. Watching returns 0, or -1 with an exception; unwatching may
 * run Python (it drops the loop's reference: the caller holds one). A number that
 * others know gets free for add_reader() and sock_*() when nothing is wanted and
 * the stream is closing or sendfile() has it. If somebody waits for it then, what the
 * stream waits for is left to add_reader() and add_writer(), as by a pipe. */
int
ac_events_watch(StreamObject *self, unsigned int events);
void
ac_events_unwatch(StreamObject *self, unsigned int events);

/* After sendfile(): a number that is read by add_reader() gets its watcher again. May
 * run Python. Returns 0, or -1 with an exception. */
int
ac_events_take_back(StreamObject *self);

/* transport_of(), a function of the module. */
extern PyMethodDef ac_events_functions[];

#endif
