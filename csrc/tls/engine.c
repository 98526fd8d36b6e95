/* One record: by SSL_read_ex() and SSL_write_ex(), or by SSLObject.read() and write().
 *
 * A direct call that fails is repeated as a method at once, with OpenSSL's error queue
 * as it is: that raises the very exception of the ssl module. So there is no list of
 * OpenSSL's errors here. Handshake and shutdown are always the methods. */
#include "core/python.h"

#include "core/method.h"
#include "tls/engine.h"
#include "tls/pieces.h"
#include "tls/sslmodule.h"

#include <string.h>

/* <openssl/ssl.h> */
#define ERROR_WANT_READ 2

/* A MemoryBIO keeps the largest size it ever had: it is fed in pieces. */
#define MEMORY_SLICE 16384

/* ----------------------------------------------------------------- the choice -- */

/* Whether sslobj.context._msg_callback is None. -1 with an exception. */
static int
is_unobserved(ac_state *state, PyObject *sslobj)
{
    PyObject *inner = ac_sslmodule_is_object(state, sslobj)
                          ? PyObject_GetAttr(sslobj, state->str__sslobj)
                          : Py_NewRef(sslobj);
    PyObject *context =
        inner == NULL ? NULL : PyObject_GetAttr(inner, state->str_context);
    Py_XDECREF(inner);
    PyObject *callback =
        context == NULL ? NULL : PyObject_GetAttr(context, state->str__msg_callback);
    Py_XDECREF(context);
    Py_XDECREF(callback);
    return callback == NULL ? -1 : callback == Py_None;
}

int
ac_engine_open(TLSObject *self)
{
    ac_state *state = self->state;
    // without a GIL the one who chooses is the only one who looks
    if (!AC_FREE_THREADED && state->tls_again
        && ac_libssl_decide_borrowed(state) == NULL) {
        return -1;
    }
    if (!state->tls_direct) {
        return 0;
    }
    int rc = ac_sslmodule_has_records(state, self->sslobj);
    PyObject *socket = NULL;
    if (rc == 1) {
        socket = PyObject_GetAttr(self->sslobj, state->str__sslobj);
        rc = socket == NULL ? -1 : Py_IS_TYPE(socket, state->SSLSocket);
    }
    ac_ssl *ssl = rc == 1 ? ac_libssl_ssl(state->libssl, socket) : NULL;
    if (ssl != NULL) {
        self->bio = ac_bio_attach(state->libssl, ssl, &self->flows);
    }
    if (self->bio != NULL) {
        self->ssl = ssl;
        self->socket = socket;  // ours: `_sslobj` may be assigned to
        socket = NULL;
        self->flags |= AC_TLS_OWN_BIO | AC_TLS_DIRECT;
    }
    Py_XDECREF(socket);
    return rc < 0 ? -1 : 0;
}

void
ac_engine_close(TLSObject *self)
{
    if (self->bio != NULL) {
        ac_bio *bio = self->bio;
        self->bio = NULL;
        ac_bio_detach(bio, self->state->libssl);
    }
    self->ssl = NULL;
    Py_CLEAR(self->socket);
    self->flags &= ~(uint32_t)AC_TLS_DIRECT;
    ac_inflow_clear(&self->flows.in);
    ac_outflow_clear(&self->flows.out);
    ac_pieces_clear(self->state);  // those in use stay with who uses them
    Py_CLEAR(self->buffer);
}

/* Whether somebody has given the object a read(), write() or pending() of its own; they
 * are looked for when it has another number of attributes than before. -1 with an
 * exception. */
static int
is_replaced(TLSObject *self)
{
    PyObject *dict = ac_instance_dict_borrowed(self->sslobj);
    if (dict == NULL || PyDict_GET_SIZE(dict) == self->members) {
        return 0;
    }
    ac_state *state = self->state;
    PyObject *const names[] = {state->str_read, state->str_write, state->str_pending};
    self->members = PyDict_GET_SIZE(dict);
    int rc = 0;
    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = PyDict_Contains(dict, names[i]);
    }
    return rc;
}

