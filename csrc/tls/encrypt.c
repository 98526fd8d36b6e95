/* Outgoing. A write is encrypted at once, as SSLProtocol does, and given to the
 * transport below, which corks it. What OpenSSL can not take now waits as plain text
 * in `_write_backlog`; what the transport below does not want waits as cipher text. */
#include "core/python.h"

#include "core/args.h"
#include "core/method.h"
#include "stream/write.h"
#include "tls/encrypt.h"
#include "tls/engine.h"
#include "tls/pieces.h"

#include <string.h>

/* A large write goes down in pieces of so much plain text, while they are warm. */
#define PIECE (4 * AC_ENGINE_RECORD)

/* ------------------------------------------------------------- the way down -- */

/* Whether what goes down now is seen by the stream below alone. */
static bool
is_hidden(const TLSObject *self)
{
    return self->transport != NULL && Py_IS_TYPE(self->transport, self->state->Stream)
           && ac_stream_is_plain((StreamObject *)self->transport, self->state);
}

/* transport.write(data) of the transport below, where a write in pieces counts as one.
 */
static int
write_below(TLSObject *self, PyObject *data)
{
    if (!is_hidden(self)) {
        PyObject *result =
            ac_method_call(self->transport, self->state->str_write, data);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    StreamObject *stream = (StreamObject *)Py_NewRef(self->transport);
    int rc = self->flags & AC_TLS_REST ? ac_write_rest(stream, data)
                                       : ac_write(stream, data);
    self->flags |= AC_TLS_REST;
    Py_DECREF(stream);
    return rc;
}

/* Whether the stream below is at its end: it counts the writes from then on. */
static bool
is_lost(const TLSObject *self)
{
    return self->transport != NULL && Py_IS_TYPE(self->transport, self->state->Stream)
           && ((StreamObject *)self->transport)->flags & AC_STREAM_LOST;
}

/* Passes on what OpenSSL has put out, as one write. */
static int
pass_down(TLSObject *self)
{
    int rc;
    bool more;
    do {
        PyObject *data;
        more = self->flows.out.full_size > 0;
        if (ac_engine_take(self, &data) < 0) {
            return -1;
        }
        rc = data == NULL ? 0 : write_below(self, data);
        Py_XDECREF(data);
        if (more && is_lost(self)) {  // and so is what is left
            ac_outflow_clear(&self->flows.out);
            more = false;
        }
    } while (rc == 0 && more);
    return rc;
}

/* _get_write_buffer_size(), which is negative if somebody has made `_write_buffer_size`
 * so. Returns 0, or -1 with an exception. */
static int
pending(TLSObject *self, Py_ssize_t *size)
{
    Py_ssize_t outgoing = ac_engine_outgoing(self);
    *size = outgoing + self->write_buffer_size;
    return outgoing < 0 ? -1 : 0;
}

/* _control_app_writing(), which has nothing to do in most cases. */
static int
control_writing(TLSObject *self)
{
    Py_ssize_t size;
    if (pending(self, &size) < 0) {
        return -1;
    }
    if (self->app_writing_paused == Py_False
        && ac_encrypt_is_below(size, self->outgoing_high))
    {
        return 0;
    }
    return ac_tls_call_standard(self, self->state->str__control_app_writing, NULL);
}

/* Whether something may go down. A pause in the middle of a write is for the next one:
 * this is asked once, at the start. */
static bool
is_open(const TLSObject *self)
{
    return self->ssl_writing_paused != Py_True;
}

/* _process_outgoing() */
static int
process_outgoing(TLSObject *self, bool open)
{
    int rc = open ? pass_down(self) : 0;
    self->flags &= ~(uint32_t)AC_TLS_REST;
    return rc < 0 ? -1 : control_writing(self);
}

/* ---------------------------------------------------------------- encrypting -- */

/* Room for a piece of so much plain text. Returns 0, or -1 with MemoryError. */
static int
make_room(TLSObject *self, size_t len)
{
    ac_outflow *out = &self->flows.out;
    if (len > PIECE / 2 && is_hidden(self)) {
        // what is there already goes down on its own
        if (ac_outflow_size(out) > out->full_size && ac_outflow_finish(out) < 0) {
            return -1;
        }
        PyObject *piece = ac_pieces_get(self->state);
        if (piece != NULL) {
            ac_outflow_lend_steal(out, piece);
        }
    }
    size_t records = len / AC_ENGINE_RECORD + 1;
    return ac_outflow_reserve(out, len + records * AC_ENGINE_OVERHEAD);
}

/* Encrypts all of `data`, which lies within `object`; a large one goes down meanwhile
 * if that is `open`. *done is how much. Returns 0, AC_ENGINE_AGAIN or
 * AC_ENGINE_FAILED. */
static int
encrypt_all(TLSObject *self, const char *data, size_t len, PyObject *object, bool open,
            size_t *done)
{
    *done = 0;
    if (ac_engine_settle(self) < 0) {
        return AC_ENGINE_FAILED;
    }
    open = open && is_hidden(self) && !is_lost(self);
    while (*done < len) {
        size_t piece = len - *done < PIECE ? len - *done : PIECE;
        if (self->flags & AC_TLS_OWN_BIO && make_room(self, piece) < 0) {
            return AC_ENGINE_FAILED;
        }
        for (size_t end = *done + piece; *done < end;) {
            // a method gets the object as it is
            size_t most = self->flags & AC_TLS_DIRECT ? end - *done : len - *done;
            Py_ssize_t n = ac_engine_write(self, data + *done, most, object);
            if (n < 0) {
                return (int)n;
            }
            *done += (size_t)n;
        }
        if (*done < len && open) {
            if (pass_down(self) < 0) {
                return AC_ENGINE_FAILED;
            }
            if (is_lost(self)) {  // it has failed: nobody wants the rest
                *done = len;
            }
        }
    }
    return 0;
}

/* Appends what is left to the backlog. */
static int
backlog_add(TLSObject *self, const char *data, size_t len)
{
    PyObject *rest = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    if (rest == NULL) {
        return -1;
    }
    PyObject *result =
        ac_method_call(self->write_backlog, self->state->str_append, rest);
    Py_DECREF(rest);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    self->write_buffer_size += (Py_ssize_t)len;
    return 0;
}

static Py_ssize_t
backlog_len(TLSObject *self)
{
    return self->write_backlog == NULL ? 0 : PyObject_Size(self->write_backlog);
}

/* The bytes of an object: a view, or for one that is not contiguous a copy. */
typedef struct {
    Py_buffer view;
    PyObject *copy; /* or NULL */
    const char *data;
    size_t len;
} content;

/* Returns 0, or -1 with an exception. */
static int
content_open(content *of, PyObject *object)
{
    of->copy = NULL;
    if (PyObject_GetBuffer(object, &of->view, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    of->data = of->view.buf;
    of->len = (size_t)of->view.len;
    if (!PyBuffer_IsContiguous(&of->view, 'C')) {
        of->copy = PyBytes_FromObject(object);
        if (of->copy == NULL) {
            PyBuffer_Release(&of->view);
            return -1;
        }
        of->data = PyBytes_AS_STRING(of->copy);
    }
    return 0;
}

static void
content_close(content *of)
{
    PyBuffer_Release(&of->view);
    Py_XDECREF(of->copy);
}

/* Writes bytes that nothing waits in front of, when the state is WRAPPED. */
static int
write_now(TLSObject *self, const char *data, size_t len, PyObject *object)
{
    size_t done;
    bool open = is_open(self);
    int rc = encrypt_all(self, data, len, object, open, &done);
    if (rc == AC_ENGINE_AGAIN) {
        rc = backlog_add(self, data + done, len - done);
    }
    return rc < 0 ? -1 : process_outgoing(self, open);
}

/* The first object of the backlog: encrypted whole and taken off, or what is left of
 * it put in its place. Returns 0, AC_ENGINE_AGAIN or AC_ENGINE_FAILED. */
static int
write_first(TLSObject *self, PyObject *backlog, bool open)
{
    PyObject *object = PySequence_GetItem(backlog, 0);
    content of;
    if (object == NULL) {
        return AC_ENGINE_FAILED;
    }
    if (content_open(&of, object) < 0) {
        // the words are those of SSLObject.write()
        PyErr_Clear();
        PyObject *result = ac_method_call(self->sslobj, self->state->str_write, object);
        if (result != NULL) {
            PyErr_SetString(PyExc_TypeError, "a bytes-like object is required");
            Py_DECREF(result);
        }
        Py_DECREF(object);
        return AC_ENGINE_FAILED;
    }
    size_t done;
    int rc = encrypt_all(self, of.data, of.len, object, open, &done);
    // something may have cleared it meanwhile
    Py_ssize_t left = PyObject_Size(backlog);
    if (rc == 0 && left > 0) {
        rc = PySequence_DelItem(backlog, 0) < 0 ? AC_ENGINE_FAILED : 0;
    }
    else if (rc == AC_ENGINE_AGAIN && left > 0 && done > 0) {
        PyObject *rest =
            PyBytes_FromStringAndSize(of.data + done, (Py_ssize_t)(of.len - done));
        if (rest == NULL || PySequence_SetItem(backlog, 0, rest) < 0) {
            rc = AC_ENGINE_FAILED;
        }
        Py_XDECREF(rest);
    }
    if (left > 0) {
        self->write_buffer_size -= (Py_ssize_t)done;
    }
    content_close(&of);
    Py_DECREF(object);
    return left < 0 ? AC_ENGINE_FAILED : rc;
}

/* _do_write() */
static int
write_backlog(TLSObject *self)
{
    PyObject *backlog = Py_XNewRef(self->write_backlog);
    bool open = is_open(self);
    int rc = 0;
    while (rc == 0 && backlog != NULL) {
        Py_ssize_t len = PyObject_Size(backlog);
        if (len <= 0) {
            rc = len < 0 ? AC_ENGINE_FAILED : 0;
            break;
        }
        rc = write_first(self, backlog, open);
    }
    Py_XDECREF(backlog);
    return rc == AC_ENGINE_FAILED ? -1 : process_outgoing(self, open);
}

int
ac_encrypt_backlog(TLSObject *self)
{
    Py_ssize_t len = backlog_len(self);
    return len < 0   ? -1
           : len > 0 ? write_backlog(self)
                     : process_outgoing(self, is_open(self));
}

/* ------------------------------------------------------------------- writing -- */

static bool
is_over(const TLSObject *self)
{
    return !ac_tls_is_wrapped(self)
           && self->protocol_state != self->state->tls_handshake;
}

/* One or more pieces of plain text as one. */
static int
write_bytes(TLSObject *self, const char *data, size_t len, PyObject *object)
{
    Py_ssize_t waiting = backlog_len(self);
    if (waiting < 0) {
        return -1;
    }
    if (ac_tls_is_wrapped(self) && waiting == 0 && !(self->flags & AC_TLS_BUSY)) {
        return write_now(self, data, len, object) < 0 ? ac_tls_fatal_raised(self) : 0;
    }
    if (backlog_add(self, data, len) < 0) {
        return -1;
    }
    if (!ac_tls_is_wrapped(self)) {
        return 0;
    }
    if (self->flags & AC_TLS_BUSY) {  // within a callback of OpenSSL
        return ac_tls_call_soon(self, self->state->str__do_write);
    }
    return write_backlog(self) < 0 ? ac_tls_fatal_raised(self) : 0;
}

int
ac_encrypt_one(TLSObject *self, PyObject *data)
{
    if (PyBytes_CheckExact(data) && !is_over(self)) {
        return write_bytes(self, PyBytes_AS_STRING(data),
                           (size_t)PyBytes_GET_SIZE(data), data);
    }
    content of;
    if (content_open(&of, data) < 0) {
        return -1;
    }
    int rc;
    if (is_over(self)) {
        PyObject *tuple = PyTuple_Pack(1, data);
        rc = tuple == NULL
                 ? -1
                 : ac_tls_call_standard(self, self->state->str__write_appdata, tuple);
        Py_XDECREF(tuple);
    }
    else {
        rc = write_bytes(self, of.data, of.len, data);
    }
    content_close(&of);
    return rc;
}

/* The pieces of a list as one bytes object: NULL without an exception if one of them
 * is nothing that write() takes. */
static PyObject *
join_lines(PyObject *list)
{
    size_t len = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);  // borrowed, kept by the list
        if (!PyBytes_CheckExact(item)) {
            if (!ac_args_is_data(item)) {
                return NULL;
            }
            PyObject *bytes = PyBytes_FromObject(item);
            if (bytes == NULL || PyList_SetItem(list, i, bytes) < 0) {
                return NULL;
            }
            item = bytes;
        }
        len += (size_t)PyBytes_GET_SIZE(item);
    }
    PyObject *joined = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    char *to = joined == NULL ? NULL : PyBytes_AS_STRING(joined);
    for (Py_ssize_t i = 0; to != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        memcpy(to, PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
        to += PyBytes_GET_SIZE(item);
    }
    return joined;
}

int
ac_encrypt_lines(TLSObject *self, PyObject *lines)
{
    ac_state *state = self->state;
    if (is_over(self)) {
        return ac_tls_call_standard(self, state->str__write_appdata, lines);
    }
    PyObject *list = PySequence_List(lines);
    PyObject *joined = list == NULL ? NULL : join_lines(list);
    int rc = -1;
    if (joined != NULL) {
        rc = 0;
        if (is_over(self)) {  // by the iterator of `lines`
            rc = ac_tls_call_standard(self, state->str__write_appdata, list);
        }
        else if (PyBytes_GET_SIZE(joined) > 0) {
            rc = write_bytes(self, PyBytes_AS_STRING(joined),
                             (size_t)PyBytes_GET_SIZE(joined), joined);
        }
        else if (ac_tls_is_wrapped(self) && !(self->flags & AC_TLS_BUSY)) {
            // nothing, which may resume writing
            rc = write_backlog(self) < 0 ? ac_tls_fatal_raised(self) : 0;
        }
    }
    else if (list != NULL && !PyErr_Occurred()) {
        rc = ac_tls_call_standard(self, state->str__write_appdata, list);
    }
    Py_XDECREF(joined);
    Py_XDECREF(list);
    return rc;
}

/* ------------------------------------------------------------------- methods -- */

PyDoc_STRVAR(tls__write_appdata_doc, "_write_appdata($self, list_of_data, /)\n--\n\n"
                                     "Send several pieces.");

static PyObject *
tls__write_appdata(PyObject *op, PyObject *lines)
{
    if (ac_encrypt_lines((TLSObject *)op, lines) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tls__do_write_doc, "_do_write($self, /)\n--\n\n"
                                "Encrypt what waits and pass it on.");

static PyObject *
tls__do_write(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (write_backlog((TLSObject *)op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tls__process_outgoing_doc, "_process_outgoing($self, /)\n--\n\n"
                                        "Pass on what is encrypted.");

static PyObject *
tls__process_outgoing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TLSObject *self = (TLSObject *)op;
    if (process_outgoing(self, is_open(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tls__get_write_buffer_size_doc,
             "_get_write_buffer_size($self, /)\n--\n\n"
             "How much the transport below has not been given yet, in bytes.");

static PyObject *
tls__get_write_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t size;
    return pending((TLSObject *)op, &size) < 0 ? NULL : PyLong_FromSsize_t(size);
}

PyMethodDef ac_encrypt_methods[] = {
    {"_write_appdata", tls__write_appdata, METH_O, tls__write_appdata_doc},
    {"_do_write", tls__do_write, METH_NOARGS, tls__do_write_doc},
    {"_process_outgoing", tls__process_outgoing, METH_NOARGS,
     tls__process_outgoing_doc},
    {"_get_write_buffer_size", tls__get_write_buffer_size, METH_NOARGS,
     tls__get_write_buffer_size_doc},
    {NULL, NULL, 0, NULL},
};
