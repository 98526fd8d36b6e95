/* Cipher text in and out. */
#include "core/python.h"

#include "tls/cipher.h"

#include <string.h>

#define SPILL_MIN 2048 /* a flight of the handshake */

/* ------------------------------------------------------------------- inflow -- */

/* Moves what is left into a new block, and `more` behind it. Returns 0, or -1 with
 * MemoryError and nothing changed. */
static int
inflow_move(ac_inflow *in, const char *more, size_t more_len)
{
    // some room: a peer may send byte by byte while reading is paused
    size_t len = in->len + more_len;
    size_t room = more_len == 0 ? 0 : len / 2;
    char *block = PyMem_Malloc(len + room);
    if (block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(block, in->data, in->len);
    if (more_len > 0) {
        memcpy(block + in->len, more, more_len);
    }
    PyMem_Free(in->kept);
    in->data = in->kept = block;
    in->len = len;
    in->room = room;
    return 0;
}

int
ac_inflow_add(ac_inflow *in, const char *data, size_t len)
{
    if (in->len == 0) {
        ac_inflow_clear(in);
        in->data = data;
        in->len = len;
        return 0;
    }
    if (in->kept == NULL || in->room < len) {
        return inflow_move(in, data, len);
    }
    memcpy(in->kept + (in->data - in->kept) + in->len, data, len);
    in->len += len;
    in->room -= len;
    return 0;
}

int
ac_inflow_keep(ac_inflow *in)
{
    if (in->len == 0) {
        ac_inflow_clear(in);
        return 0;
    }
    if (in->kept != NULL || inflow_move(in, NULL, 0) == 0) {
        return 0;
    }
    ac_inflow_clear(in);
    return -1;
}

void
ac_inflow_clear(ac_inflow *in)
{
    PyMem_Free(in->kept);
    in->kept = NULL;
    in->data = NULL;
    in->len = 0;
    in->room = 0;
}

/* ------------------------------------------------------------------ outflow -- */

int
ac_outflow_reserve(ac_outflow *out, size_t len)
{
    if (out->spill_len > 0) {
        return 0;  // what comes goes behind it
    }
    if (len > (size_t)PY_SSIZE_T_MAX / 2 - out->used) {
        PyErr_NoMemory();
        return -1;
    }
    size_t wanted = out->used + len;
    size_t size = out->bytes == NULL ? 0 : (size_t)PyBytes_GET_SIZE(out->bytes);
    if (wanted <= size) {
        return 0;
    }
    if (wanted < size + size / 2) {
        wanted = size + size / 2;
    }
    // a copy and not _PyBytes_Resize(), which drops the bytes when it fails
    PyObject *larger = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)wanted);
    if (larger == NULL) {
        return -1;
    }
    if (out->bytes != NULL) {
        memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(out->bytes), out->used);
    }
    Py_XSETREF(out->bytes, larger);
    out->is_piece = false;
    return 0;
}

void
ac_outflow_lend_steal(ac_outflow *out, PyObject *piece)
{
    assert(out->used == 0 && out->spill_len == 0);
    Py_XSETREF(out->bytes, piece);
    out->is_piece = true;
}

/* Makes room in the spill. Returns 0 or -1. */
static int
spill_reserve(ac_outflow *out, size_t len)
{
    if (len <= out->spill_size - out->spill_len) {
        return 0;
    }
    if (len > (size_t)PY_SSIZE_T_MAX / 2 - out->spill_len) {
        return -1;
    }
    size_t size = out->spill_len + len;
    size = size < SPILL_MIN ? SPILL_MIN : size + size / 2;
    char *block = PyMem_RawRealloc(out->spill, size);
    if (block == NULL) {
        return -1;
    }
    out->spill = block;
    out->spill_size = size;
    return 0;
}

int
ac_outflow_append(ac_outflow *out, const char *data, size_t len)
{
    if (out->spill_len == 0 && out->bytes != NULL
        && len <= (size_t)PyBytes_GET_SIZE(out->bytes) - out->used)
    {
        memcpy(PyBytes_AS_STRING(out->bytes) + out->used, data, len);
        out->used += len;
        return 0;
    }
    if (spill_reserve(out, len) < 0) {
        out->failed = true;
        return -1;
    }
    memcpy(out->spill + out->spill_len, data, len);
    out->spill_len += len;
    return 0;
}

/* Moves the spill into the bytes object. Returns 0, or -1 with MemoryError. */
static int
spill_join(ac_outflow *out)
{
    size_t len = out->spill_len;
    out->spill_len = 0;
    if (ac_outflow_reserve(out, len) < 0) {
        out->spill_len = len;
        return -1;
    }
    memcpy(PyBytes_AS_STRING(out->bytes) + out->used, out->spill, len);
    out->used += len;
    PyMem_RawFree(out->spill);
    out->spill = NULL;
    out->spill_size = 0;
    return 0;
}

/* What is not finished, as one bytes object; see ac_outflow_take(). */
static PyObject *
take_rest(ac_outflow *out)
{
    if (out->spill_len > 0 && spill_join(out) < 0) {
        return NULL;
    }
    PyObject *bytes = out->bytes;
    size_t used = out->used;
    out->bytes = NULL;
    out->used = 0;
    if (bytes == NULL || used == 0) {
        out->is_piece = false;
        Py_XDECREF(bytes);
        return NULL;
    }
    if (out->is_piece) {
        out->is_piece = false;
        PyBytes_AS_STRING(bytes)[used] = '\0';
        Py_SET_SIZE((PyVarObject *)bytes, (Py_ssize_t)used);
        return bytes;
    }
    if (used < (size_t)PyBytes_GET_SIZE(bytes)
        && _PyBytes_Resize(&bytes, (Py_ssize_t)used) < 0)
    {
        return NULL;
    }
    return bytes;
}

int
ac_outflow_finish(ac_outflow *out)
{
    if (out->full == NULL) {
        PyObject *list = PyList_New(0);
        if (list == NULL) {
            return -1;
        }
        PyObject_GC_UnTrack(list);  // nobody finds it, nor what is in it
        if (out->full == NULL) {
            out->full = list;
        }
        else {  // a collection has run, and with it a write
            Py_DECREF(list);
        }
    }
    PyObject *bytes = take_rest(out);
    if (bytes == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int rc = PyList_Append(out->full, bytes);
    if (rc == 0) {
        out->full_size += (size_t)PyBytes_GET_SIZE(bytes);
    }
    Py_DECREF(bytes);
    return rc;
}

PyObject *
ac_outflow_take(ac_outflow *out)
{
    if (out->full_size == 0) {
        return take_rest(out);
    }
    PyObject *bytes = Py_NewRef(PyList_GET_ITEM(out->full, 0));
    if (PyList_SetSlice(out->full, 0, 1, NULL) < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    out->full_size -= (size_t)PyBytes_GET_SIZE(bytes);
    if (out->full_size == 0) {
        Py_CLEAR(out->full);
    }
    return bytes;
}

void
ac_outflow_clear(ac_outflow *out)
{
    Py_CLEAR(out->full);
    out->full_size = 0;
    Py_CLEAR(out->bytes);
    out->is_piece = false;
    PyMem_RawFree(out->spill);
    out->spill = NULL;
    out->used = out->spill_len = out->spill_size = 0;
    out->failed = false;
}