int
ac_engine_settle(TLSObject *self)
{
    if (!(self->flags & AC_TLS_DIRECT)) {
        return 0;
    }
    int stays = 1;
    if (!(self->flags & AC_TLS_RECORDS)) {
        self->flags |= AC_TLS_RECORDS;
        self->members = 1;  // `_sslobj`
        // the server's name may have led to another context
        stays = is_unobserved(self->state, self->sslobj);
    }
    if (stays > 0) {
        int replaced = is_replaced(self);
        stays = replaced < 0 ? -1 : !replaced;
    }
    if (stays == 0) {
        self->flags &= ~(uint32_t)AC_TLS_DIRECT;
    }
    return stays < 0 ? -1 : 0;
}

/* ------------------------------------------------------------------- methods -- */

/* object.<name> as a size; -1 with an exception. */
static Py_ssize_t
get_size(PyObject *object, PyObject *name)
{
    PyObject *number = object == NULL ? NULL : PyObject_GetAttr(object, name);
    if (number == NULL) {
        if (object == NULL) {
            PyErr_SetObject(PyExc_AttributeError, name);
        }
        return -1;
    }
    Py_ssize_t size = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    if (size < 0) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "%U is negative", name);
        }
        return -1;
    }
    return size;
}

PyObject *
ac_engine_call(TLSObject *self, PyObject *name, PyObject *inner)
{
    ac_state *state = self->state;
    if (!ac_sslmodule_is_object(state, self->sslobj)) {
        return ac_method_call(self->sslobj, name, NULL);
    }
    PyObject *sslobj = Py_NewRef(self->sslobj);  // which callbacks of OpenSSL are told
    PyObject *socket = PyObject_GetAttr(sslobj, state->str__sslobj);
    PyObject *result = socket == NULL
                           ? NULL
                           : ac_method_call(socket, inner == NULL ? name : inner, NULL);
    Py_XDECREF(socket);
    Py_DECREF(sslobj);
    return result;
}

/* Moves up to `limit` bytes of what has come in into the MemoryBIO. */
static int
feed_memory(TLSObject *self, size_t limit)
{
    ac_inflow *in = &self->flows.in;
    size_t n = in->len < limit ? in->len : limit;
    if (n == 0) {
        return 0;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(in->data, (Py_ssize_t)n);
    if (bytes == NULL) {
        return -1;
    }
    ac_inflow_consume(in, n);
    PyObject *result = ac_method_call(self->incoming, self->state->str_write, bytes);
    Py_DECREF(bytes);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* sslobj.<name>(argument) while OpenSSL counts as busy. */
static PyObject *
call_sslobj(TLSObject *self, PyObject *name, PyObject *argument)
{
    PyObject *sslobj = Py_NewRef(self->sslobj);
    self->flags |= AC_TLS_BUSY;
    PyObject *result = ac_method_call(sslobj, name, argument);
    self->flags &= ~(uint32_t)AC_TLS_BUSY;
    Py_DECREF(sslobj);
    return result;
}

/* AC_ENGINE_AGAIN for `except SSLAgainErrors`, else AC_ENGINE_FAILED. */
static Py_ssize_t
again_or_failed(ac_state *state)
{
    if (state->SSLAgainErrors == NULL || !PyErr_ExceptionMatches(state->SSLAgainErrors))
    {
        return AC_ENGINE_FAILED;
    }
    PyErr_Clear();
    return AC_ENGINE_AGAIN;
}

/* sslobj.read(len) into `data` */
static Py_ssize_t
read_method(TLSObject *self, char *data, size_t len)
{
    PyObject *size = PyLong_FromSize_t(len);
    PyObject *bytes =
        size == NULL ? NULL : call_sslobj(self, self->state->str_read, size);
    Py_XDECREF(size);
    if (bytes == NULL) {
        return again_or_failed(self->state);
    }
    Py_buffer view;
    Py_ssize_t n = AC_ENGINE_FAILED;
    if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) == 0) {
        n = view.len;
        if ((size_t)n > len) {
            PyErr_SetString(PyExc_ValueError, "read() gave more than was asked for");
            n = AC_ENGINE_FAILED;
        }
        else {
            memcpy(data, view.buf, (size_t)n);
        }
        PyBuffer_Release(&view);
    }
    Py_DECREF(bytes);
    return n;
}

