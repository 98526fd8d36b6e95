/* The sock_* methods of the loop. */
#include "core/python.h"

#include "sock/connect.h"
#include "sock/incoming.h"
#include "sock/methods.h"
#include "sock/receive.h"
#include "sock/transmit.h"

static const ac_coroutine_method_def sock_methods[] = {
    {"sock_recv", ac_operation_new, &ac_receive_recv},
    {"sock_recv_into", ac_operation_new, &ac_receive_recv_into},
    {"sock_recvfrom", ac_operation_new, &ac_receive_recvfrom},
    {"sock_recvfrom_into", ac_operation_new, &ac_receive_recvfrom_into},
    {"sock_sendall", ac_operation_new, &ac_transmit_sendall},
    {"sock_sendto", ac_operation_new, &ac_transmit_sendto},
    {"sock_accept", ac_operation_new, &ac_incoming_accept},
    {"sock_connect", ac_operation_new, &ac_connect},
    {NULL, NULL, NULL},
};

int
ac_methods_register(PyObject *module, ac_state *state)
{
    if (ac_operation_register(module, state) < 0) {
        return -1;
    }
    PyObject *standard = ac_state_import("asyncio", "SelectorEventLoop");
    int rc = standard == NULL ? -1
                              : ac_coroutine_method_add_all(state, state->Loop,
                                                            standard, sock_methods);
    Py_XDECREF(standard);
    return rc;
}
