/* Finding libssl, and the proof.
 *
 * `dladdr` of a function of `_ssl` names the object that holds it; a symbol looked up
 * from there is that of the libssl that `_ssl` itself uses, also where another package
 * has loaded a copy of its own. A static `_ssl` answers only if the executable exports
 * the functions.
 *
 * The order of the proof matters: a function of another libssl would crash on a
 * foreign object. So first the version, then the words that we take for pointers, read
 * without the risk of a fault, and what lies behind them; only then are functions
 * called on them. */
#include "core/python.h"

#include "core/selfpipe.h"
#include "tls/bio.h"
#include "tls/libssl.h"
#include "tls/sslmodule.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#define PROOF_NAME "proof.invalid"

/* Where `_ssl` keeps its pointers. */
#define FIRST_WORD sizeof(PyObject)
#define SECOND_WORD (sizeof(PyObject) + sizeof(void *))

/* How much of each object is looked through. */
#define BIO_HEAD 32
#define CTX_HEAD 64
#define SSL_HEAD 4096

/* ------------------------------------------------------------------- finding -- */

/* The handle of the object that holds the C function `_ssl.RAND_status`. */
static void *
open_holder(PyObject *function)
{
    if (!PyCFunction_Check(function)) {
        return NULL;
    }
    Dl_info info;
    void *address;
    PyCFunction entry = PyCFunction_GetFunction(function);
    memcpy(&address, &entry, sizeof(address));
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL) {
        return NULL;
    }
    void *handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    return handle != NULL ? handle : dlopen(NULL, RTLD_LAZY);
}