/* sslobj.write(data) */
static Py_ssize_t
write_method(TLSObject *self, const char *data, size_t len, PyObject *object)
{
    PyObject *bytes;
    if (object != NULL && PyBytes_CheckExact(object)
        && PyBytes_AS_STRING(object) == data && (size_t)PyBytes_GET_SIZE(object) == len)
    {
        bytes = Py_NewRef(object);
    }
    else {
        size_t n = len < AC_ENGINE_RECORD ? len : AC_ENGINE_RECORD;
        bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)n);
        if (bytes == NULL) {
            return AC_ENGINE_FAILED;
        }
    }
    PyObject *count = call_sslobj(self, self->state->str_write, bytes);
    Py_DECREF(bytes);
    if (count == NULL) {
        return again_or_failed(self->state);
    }
    Py_ssize_t n = PyLong_AsSsize_t(count);
    Py_DECREF(count);
    if (n < 0 || (size_t)n > len) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "write() returned no count");
        }
        return AC_ENGINE_FAILED;
    }
    return n;
}

/* Moves what the MemoryBIO has put out behind what is there already. */
static int
drain_memory(TLSObject *self)
{
    PyObject *bytes = ac_method_call(self->outgoing, self->state->str_read, NULL);
    if (bytes == NULL) {
        return -1;
    }
    ac_outflow *out = &self->flows.out;
    int rc = 0;
    if (!PyBytes_CheckExact(bytes)) {
        PyErr_SetString(PyExc_TypeError, "read() must return bytes");
        rc = -1;
    }
    else if (PyBytes_GET_SIZE(bytes) > 0) {
        size_t n = (size_t)PyBytes_GET_SIZE(bytes);
        rc = ac_outflow_reserve(out, n);
        if (rc == 0) {
            (void)ac_outflow_append(out, PyBytes_AS_STRING(bytes), n);
        }
    }
    Py_DECREF(bytes);
    return rc;
}

/* -------------------------------------------------------------------- direct -- */

static void
clear_errors(const ac_libssl *lib)
{
    if (lib->ERR_peek_error() != 0) {  // clearing costs five times as much
        lib->ERR_clear_error();
    }
}

static Py_ssize_t
read_direct(TLSObject *self, char *data, size_t len)
{
    const ac_libssl *lib = self->state->libssl;
    ac_ssl *ssl = self->ssl;
    PyObject *socket = Py_NewRef(self->socket);
    size_t n = 0;
    clear_errors(lib);
    self->flags |= AC_TLS_BUSY;
    int done = lib->SSL_read_ex(ssl, data, len, &n);
    self->flags &= ~(uint32_t)AC_TLS_BUSY;
    Py_ssize_t result = (Py_ssize_t)n;
    if (PyErr_Occurred()) {  // a callback's
        result = AC_ENGINE_FAILED;
    }
    else if (!done && lib->SSL_get_error(ssl, 0) == ERROR_WANT_READ) {
        result = AC_ENGINE_AGAIN;
    }
    else if (!done) {
        result = read_method(self, data, 1);
    }
    Py_DECREF(socket);
    return result;
}

static Py_ssize_t
write_direct(TLSObject *self, const char *data, size_t len)
{
    const ac_libssl *lib = self->state->libssl;
    ac_ssl *ssl = self->ssl;
    PyObject *socket = Py_NewRef(self->socket);
    size_t n = 0;
    clear_errors(lib);
    self->flags |= AC_TLS_BUSY;
    int done = lib->SSL_write_ex(ssl, data, len, &n);
    self->flags &= ~(uint32_t)AC_TLS_BUSY;
    if (self->flows.out.failed) {
        self->flows.out.failed = false;
        PyErr_NoMemory();
    }
    Py_ssize_t result = (Py_ssize_t)n;
    if (PyErr_Occurred()) {
        result = AC_ENGINE_FAILED;
    }
    else if (!done && lib->SSL_get_error(ssl, 0) == ERROR_WANT_READ) {
        result = AC_ENGINE_AGAIN;
    }
    else if (!done) {
        result = write_method(self, data, len, NULL);
    }
    Py_DECREF(socket);
    return result;
}

/* ----------------------------------------------------------------- functions -- */

/* Whether there is cipher text, or plain text in OpenSSL; -1 with an exception. */
static int
has_input(TLSObject *self)
{
    if (self->flows.in.len > 0) {
        return 1;
    }
    if (self->flags & AC_TLS_DIRECT) {
        return self->state->libssl->SSL_pending(self->ssl) > 0;
    }
    if (!(self->flags & AC_TLS_OWN_BIO)) {
        Py_ssize_t size = get_size(self->incoming, self->state->str_pending);
        if (size != 0) {
            return size < 0 ? -1 : 1;
        }
    }
    PyObject *pending = call_sslobj(self, self->state->str_pending, NULL);
    int any = pending == NULL ? -1 : PyObject_IsTrue(pending);
    Py_XDECREF(pending);
    return any;
}

