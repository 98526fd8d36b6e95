/* Incoming: from the transport below to the protocol above. Everything here runs
 * Python; the caller holds the object. */
#ifndef AC_DECRYPT_H
#define AC_DECRYPT_H

#include "tls/tls.h"

/* buffer_updated() for bytes that stay where they are during the call. Returns 0, or
 * -1 with an exception. */
int
ac_decrypt_feed(PyObject *self, const char *data, size_t len);

/* _do_read(): decrypts what there is and passes it on. Returns 0, or -1 with an
 * exception that SSLProtocol does not catch. */
int
ac_decrypt_all(TLSObject *self);

extern const ac_sink_ops ac_decrypt_sink;
extern PyMethodDef ac_decrypt_methods[];

#endif
