/* One record at a time. Every function may run Python, in callbacks of OpenSSL; the
 * caller holds the object. */
#ifndef AC_ENGINE_H
#define AC_ENGINE_H

#include "tls/tls.h"

enum {
    AC_ENGINE_FAILED = -1, /* with an exception */
    AC_ENGINE_AGAIN = -2,  /* not before more cipher text has come */
};

/* The largest record's plain text. */
#define AC_ENGINE_RECORD 16384

/* More than what a record of one of the usual ciphers is longer than its plain text. */
#define AC_ENGINE_OVERHEAD 40

/* Takes up `sslobj`, an ssl.SSLObject on the two MemoryBIO: decides about the way.
 * Returns 0, or -1 with an exception. */
int
ac_engine_open(TLSObject *self);

/* The connection is over: lets go of the buffers. */
void
ac_engine_close(TLSObject *self);

/* Up to `len` bytes of plain text into `data`. OpenSSL is not asked where no input is
 * left, but in the `first` of some calls: a connection that has failed or is closed in
 * both directions has an exception then. Returns how many, 0 at close_notify,
 * AC_ENGINE_AGAIN or AC_ENGINE_FAILED. */
Py_ssize_t
ac_engine_read(TLSObject *self, char *data, size_t len, bool first);

/* Encrypts one record's worth of plain text, which lies within `object` if that is not
 * NULL: how many bytes, AC_ENGINE_AGAIN or AC_ENGINE_FAILED. */
Py_ssize_t
ac_engine_write(TLSObject *self, const char *data, size_t len, PyObject *object);

/* A method of the SSLObject without arguments that passes on to the `_ssl._SSLSocket`
 * in it, where it has the name `inner` if that is not NULL; it is asked at once unless
 * somebody may have put something between. New reference, NULL with an exception. */
PyObject *
ac_engine_call(TLSObject *self, PyObject *name, PyObject *inner);

/* How much cipher text has come in and is not decrypted; -1 with an exception. */
Py_ssize_t
ac_engine_incoming(TLSObject *self);

/* How much has been put out and not been passed on; -1 with an exception. */
Py_ssize_t
ac_engine_outgoing(TLSObject *self);

/* Passes what has come in to where the methods of the SSLObject will look for it.
 * Returns 0, or -1 with an exception. */
int
ac_engine_pour(TLSObject *self);

/* What has been put out: *data is a new reference to exact bytes, or NULL if there is
 * nothing. Returns 0, or -1 with an exception. */
int
ac_engine_take(TLSObject *self, PyObject **data);

/* Before records: looks whether direct calls are still right, thoroughly in the first
 * call with a handshake behind it. Returns 0, or -1 with an exception. */
int
ac_engine_settle(TLSObject *self);

#endif
