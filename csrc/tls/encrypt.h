/* Outgoing: from write() to the transport below. Everything here runs Python; the
 * caller holds the object. */
#ifndef AC_ENCRYPT_H
#define AC_ENCRYPT_H

#include "tls/tls.h"

/* _write_appdata((data,)) for bytes, bytearray or memoryview. Returns 0, or -1 with an
 * exception. */
int
ac_encrypt_one(TLSObject *self, PyObject *data);

/* _write_appdata(lines) */
int
ac_encrypt_lines(TLSObject *self, PyObject *lines);

/* Encrypts what waits, and passes on what OpenSSL has put out: _do_write() if there is
 * a backlog, else _process_outgoing(). Returns 0, or -1 with an exception. */
int
ac_encrypt_backlog(TLSObject *self);

/* Whether size < mark for certain; a mark may be any number. */
static inline bool
ac_encrypt_is_below(Py_ssize_t size, PyObject *mark)
{
    if (mark == NULL || !PyLong_CheckExact(mark)) {
        return false;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(mark, &overflow);
    return overflow > 0 || (overflow == 0 && size < value);
}

extern PyMethodDef ac_encrypt_methods[];

#endif