Py_ssize_t
ac_engine_read(TLSObject *self, char *data, size_t len, bool first)
{
    if (self->flags & AC_TLS_BUSY || self->sslobj == NULL) {
        return AC_ENGINE_AGAIN;
    }
    int any = first ? 1 : has_input(self);
    if (any <= 0) {
        return any < 0 ? AC_ENGINE_FAILED : AC_ENGINE_AGAIN;
    }
    if (self->flags & AC_TLS_DIRECT) {
        return read_direct(self, data, len);
    }
    if (self->flags & AC_TLS_OWN_BIO) {
        return read_method(self, data, len);
    }
    Py_ssize_t n;
    do {
        if (feed_memory(self, MEMORY_SLICE) < 0) {
            return AC_ENGINE_FAILED;
        }
        n = read_method(self, data, len);
    } while (n == AC_ENGINE_AGAIN && self->flows.in.len > 0);
    return n;
}

Py_ssize_t
ac_engine_write(TLSObject *self, const char *data, size_t len, PyObject *object)
{
    if (self->flags & AC_TLS_BUSY || self->sslobj == NULL) {
        return AC_ENGINE_AGAIN;
    }
    if (self->flags & AC_TLS_DIRECT) {
        return write_direct(self, data, len);
    }
    Py_ssize_t n = write_method(self, data, len, object);
    if (n > 0 && (size_t)n < len && !(self->flags & AC_TLS_OWN_BIO)
        && drain_memory(self) < 0)
    {
        return AC_ENGINE_FAILED;
    }
    return n;
}

/* `size`, and what the MemoryBIO holds if that is in use; -1 with an exception. */
static Py_ssize_t
add_memory(TLSObject *self, size_t size, PyObject *memory)
{
    Py_ssize_t more =
        self->flags & AC_TLS_OWN_BIO ? 0 : get_size(memory, self->state->str_pending);
    return more < 0 ? -1 : (Py_ssize_t)size + more;
}

Py_ssize_t
ac_engine_incoming(TLSObject *self)
{
    return add_memory(self, self->flows.in.len, self->incoming);
}

Py_ssize_t
ac_engine_outgoing(TLSObject *self)
{
    return add_memory(self, ac_outflow_size(&self->flows.out), self->outgoing);
}

int
ac_engine_pour(TLSObject *self)
{
    if (!(self->flags & AC_TLS_OWN_BIO)) {
        return feed_memory(self, self->flows.in.len);
    }
    // what start_tls() has put there comes first
    Py_ssize_t size = get_size(self->incoming, self->state->str_pending);
    if (size <= 0) {
        return size < 0 ? -1 : 0;
    }
    PyObject *bytes = ac_method_call(self->incoming, self->state->str_read, NULL);
    int rc = bytes == NULL ? -1 : 0;
    if (bytes != NULL && PyBytes_CheckExact(bytes)) {
        ac_inflow first = {NULL, 0, NULL, 0};
        ac_inflow *in = &self->flows.in;
        rc = ac_inflow_add(&first, PyBytes_AS_STRING(bytes),
                           (size_t)PyBytes_GET_SIZE(bytes));
        if (rc == 0 && in->len > 0) {
            rc = ac_inflow_add(&first, in->data, in->len);
        }
        if (rc == 0) {
            rc = ac_inflow_keep(&first);
        }
        if (rc == 0) {
            ac_inflow_clear(in);
            *in = first;
        }
    }
    Py_XDECREF(bytes);
    return rc;
}

int
ac_engine_take(TLSObject *self, PyObject **data)
{
    *data = NULL;
    if (!(self->flags & AC_TLS_OWN_BIO)) {
        if (ac_outflow_size(&self->flows.out) > 0) {
            if (drain_memory(self) < 0) {
                return -1;
            }
        }
        else {
            PyObject *bytes =
                ac_method_call(self->outgoing, self->state->str_read, NULL);
            if (bytes == NULL) {
                return -1;
            }
            if (PyObject_IsTrue(bytes) == 1) {
                *data = bytes;
            }
            else {
                Py_DECREF(bytes);
            }
            return 0;
        }
    }
    *data = ac_outflow_take(&self->flows.out);
    return *data == NULL && PyErr_Occurred() ? -1 : 0;
}