static bool
load_functions(ac_libssl *lib, void *handle)
{
    void *address;
#define LOAD(result, name, parameters)               \
    address = dlsym(handle, #name);                  \
    memcpy(&lib->name, &address, sizeof(lib->name)); \
    if (address == NULL) {                           \
        return false;                                \
    }
    AC_LIBSSL_FUNCTIONS(LOAD)
#undef LOAD
    return true;
}

/* --------------------------------------------------------------------- proof -- */

/* The kernel reads for us, and says EFAULT where a program would be stopped. */
size_t
ac_libssl_peek(const ac_libssl *lib, const void *address, void *copy, size_t len)
{
    ssize_t n = write(lib->ends[1], address, len);
    if (n > 0) {
        n = read(lib->ends[0], copy, (size_t)n);
    }
    return n > 0 ? (size_t)n : 0;
}

/* Whether the memory behind `address` holds the pointer within its first `len`
 * bytes. */
static bool
holds(const ac_libssl *lib, const void *address, size_t len, const void *pointer)
{
    char copy[SSL_HEAD];
    size_t n = address == NULL ? 0 : ac_libssl_peek(lib, address, copy, len);
    for (size_t at = 0; at + sizeof(pointer) <= n; at += sizeof(pointer)) {
        if (memcmp(copy + at, &pointer, sizeof(pointer)) == 0) {
            return true;
        }
    }
    return false;
}

/* The word at an offset of an object; NULL if the object ends before. */
static void *
word_at(PyObject *object, size_t offset)
{
    void *word = NULL;
    if ((size_t)Py_TYPE(object)->tp_basicsize >= offset + sizeof(word)) {
        memcpy(&word, (char *)object + offset, sizeof(word));
    }
    return word;
}

typedef struct {
    PyObject *client, *server; /* ssl.SSLContext */
    PyObject *bio;             /* ssl.MemoryBIO */
    PyObject *socket;          /* what ssl.SSLObject calls `_sslobj` */
} samples;

static void
samples_drop(samples *made)
{
    Py_CLEAR(made->client);
    Py_CLEAR(made->server);
    Py_CLEAR(made->bio);
    Py_CLEAR(made->socket);
}

static PyObject *
make_context(PyObject *ssl, const char *protocol)
{
    PyObject *number = PyObject_GetAttrString(ssl, protocol);
    PyObject *context =
        number == NULL ? NULL : PyObject_CallMethod(ssl, "SSLContext", "O", number);
    Py_XDECREF(number);
    return context;
}

/* Returns 0, or -1 with an exception. */
static int
samples_make(samples *made, PyObject *ssl)
{
    PyObject *object = NULL;
    made->client = make_context(ssl, "PROTOCOL_TLS_CLIENT");
    made->server =
        made->client == NULL ? NULL : make_context(ssl, "PROTOCOL_TLS_SERVER");
    made->bio =
        made->server == NULL ? NULL : PyObject_CallMethod(ssl, "MemoryBIO", NULL);
    if (made->bio != NULL) {
        object = PyObject_CallMethod(made->client, "wrap_bio", "OOOs", made->bio,
                                     made->bio, Py_False, PROOF_NAME);
    }
    if (object != NULL) {
        made->socket = PyObject_GetAttrString(object, "_sslobj");
        Py_DECREF(object);
    }
    return made->socket == NULL ? -1 : 0;
}

/* The proof itself: NULL, or what did not agree. */
static const char *
refute(const ac_libssl *lib, const samples *made)
{
    void *client = word_at(made->client, FIRST_WORD);
    void *server = word_at(made->server, FIRST_WORD);
    void *bio = word_at(made->bio, FIRST_WORD);
    ac_ssl *ssl = word_at(made->socket, SECOND_WORD);
    if (!holds(lib, client, CTX_HEAD, lib->TLS_client_method())
        || !holds(lib, server, CTX_HEAD, lib->TLS_server_method()))
    {
        return "SSLContext has another layout";
    }
    if (!holds(lib, bio, BIO_HEAD, lib->BIO_s_mem())) {
        return "MemoryBIO has another layout";
    }
    if (!holds(lib, ssl, SSL_HEAD, client) || !holds(lib, ssl, SSL_HEAD, bio)) {
        return "_SSLSocket has another layout";
    }
    const char *name;
    if (lib->SSL_get_ex_data(ssl, 0) != made->socket
        || (void *)lib->SSL_get_SSL_CTX(ssl) != client
        || (void *)lib->SSL_get_rbio(ssl) != bio
        || (void *)lib->SSL_get_wbio(ssl) != bio || lib->SSL_is_server(ssl)
        || (name = lib->SSL_get_servername(ssl, 0)) == NULL
        || strcmp(name, PROOF_NAME) != 0)
    {
        return "libssl answers otherwise";
    }
    return NULL;
}

/* Whether libssl is the one that the interpreter says; false and an exception
 * possible. */
static bool
is_same_version(const ac_libssl *lib, PyObject *ssl)
{
    PyObject *version = PyObject_GetAttrString(ssl, "OPENSSL_VERSION");
    bool same =
        version != NULL && PyUnicode_Check(version)
        && PyUnicode_CompareWithASCIIString(version, lib->OpenSSL_version(0)) == 0;
    Py_XDECREF(version);
    return same;
}

/* NULL if everything agrees, else the reason; with an exception as an other reason. */
static const char *
search(ac_libssl *lib, PyObject *core, PyObject *ssl)
{
    PyObject *function = PyObject_GetAttrString(core, "RAND_status");
    void *handle = function == NULL ? NULL : open_holder(function);
    Py_XDECREF(function);
    // stays open: the library is in use as long as `_ssl` is
    if (handle == NULL) {
        return "the library behind _ssl was not found";
    }
    if (!load_functions(lib, handle)) {
        return "libssl is static or lacks a function";
    }
    if (!is_same_version(lib, ssl)) {
        return "libssl is not the one of _ssl";
    }
    samples made = {NULL, NULL, NULL, NULL};
    const char *reason = samples_make(&made, ssl) < 0 ? "the ssl module has no samples"
                                                      : refute(lib, &made);
    samples_drop(&made);
    if (reason == NULL && !ac_bio_prepare(lib)) {
        reason = "BIO has another layout";
    }
    return reason;
}

/* Looks for libssl and proves the layout. *why_not is NULL and the result a new block,
 * or the result is NULL and *why_not a new str that tells the reason; *again is true if
 * that is only the want of a descriptor. Runs Python. Returns NULL with *why_not NULL
 * and an exception for want of memory. */
static ac_libssl *
find(PyObject **why_not, bool *again)
{
    *why_not = NULL;
    *again = false;
    ac_libssl *lib = PyMem_RawCalloc(1, sizeof(*lib));
    if (lib == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *core = PyImport_ImportModule("_ssl");
    PyObject *ssl = core == NULL ? NULL : PyImport_ImportModule("ssl");
    const char *reason = "there is no ssl module";
    if (ac_selfpipe_open(lib->ends) < 0) {
        reason = "there is no descriptor for the proof";
        *again = true;
    }
    else if (ssl != NULL) {
        reason = search(lib, core, ssl);
    }
    ac_selfpipe_close(lib->ends);
    PyErr_Clear();  // whatever it was, MemoryBIO serves
    Py_XDECREF(core);
    Py_XDECREF(ssl);
    if (reason == NULL) {
        return lib;
    }
    ac_libssl_free(lib);
    *why_not = PyUnicode_FromString(reason);
    return NULL;
}

/* ----------------------------------------------------------------- functions -- */

PyObject *
ac_libssl_decide_borrowed(ac_state *state)
{
    state->tls_direct = false;
    if (!state->tls_chosen) {
        return Py_None;
    }
    if (state->libssl == NULL && (state->why_no_libssl == NULL || state->tls_again)) {
        bool first = state->why_no_libssl == NULL;  // later the classes may be patched
        if (first && ac_sslmodule_remember(state) < 0) {
            return NULL;
        }
        PyObject *why_not;
        state->libssl = find(&why_not, &state->tls_again);
        Py_XSETREF(state->why_no_libssl, why_not);
        if (state->libssl == NULL && why_not == NULL) {
            return NULL;
        }
    }
    state->tls_direct = state->libssl != NULL;
    return state->tls_direct ? Py_None : state->why_no_libssl;
}

ac_ssl *
ac_libssl_ssl(const ac_libssl *lib, PyObject *socket)
{
    ac_ssl *ssl = word_at(socket, SECOND_WORD);
    return ssl != NULL && lib->SSL_get_ex_data(ssl, 0) == socket ? ssl : NULL;
}

void
ac_libssl_free(ac_libssl *lib)
{
    if (lib == NULL || lib->bios > 0) {
        return;  // for good: OpenSSL calls back into the module while one is alive
    }
    if (lib->method != NULL) {
        lib->BIO_meth_free(lib->method);
    }
    PyMem_RawFree(lib);
}
