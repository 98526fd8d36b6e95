/* A BIO of ours: OpenSSL reads from an ac_inflow and writes to an ac_outflow. */
#ifndef AC_BIO_H
#define AC_BIO_H

#include "tls/cipher.h"
#include "tls/libssl.h"

/* Where the bytes are: a part of the object that owns the BIO. */
typedef struct {
    ac_inflow in;
    ac_outflow out;
} ac_flows;

/* Makes the BIO's method once libssl is proven: sets lib->method. Returns false if it
 * cannot be done with this OpenSSL. */
bool
ac_bio_prepare(ac_libssl *lib);

/* Puts a BIO over `flows` under an SSL, in place of those that it has. Returns a
 * reference to it, NULL without an exception if there is no memory. */
ac_bio *
ac_bio_attach(ac_libssl *lib, ac_ssl *ssl, ac_flows *flows);

/* Cuts a BIO off from its flows and drops the reference. An SSLObject that is still in
 * use reads nothing from now on, and what it writes is lost. */
void
ac_bio_detach(ac_bio *bio, ac_libssl *lib);

#endif
