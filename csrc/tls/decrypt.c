/* Incoming. Everything here runs Python; the caller holds the object.
 *
 * As SSLProtocol does: everything that has come is decrypted first, then the
 * protocol above is called once. A pause leaves the rest encrypted.
 *
 * The plain text is shorter than the cipher text, so it goes straight into one object
 * of that size, which is then cut. */
#include "core/python.h"

#include "core/method.h"
#include "tls/decrypt.h"
#include "tls/encrypt.h"
#include "tls/engine.h"

/* What a transport that is none of ours may read at a time. */
#define BUFFER_SIZE (64 * 1024)

/* ------------------------------------------------------------------ plain text -- */

/* protocol.data_received(data) of the protocol above, or what it has for that. */
static int
pass_on(TLSObject *self, PyObject *data)
{
    ac_state *state = self->state;
    PyObject *protocol = self->app_protocol == NULL ? Py_None : self->app_protocol;
    int rc = 0;
    Py_INCREF(protocol);
    if (self->app_sink != NULL) {
        rc = self->app_sink->data(state, protocol, NULL, PyBytes_AS_STRING(data),
                                  (size_t)PyBytes_GET_SIZE(data), data);
    }
    if (rc == 0) {
        PyObject *result = ac_method_call(protocol, state->str_data_received, data);
        rc = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_DECREF(protocol);
    return rc < 0 ? -1 : 0;
}

/* Decrypts all there is. *data is a new reference, or NULL for nothing. Returns what
 * the last read said: 0 at close_notify, AC_ENGINE_AGAIN or AC_ENGINE_FAILED. */
static Py_ssize_t
decrypt_bytes(TLSObject *self, PyObject **data)
{
    *data = NULL;
    // a record's beginning may be in OpenSSL already
    size_t size = self->flows.in.len + AC_ENGINE_RECORD;
    if (self->flows.in.len < AC_ENGINE_RECORD / 4) {
        size = self->flows.in.len + 64;  // likely a whole record; if not, it grows
    }
    size_t used = 0;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    Py_ssize_t n = AC_ENGINE_FAILED;
    while (bytes != NULL) {
        n = ac_engine_read(self, PyBytes_AS_STRING(bytes) + used, size - used,
                           used == 0);
        if (n <= 0) {
            break;
        }
        used += (size_t)n;
        if (size - used < 64) {
            size += self->flows.in.len + AC_ENGINE_RECORD;
            if (_PyBytes_Resize(&bytes, (Py_ssize_t)size) < 0) {
                n = AC_ENGINE_FAILED;
            }
        }
    }
    if (n == AC_ENGINE_FAILED || used == 0) {  // what came before an error is lost
        Py_XDECREF(bytes);
        return n;
    }
    if (_PyBytes_Resize(&bytes, (Py_ssize_t)used) < 0) {
        return AC_ENGINE_FAILED;
    }
    *data = bytes;
    return n;
}

/* close_notify has come. */
static int
closed_by_peer(TLSObject *self)
{
    int rc = ac_tls_call(self, self->state->str__call_eof_received, NULL);
    return rc < 0 ? -1 : ac_tls_call(self, self->state->str__start_shutdown, NULL);
}

/* _do_read__copied() */
static int
read_copied(TLSObject *self)
{
    PyObject *data;
    Py_ssize_t n = decrypt_bytes(self, &data);
    int rc = n == AC_ENGINE_FAILED ? -1 : 0;
    if (data != NULL) {
        rc = pass_on(self, data);
        Py_DECREF(data);
    }
    return rc == 0 && n == 0 ? closed_by_peer(self) : rc;
}

/* The exception of SSLObject.read() for a buffer that cannot be written to. */
static void
refuse_buffer(TLSObject *self, Py_ssize_t wants, PyObject *buffer)
{
    PyErr_Clear();
    PyObject *sslobj = self->sslobj == NULL ? Py_None : self->sslobj;
    PyObject *number = PyLong_FromSsize_t(wants);
    PyObject *result = number == NULL
                           ? NULL
                           : PyObject_CallMethodObjArgs(sslobj, self->state->str_read,
                                                        number, buffer, NULL);
    Py_XDECREF(number);
    if (result != NULL) {
        PyErr_SetString(PyExc_BufferError, "the buffer cannot be exported");
        Py_DECREF(result);
    }
}

/* Decrypts into the protocol's buffer: len() bytes at most, whatever its items are.
 * *used is how much. Returns as decrypt_bytes(), and 1 if the buffer is full. */
static Py_ssize_t
decrypt_into(TLSObject *self, PyObject *buffer, size_t *used)
{
    *used = 0;
    Py_ssize_t wants = PyObject_Size(buffer);
    if (wants < 0) {
        return AC_ENGINE_FAILED;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        refuse_buffer(self, wants, buffer);
        return AC_ENGINE_FAILED;
    }
    size_t size = (size_t)(wants < view.len ? wants : view.len);
    Py_ssize_t n = 0;  // into no room SSLObject.read() says what it says at EOF
    while (*used < size) {
        n = ac_engine_read(self, (char *)view.buf + *used, size - *used, *used == 0);
        if (n <= 0) {
            break;
        }
        *used += (size_t)n;
    }
    PyBuffer_Release(&view);
    return n > 0 ? 1 : n;
}

/* _do_read__buffered() */
static int
read_buffered(TLSObject *self)
{
    ac_state *state = self->state;
    Py_ssize_t hint = ac_engine_incoming(self);
    PyObject *number = hint < 0 ? NULL : PyLong_FromSsize_t(hint);
    PyObject *buffer = NULL;
    if (number != NULL && self->app_get_buffer != NULL) {
        PyObject *get_buffer = Py_NewRef(self->app_get_buffer);
        buffer = PyObject_CallOneArg(get_buffer, number);
        Py_DECREF(get_buffer);
    }
    Py_XDECREF(number);
    if (buffer == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_AttributeError, "_app_protocol_get_buffer");
        }
        return -1;
    }
    size_t used;
    Py_ssize_t n = decrypt_into(self, buffer, &used);
    Py_DECREF(buffer);
    int rc = n == AC_ENGINE_FAILED ? -1 : 0;
    if (rc == 0 && n > 0) {
        rc = ac_tls_call_soon(self, state->str__do_read);  // for the rest
    }
    if (rc == 0 && used > 0 && self->app_buffer_updated != NULL) {
        PyObject *updated = Py_NewRef(self->app_buffer_updated);
        number = PyLong_FromSize_t(used);
        PyObject *result = number == NULL ? NULL : PyObject_CallOneArg(updated, number);
        rc = result == NULL ? -1 : 0;
        Py_XDECREF(number);
        Py_XDECREF(result);
        Py_DECREF(updated);
    }
    return rc == 0 && n == 0 ? closed_by_peer(self) : rc;
}

