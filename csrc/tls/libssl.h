/* The OpenSSL that this interpreter's module `_ssl` uses: its functions, found at run
 * time, and the proof that the objects of `_ssl` lie in memory as we read them.
 *
 * Nothing is linked and no header of OpenSSL is needed: what is declared here has been
 * the same since OpenSSL 1.1.1. */
#ifndef AC_LIBSSL_H
#define AC_LIBSSL_H

#include "core/state.h"

#include <stdatomic.h>

typedef struct ac_ssl ac_ssl;         /* SSL */
typedef struct ac_sslctx ac_sslctx;   /* SSL_CTX */
typedef struct ac_bio ac_bio;         /* BIO */
typedef struct ac_biometh ac_biometh; /* BIO_METHOD */

typedef int
ac_bio_write_fn(ac_bio *, const char *, size_t, size_t *);
typedef int
ac_bio_read_fn(ac_bio *, char *, size_t, size_t *);
typedef long
ac_bio_ctrl_fn(ac_bio *, int, long, void *);
typedef int
ac_bio_destroy_fn(ac_bio *);

/* X(result, name, parameters) */
#define AC_LIBSSL_FUNCTIONS(X)                                        \
    X(const char *, OpenSSL_version, (int))                           \
    X(const void *, TLS_server_method, (void))                        \
    X(const void *, TLS_client_method, (void))                        \
    X(const void *, BIO_s_mem, (void))                                \
    X(void *, SSL_get_ex_data, (const ac_ssl *, int))                 \
    X(ac_sslctx *, SSL_get_SSL_CTX, (const ac_ssl *))                 \
    X(ac_bio *, SSL_get_rbio, (const ac_ssl *))                       \
    X(ac_bio *, SSL_get_wbio, (const ac_ssl *))                       \
    X(int, SSL_is_server, (const ac_ssl *))                           \
    X(const char *, SSL_get_servername, (const ac_ssl *, int))        \
    X(void, SSL_set_bio, (ac_ssl *, ac_bio *, ac_bio *))              \
    X(int, SSL_read_ex, (ac_ssl *, void *, size_t, size_t *))         \
    X(int, SSL_write_ex, (ac_ssl *, const void *, size_t, size_t *))  \
    X(int, SSL_pending, (const ac_ssl *))                             \
    X(int, SSL_get_error, (const ac_ssl *, int))                      \
    X(unsigned long, ERR_peek_error, (void))                          \
    X(void, ERR_clear_error, (void))                                  \
    X(int, BIO_get_new_index, (void))                                 \
    X(ac_biometh *, BIO_meth_new, (int, const char *))                \
    X(void, BIO_meth_free, (ac_biometh *))                            \
    X(int, BIO_meth_set_write_ex, (ac_biometh *, ac_bio_write_fn *))  \
    X(int, BIO_meth_set_read_ex, (ac_biometh *, ac_bio_read_fn *))    \
    X(int, BIO_meth_set_ctrl, (ac_biometh *, ac_bio_ctrl_fn *))       \
    X(int, BIO_meth_set_destroy, (ac_biometh *, ac_bio_destroy_fn *)) \
    X(ac_bio *, BIO_new, (const ac_biometh *))                        \
    X(int, BIO_free, (ac_bio *))                                      \
    X(int, BIO_up_ref, (ac_bio *))                                    \
    X(void, BIO_set_data, (ac_bio *, void *))                         \
    X(void *, BIO_get_data, (ac_bio *))                               \
    X(void, BIO_set_init, (ac_bio *, int))                            \
    X(void, BIO_set_flags, (ac_bio *, int))                           \
    X(void, BIO_clear_flags, (ac_bio *, int))

/* One block for an interpreter. */
typedef struct ac_libssl {
#define AC_LIBSSL_MEMBER(result, name, parameters) result(*name) parameters;
    AC_LIBSSL_FUNCTIONS(AC_LIBSSL_MEMBER)
#undef AC_LIBSSL_MEMBER
    ac_biometh *method; /* of our BIO (bio.c) */
    atomic_size_t bios; /* how many of ours are alive: they need this block */
    int ends[2];        /* of the pipe that the proof reads through, else -1 */
} ac_libssl;

/* Decides whether new connections call libssl, from what was chosen (state->tls_chosen)
 * and what the proof says, which is made if there is none. Returns None, or the reason
 * why they do not, borrowed; NULL with an exception. */
PyObject *
ac_libssl_decide_borrowed(ac_state *state);

/* The SSL of an ssl.SSLObject whose `_sslobj` is proven to be `socket`, an object of
 * the exact type _ssl._SSLSocket. NULL without an exception if the back pointer says
 * otherwise. */
ac_ssl *
ac_libssl_ssl(const ac_libssl *lib, PyObject *socket);

/* During the proof: copies up to `len` bytes from an address that may be no address.
 * Returns how many. */
size_t
ac_libssl_peek(const ac_libssl *lib, const void *address, void *copy, size_t len);

/* Gives the block back, unless an SSLObject is alive that needs it. NULL is fine. */
void
ac_libssl_free(ac_libssl *lib);

#endif
