/* The BIO. It answers as the memory BIO of the ssl module does: an empty one says
 * "retry", writing always succeeds.
 *
 * Its functions are called by OpenSSL, without the GIL where a method of the ssl module
 * is what called it. They know no state but the BIO; the function that reads its data
 * pointer is one of those that were found at run time, and lies behind that very
 * pointer. So they are compiled for each place where the pointer may be, and the place
 * is looked up once. */
#include "core/python.h"

#include "tls/bio.h"

#include <string.h>

/* <openssl/bio.h> */
#define SOURCE_SINK 0x0400
#define LAST_INDEX 0xff /* BIO_TYPE_MASK */
#define FLAG_READ 0x01
#define FLAG_SHOULD_RETRY 0x08
#define FLAGS_RETRY 0x0f /* these, WRITE and IO_SPECIAL */
#define CTRL_EOF 2
#define CTRL_PENDING 10
#define CTRL_FLUSH 11
#define CTRL_DUP 12
#define CTRL_WPENDING 13

/* What the BIO's data pointer points to, until OpenSSL frees the BIO. */
typedef struct {
    ac_libssl *lib;
    ac_flows *flows; /* NULL once detached */
} bio_block;

/* ---------------------------------------------------------- called by OpenSSL -- */

static int
bio_read(ac_bio *bio, bio_block *block, char *data, size_t len, size_t *done)
{
    ac_libssl *lib = block->lib;
    ac_flows *flows = block->flows;
    if (flows == NULL || flows->in.len == 0) {
        lib->BIO_set_flags(bio, FLAG_READ | FLAG_SHOULD_RETRY);
        *done = 0;
        return 0;
    }
    lib->BIO_clear_flags(bio, FLAGS_RETRY);
    size_t n = len < flows->in.len ? len : flows->in.len;
    memcpy(data, flows->in.data, n);
    ac_inflow_consume(&flows->in, n);
    *done = n;
    return 1;
}

static int
bio_write(ac_bio *bio, bio_block *block, const char *data, size_t len, size_t *done)
{
    block->lib->BIO_clear_flags(bio, FLAGS_RETRY);
    *done = 0;
    if (block->flows != NULL && ac_outflow_append(&block->flows->out, data, len) < 0) {
        return 0;
    }
    *done = len;
    return 1;
}

static long
bio_ctrl(const bio_block *block, int command)
{
    const ac_flows *flows = block == NULL ? NULL : block->flows;
    switch (command) {
    case CTRL_EOF:
        return flows == NULL || flows->in.len == 0;
    case CTRL_PENDING:
        return flows == NULL ? 0 : (long)flows->in.len;
    case CTRL_WPENDING:
        return flows == NULL ? 0 : (long)ac_outflow_size(&flows->out);
    case CTRL_FLUSH:
    case CTRL_DUP:
        return 1;
    default:
        return 0;
    }
}

static int
bio_destroy(bio_block *block)
{
    if (block != NULL) {
        block->lib->bios--;
        PyMem_RawFree(block);
    }
    return 1;
}

/* --------------------------------------------------- the place of the pointer -- */

typedef struct {
    size_t place;
    ac_bio_read_fn *read;
    ac_bio_write_fn *write;
    ac_bio_ctrl_fn *ctrl;
    ac_bio_destroy_fn *destroy;
} variant;

#define PLACES(X) X(40) X(48) X(56) X(64) X(72) X(80) X(88) X(96)

#define BLOCK(bio, place) (*(bio_block **)(void *)((char *)(bio) + (place)))
#define FUNCTIONS(place)                                                           \
    static int read_##place(ac_bio *bio, char *data, size_t len, size_t *n)        \
    {                                                                              \
        return bio_read(bio, BLOCK(bio, place), data, len, n);                     \
    }                                                                              \
    static int write_##place(ac_bio *bio, const char *data, size_t len, size_t *n) \
    {                                                                              \
        return bio_write(bio, BLOCK(bio, place), data, len, n);                    \
    }                                                                              \
    static long ctrl_##place(ac_bio *bio, int command, long Py_UNUSED(number),     \
                             void *Py_UNUSED(p))                                   \
    {                                                                              \
        return bio_ctrl(BLOCK(bio, place), command);                               \
    }                                                                              \
    static int destroy_##place(ac_bio *bio)                                        \
    {                                                                              \
        return bio_destroy(BLOCK(bio, place));                                     \
    }
PLACES(FUNCTIONS)
#undef FUNCTIONS

#define VARIANT(place) \
    {place, read_##place, write_##place, ctrl_##place, destroy_##place},
static const variant variants[] = {PLACES(VARIANT)};
#undef VARIANT

/* The variant whose word changes with BIO_set_data(), or NULL. */
static const variant *
find_variant(const ac_libssl *lib)
{
    const variant *found = NULL;
    ac_bio *bio = lib->BIO_new(lib->method);
    if (bio == NULL) {
        return NULL;
    }
    char marks[2] = {0, 0};
    char before[128], after[128];
    lib->BIO_set_data(bio, &marks[0]);
    size_t n = ac_libssl_peek(lib, bio, before, sizeof(before));
    lib->BIO_set_data(bio, &marks[1]);
    size_t m = ac_libssl_peek(lib, bio, after, sizeof(after));
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        size_t place = variants[i].place;
        const char *one, *two;
        if (place + sizeof(one) > n || place + sizeof(two) > m) {
            break;
        }
        memcpy(&one, before + place, sizeof(one));
        memcpy(&two, after + place, sizeof(two));
        if (one == &marks[0] && two == &marks[1]) {
            found = &variants[i];
        }
    }
    lib->BIO_free(bio);
    return found;
}

/* ------------------------------------------------------------------- the BIO -- */

bool
ac_bio_prepare(ac_libssl *lib)
{
    int index = lib->BIO_get_new_index();
    if (index < 0 || index > LAST_INDEX) {
        index = LAST_INDEX;  // a process has 127, and may have more interpreters
    }
    lib->method = lib->BIO_meth_new(index | SOURCE_SINK, "asynccore");
    if (lib->method == NULL) {
        return false;
    }
    const variant *found = find_variant(lib);
    return found != NULL && lib->BIO_meth_set_read_ex(lib->method, found->read)
           && lib->BIO_meth_set_write_ex(lib->method, found->write)
           && lib->BIO_meth_set_ctrl(lib->method, found->ctrl)
           && lib->BIO_meth_set_destroy(lib->method, found->destroy);
}

ac_bio *
ac_bio_attach(ac_libssl *lib, ac_ssl *ssl, ac_flows *flows)
{
    bio_block *block = PyMem_RawMalloc(sizeof(*block));
    ac_bio *bio = block == NULL ? NULL : lib->BIO_new(lib->method);
    if (bio == NULL) {
        PyMem_RawFree(block);
        return NULL;
    }
    block->lib = lib;
    block->flows = flows;
    lib->bios++;
    lib->BIO_set_data(bio, block);
    lib->BIO_set_init(bio, 1);
    lib->BIO_up_ref(bio);             // one for us,
    lib->SSL_set_bio(ssl, bio, bio);  // one for the SSL, which frees the former BIOs
    return bio;
}

void
ac_bio_detach(ac_bio *bio, ac_libssl *lib)
{
    bio_block *block = lib->BIO_get_data(bio);
    block->flows = NULL;
    lib->BIO_free(bio);
}