/* ------------------------------------------------------------------ the states -- */

/* _control_ssl_reading(), which has nothing to do in most cases. */
static int
control_reading(TLSObject *self)
{
    ac_state *state = self->state;
    Py_ssize_t size = ac_engine_incoming(self);
    if (size < 0) {
        return -1;
    }
    if (self->ssl_reading_paused == Py_False
        && ac_encrypt_is_below(size, self->incoming_high))
    {
        return 0;
    }
    return ac_tls_call_standard(self, state->str__control_ssl_reading, NULL);
}

static int
read_all(TLSObject *self)
{
    if (ac_engine_settle(self) < 0) {
        return -1;
    }
    if (self->app_reading_paused != Py_True) {
        bool whole = self->app_sink != NULL || self->app_is_buffer != Py_True;
        int rc = whole ? read_copied(self) : read_buffered(self);
        if (rc < 0 || ac_encrypt_backlog(self) < 0) {
            return -1;
        }
    }
    return control_reading(self);
}

/* _do_read(): decrypts what there is and passes it on. Returns 0, or -1 with an
 * exception that SSLProtocol does not catch. */
static int
decrypt_all(TLSObject *self)
{
    ac_state *state = self->state;
    if (self->protocol_state != state->tls_wrapped
        && self->protocol_state != state->tls_flushing)
    {
        return 0;
    }
    return read_all(self) < 0 ? ac_tls_fatal_raised(self) : 0;
}

/* buffer_updated() for bytes that stay where they are during the call. Returns 0, or
 * -1 with an exception. */
