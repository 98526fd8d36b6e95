/* The addresses that a transport has met.
 *
 * Two small tables of the same entries: by the bytes of the sockaddr, for what
 * arrives; by the identity of the object, for what is sent. A newer entry takes the
 * place of an older one, and no table grows. An entry's object is a tuple of exact
 * ints and strings, or a string or bytes: it cannot change, and the collector need
 * not see it. */
#include "core/python.h"

#include "datagram/address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#define PLACES 64 /* a power of two */

typedef struct {
    PyObject *object; /* owned */
    uint16_t places;  /* the tables that refer to the entry */
    uint16_t len;
    uint16_t size;         /* how many of the bytes tell it from others */
    unsigned char bytes[]; /* the sockaddr */
} entry;

struct ac_addresses {
    entry *by_bytes[PLACES];
    entry *by_object[PLACES];
};

static entry **
place_of_bytes(ac_addresses *kept, const unsigned char *bytes, size_t len)
{
    uint32_t hash = 2166136261u;  // FNV-1a
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return &kept->by_bytes[(hash ^ hash >> 16) % PLACES];
}

static entry **
place_of_object(ac_addresses *kept, PyObject *object)
{
    uintptr_t number = (uintptr_t)object;
    return &kept->by_object[(number >> 4 ^ number >> 10) % PLACES];
}

static void
place_set(entry **place, entry *item)
{
    entry *old = *place;
    *place = item;
    item->places++;
    if (old != NULL && --old->places == 0) {
        Py_DECREF(old->object);  // runs no Python
        PyMem_Free(old);
    }
}

/* The bytes that tell addresses apart: what follows differs between kernels. */
static size_t
size_of(const struct sockaddr_storage *address, socklen_t len)
{
    if (len >= (socklen_t)sizeof(struct sockaddr_in) && address->ss_family == AF_INET) {
        return offsetof(struct sockaddr_in, sin_zero);
    }
    return len;
}

static entry *
entry_new(PyObject *object, const struct sockaddr_storage *address, socklen_t len)
{
    entry *item = PyMem_Malloc(sizeof(*item) + len);
    if (item != NULL) {
        item->object = Py_NewRef(object);
        item->places = 0;
        item->len = (uint16_t)len;
        item->size = (uint16_t)size_of(address, len);
        memcpy(item->bytes, address, len);
    }
    return item;
}

/* Makes the table. False without memory: nothing is kept then. */
static bool
table_need(ac_addresses **kept)
{
    if (*kept == NULL) {
        *kept = PyMem_Calloc(1, sizeof(**kept));
    }
    return *kept != NULL;
}

PyObject *
ac_address_object(ac_addresses **kept, const struct sockaddr_storage *address,
                  socklen_t len)
{
    if (len == 0 || len > (socklen_t)sizeof(*address) || !table_need(kept)) {
        return ac_sockaddr_object(address, len);
    }
    const unsigned char *bytes = (const unsigned char *)address;
    size_t size = size_of(address, len);
    entry **place = place_of_bytes(*kept, bytes, size);
    if (*place != NULL && (*place)->size == size
        && memcmp((*place)->bytes, bytes, size) == 0)
    {
        return Py_NewRef((*place)->object);
    }
    PyObject *object = ac_sockaddr_object(address, len);
    // making it may run a collection, and that drop the table
    entry *item =
        object == NULL || !table_need(kept) ? NULL : entry_new(object, address, len);
    if (item != NULL) {
        place_set(place_of_bytes(*kept, bytes, size), item);
        if (PyTuple_CheckExact(object)) {  // so the answer is not parsed
            place_set(place_of_object(*kept, object), item);
        }
    }
    return object;
}

bool
ac_address_parse(ac_addresses **kept, int family, PyObject *object,
                 struct sockaddr_storage *address, socklen_t *len)
{
    entry **place = NULL;
    if (table_need(kept)) {
        place = place_of_object(*kept, object);
        if (*place != NULL && (*place)->object == object) {
            *len = (*place)->len;
            memcpy(address, (*place)->bytes, *len);
            return true;
        }
    }
    if (!ac_sockaddr_parse(family, object, address, len)) {
        return false;
    }
    entry *item = place == NULL ? NULL : entry_new(object, address, *len);
    if (item != NULL) {
        place_set(place, item);
    }
    return true;
}

static void
place_clear(entry *item)
{
    if (item != NULL && --item->places == 0) {
        Py_DECREF(item->object);
        PyMem_Free(item);
    }
}

void
ac_address_free(ac_addresses *kept)
{
    if (kept == NULL) {
        return;
    }
    for (size_t i = 0; i < PLACES; i++) {
        place_clear(kept->by_bytes[i]);
        place_clear(kept->by_object[i]);
    }
    PyMem_Free(kept);
}