static int
feed(PyObject *op, const char *data, size_t len)
{
    TLSObject *self = (TLSObject *)op;
    ac_state *state = self->state;
    // a callback of OpenSSL, or of a call further up, reads on: nothing may move
    if (self->flags & AC_TLS_BUSY && ac_inflow_keep(&self->flows.in) < 0) {
        return -1;
    }
    if (ac_inflow_add(&self->flows.in, data, len) < 0) {
        return -1;
    }
    int rc = 0;
    PyObject *now = self->protocol_state;
    if (now == state->tls_wrapped) {
        rc = decrypt_all(self);
    }
    else if (now == state->tls_handshake) {
        rc = ac_tls_call(self, state->str__do_handshake, NULL);
    }
    else if (now == state->tls_flushing) {
        rc = ac_tls_call(self, state->str__do_flush, NULL);
    }
    else if (now == state->tls_shutdown) {
        rc = ac_tls_call(self, state->str__do_shutdown, NULL);
    }
    if (self->protocol_state == state->tls_unwrapped) {
        ac_inflow_clear(&self->flows.in);
    }
    else if (ac_inflow_keep(&self->flows.in) < 0) {
        rc = -1;
    }
    return rc;
}

/* --------------------------------------------------------------------- as a sink -- */

static int
sink_accepts(ac_state *state, PyObject *protocol)
{
    return PyObject_TypeCheck(protocol, state->TLSProtocol);
}

static int
sink_data(ac_state *Py_UNUSED(state), PyObject *protocol, ac_sink_note *Py_UNUSED(note),
          const char *data, size_t len, PyObject *Py_UNUSED(whole))
{
    return feed(protocol, data, len) < 0 ? -1 : 1;
}

const ac_sink_ops ac_decrypt_sink = {
    .accepts = sink_accepts,
    .data = sink_data,
    .failed = "Fatal error: protocol.buffer_updated() call failed.",
};

/* ------------------------------------------------------------------- methods -- */

PyDoc_STRVAR(tls_get_buffer_doc, "get_buffer($self, n, /)\n--\n\n"
                                 "Room for what a transport below reads.");

static PyObject *
tls_get_buffer(PyObject *op, PyObject *Py_UNUSED(hint))
{
    TLSObject *self = (TLSObject *)op;
    if (self->buffer == NULL) {
        self->buffer = PyByteArray_FromStringAndSize(NULL, BUFFER_SIZE);
        if (self->buffer == NULL) {
            return NULL;
        }
    }
    return PyMemoryView_FromObject(self->buffer);
}

PyDoc_STRVAR(tls_buffer_updated_doc, "buffer_updated($self, nbytes, /)\n--\n\n"
                                     "Take up what was read into the buffer.");

static PyObject *
tls_buffer_updated(PyObject *op, PyObject *nbytes)
{
    TLSObject *self = (TLSObject *)op;
    Py_ssize_t n = PyLong_AsSsize_t(nbytes);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *buffer = self->buffer;
    self->buffer = NULL;
    if (buffer == NULL || n < 0 || n > PyByteArray_GET_SIZE(buffer)) {
        Py_XDECREF(buffer);
        PyErr_SetString(PyExc_ValueError, "more than get_buffer() gave");
        return NULL;
    }
    int rc = n == 0 ? 0 : feed(op, PyByteArray_AS_STRING(buffer), (size_t)n);
    Py_DECREF(buffer);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tls__do_read_doc, "_do_read($self, /)\n--\n\n"
                               "Decrypt what has come and pass it on.");

static PyObject *
tls__do_read(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    if (decrypt_all(self) < 0 || ac_inflow_keep(&self->flows.in) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tls__get_read_buffer_size_doc, "_get_read_buffer_size($self, /)\n--\n\n"
                                            "How much is not decrypted yet, in bytes.");

static PyObject *
tls__get_read_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t size = ac_engine_incoming((TLSObject *)op);
    return size < 0 ? NULL : PyLong_FromSsize_t(size);
}

PyMethodDef ac_decrypt_methods[] = {
    {"get_buffer", tls_get_buffer, METH_O, tls_get_buffer_doc},
    {"buffer_updated", tls_buffer_updated, METH_O, tls_buffer_updated_doc},
    {"_do_read", tls__do_read, METH_NOARGS, tls__do_read_doc},
    {"_get_read_buffer_size", tls__get_read_buffer_size, METH_NOARGS,
     tls__get_read_buffer_size_doc},
    {NULL, NULL, 0, NULL},
};
