/* Module state: filled once by module_exec, visited and cleared by the collector. */
#include "core/python.h"

#include "core/plain.h"
#include "core/state.h"

/* The members that hold references, in the order of the struct; the names follow. */
#define AC_OBJECTS(X)           \
    X(Loop)                     \
    X(Handle)                   \
    X(TimerHandle)              \
    X(ThreadSafeHandle)         \
    X(FdHandles)                \
    X(Stream)                   \
    X(Datagram)                 \
    X(Connection)               \
    X(Accepted)                 \
    X(ReadPipe)                 \
    X(WritePipe)                \
    X(Awaiter)                  \
    X(CoroutineMethod)          \
    X(Operation)                \
    X(TLSProtocol)              \
    X(TLSTransport)             \
    X(ReaderState)              \
    X(Reader)                   \
    X(Writer)                   \
    X(ReaderCoroutine)          \
    X(WriterCoroutine)          \
    X(Connected)                \
    X(asyncio_Handle)           \
    X(asyncio_TimerHandle)      \
    X(asyncio_ThreadSafeHandle) \
    X(asyncio_FlowControlMixin) \
    X(asyncio_BufferedProtocol) \
    X(standard_write)           \
    X(datagram_read_ready)      \
    X(datagram_sendto)          \
    X(datagram_max_size)        \
    X(deque_type)               \
    X(TransportSocket)          \
    X(socket_module)            \
    X(socket_type)              \
    X(socket_base)              \
    X(socket_fileno)            \
    X(socket_gettimeout)        \
    X(socket_stock)             \
    X(stock_set_nodelay)        \
    X(stock_ipaddr_info)        \
    X(connection_parts)         \
    X(standard_loop)            \
    X(fast_Future)              \
    X(future_done)              \
    X(future_set_result)        \
    X(asyncio_Task)             \
    X(standard_create_task)     \
    X(names_task)               \
    X(names_eager_task)         \
    X(names_context)            \
    X(no_variables)             \
    X(empty_tuple)              \
    X(stop_iteration)           \
    X(high_water)               \
    X(low_water)                \
    X(handle_run)               \
    X(threadsafe_stock)         \
    X(transport_extra_info)     \
    X(get_asyncgen_hooks)       \
    X(set_asyncgen_hooks)       \
    X(logger)                   \
    X(stock_reader)             \
    X(stock_writer)             \
    X(stock_protocol)           \
    X(stock_attributes)         \
    X(stock_functions)          \
    X(server_type)              \
    X(weakset_type)             \
    X(clients_stock)            \
    X(newline)                  \
    X(IncompleteReadError)      \
    X(LimitOverrunError)        \
    X(SSLProtocol)              \
    X(SSLTransport)             \
    X(SSLAgainErrors)           \
    X(SSLError)                 \
    X(MemoryBIO)                \
    X(tls_handshake)            \
    X(tls_wrapped)              \
    X(tls_flushing)             \
    X(tls_shutdown)             \
    X(tls_unwrapped)            \
    X(tls_app_init)             \
    X(tls_app_made)             \
    X(tls_app_eof)              \
    X(tls_app_lost)             \
    X(names_wrap_bio)           \
    X(names_wrap_served)        \
    X(SSLSocket)                \
    X(SSLContext)               \
    X(SSLObject)                \
    X(ssl_read)                 \
    X(ssl_write)                \
    X(ssl_pending)              \
    X(why_no_libssl)            \
    X(base_events)              \
    X(constants)                \
    X(events)                   \
    X(format_helpers)           \
    X(futures)                  \
    X(sslproto)                 \
    X(unix_events)              \
    X(streams)                  \
    X(time_dict)                \
    X(futures_dict)             \
    X(tasks_dict)               \
    X(base_events_dict)         \
    X(time_monotonic)           \
    X(dict_watch)

PyObject *
ac_state_import(const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *value = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
    return value;
}

/* Sets state->format_has_debug: some patch releases of each version pass it. */
static int
inspect_format_helper(ac_state *state)
{
    PyObject *function =
        PyObject_GetAttr(state->format_helpers, state->str__format_callback_source);
    if (function == NULL) {
        return -1;
    }
    PyObject *defaults = PyObject_GetAttrString(function, "__kwdefaults__");
    Py_DECREF(function);
    if (defaults == NULL) {
        return -1;
    }
    int found = 0;
    if (PyDict_Check(defaults)) {
        found = PyDict_Contains(defaults, state->str_debug);
    }
    Py_DECREF(defaults);
    if (found < 0) {
        return -1;
    }
    state->format_has_debug = found == 1;
    return 0;
}

/* How many parameters a Python function of a class has; -1 with an exception. */
static long
count_parameters(PyObject *type, const char *name)
{
    long count = -1;
    PyObject *function = PyObject_GetAttrString(type, name);
    PyObject *code =
        function == NULL ? NULL : PyObject_GetAttrString(function, "__code__");
    PyObject *number =
        code == NULL ? NULL : PyObject_GetAttrString(code, "co_argcount");
    if (number != NULL) {
        count = PyLong_AsLong(number);
    }
    Py_XDECREF(function);
    Py_XDECREF(code);
    Py_XDECREF(number);
    return count;
}

/* Sets what transports need to know of this interpreter's asyncio. */
static int
inspect_transports(ac_state *state)
{
    long parameters = -1;
    PyObject *server = ac_state_import("asyncio.base_events", "Server");
    if (server != NULL) {
        parameters = count_parameters(server, "_attach");
        Py_DECREF(server);
    }
    if (parameters < 0) {
        return -1;
    }
    state->server_takes_transport = parameters == 2;
    state->socket_base = ac_state_import("_socket", "socket");
    if (state->socket_base == NULL) {
        return -1;
    }
    state->socket_fileno = PyObject_GetAttr(state->socket_base, state->str_fileno);
    state->socket_gettimeout = PyObject_GetAttrString(state->socket_base, "gettimeout");
    state->high_water = PyLong_FromLong(64 * 1024);
    state->low_water = PyLong_FromLong(16 * 1024);
    state->empty_tuple = PyTuple_New(0);
    return ac_plain_note(state) < 0 || state->socket_fileno == NULL
                   || state->socket_gettimeout == NULL || state->high_water == NULL
                   || state->low_water == NULL || state->empty_tuple == NULL
               ? -1
               : 0;
}

/* The class of futures in C. */
static int
inspect_futures(ac_state *state)
{
    state->fast_Future = ac_state_import("_asyncio", "Future");
    if (state->fast_Future == NULL) {
        PyErr_Clear();  // an interpreter without the class: its methods are looked up
        return 0;
    }
    state->future_done = PyObject_GetAttr(state->fast_Future, state->str_done);
    state->future_set_result =
        PyObject_GetAttr(state->fast_Future, state->str_set_result);
    return state->future_done == NULL || state->future_set_result == NULL ? -1 : 0;
}

int
ac_state_init(ac_state *state)
{
#define INTERN(name)                                                       \
    if ((state->str_##name = PyUnicode_InternFromString(#name)) == NULL) { \
        return -1;                                                         \
    }
    AC_NAMES(INTERN)
#undef INTERN

#define IMPORT(member, module, attribute)                               \
    if ((state->member = ac_state_import(module, attribute)) == NULL) { \
        return -1;                                                      \
    }
    IMPORT(asyncio_Handle, "asyncio.events", "Handle")
    IMPORT(asyncio_TimerHandle, "asyncio.events", "TimerHandle")
#if AC_HAVE_THREADSAFE_HANDLE
    IMPORT(asyncio_ThreadSafeHandle, "asyncio.events", "_ThreadSafeHandle")
#endif
    IMPORT(asyncio_FlowControlMixin, "asyncio.transports", "_FlowControlMixin")
    IMPORT(asyncio_BufferedProtocol, "asyncio.protocols", "BufferedProtocol")
    IMPORT(TransportSocket, "asyncio.trsock", "TransportSocket")
    IMPORT(socket_type, "socket", "socket")
    IMPORT(get_asyncgen_hooks, "sys", "get_asyncgen_hooks")
    IMPORT(set_asyncgen_hooks, "sys", "set_asyncgen_hooks")
    IMPORT(logger, "asyncio.log", "logger")
#undef IMPORT
    if ((state->handle_run = PyObject_GetAttr(state->asyncio_Handle, state->str__run))
            == NULL
        || (state->transport_extra_info = PyObject_GetAttr(
                state->asyncio_FlowControlMixin, state->str_get_extra_info))
               == NULL
        || (state->base_events = PyImport_ImportModule("asyncio.base_events")) == NULL
        || (state->constants = PyImport_ImportModule("asyncio.constants")) == NULL
        || (state->events = PyImport_ImportModule("asyncio.events")) == NULL
        || (state->format_helpers = PyImport_ImportModule("asyncio.format_helpers"))
               == NULL
        || (state->futures = PyImport_ImportModule("asyncio.futures")) == NULL)
    {
        return -1;
    }
    if ((state->time_dict = ac_state_import("time", "__dict__")) == NULL
        || (state->futures_dict = ac_state_import("asyncio.futures", "__dict__"))
               == NULL
        || (state->tasks_dict = ac_state_import("asyncio.tasks", "__dict__")) == NULL
        || (state->base_events_dict =
                ac_state_import("asyncio.base_events", "__dict__"))
               == NULL
        || (state->time_monotonic = ac_state_import("time", "monotonic")) == NULL)
    {
        return -1;
    }
    return inspect_format_helper(state) < 0 || inspect_transports(state) < 0
                   || inspect_futures(state) < 0
               ? -1
               : 0;
}

int
ac_state_traverse(ac_state *state, visitproc visit, void *arg)
{
#define VISIT(member) Py_VISIT(state->member);
    AC_OBJECTS(VISIT)
#undef VISIT
#define VISIT_NAME(name) Py_VISIT(state->str_##name);
    AC_NAMES(VISIT_NAME)
#undef VISIT_NAME
    return 0;
}

int
ac_state_clear(ac_state *state)
{
#define CLEAR(member) Py_CLEAR(state->member);
    AC_OBJECTS(CLEAR)
#undef CLEAR
#define CLEAR_NAME(name) Py_CLEAR(state->str_##name);
    AC_NAMES(CLEAR_NAME)
#undef CLEAR_NAME
    state->dict_changes = NULL;  // dict_watch has kept it
    state->module_changes = NULL;
    return 0;
}

unsigned int
ac_type_version_to_note(PyTypeObject *type)
{
    if (ac_type_version(type) == 0) {  // a look-up gives it
        PyObject *found = PyObject_GetAttrString((PyObject *)type, "__sizeof__");
        if (found == NULL) {
            PyErr_Clear();
        }
        Py_XDECREF(found);
    }
    return ac_type_version(type);
}

PyTypeObject *
ac_state_add_type(PyObject *module, PyType_Spec *spec, PyObject *bases)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, bases);
    if (type == NULL) {
        return NULL;
    }
    if (PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

int
ac_state_add_method(PyTypeObject *type, PyMethodDef *method)
{
    PyObject *descriptor = PyDescr_NewMethod(type, method);
    if (descriptor == NULL) {
        return -1;
    }
    int rc = PyObject_SetAttrString((PyObject *)type, method->ml_name, descriptor);
    Py_DECREF(descriptor);
    return rc;
}

int
ac_state_add_methods(PyTypeObject *type, PyMethodDef *methods)
{
    for (; methods->ml_name != NULL; methods++) {
        if (ac_state_add_method(type, methods) < 0) {
            return -1;
        }
    }
    return 0;
}

int
ac_state_check_layout(PyObject *base, const ac_slot_offset *slots, size_t basicsize)
{
    for (; slots->name != NULL; slots++) {
        PyObject *descriptor = PyObject_GetAttrString(base, slots->name);
        if (descriptor == NULL) {
            return -1;
        }
        bool same = Py_IS_TYPE(descriptor, &PyMemberDescr_Type)
                    && (size_t)((PyMemberDescrObject *)descriptor)->d_member->offset
                           == slots->offset;
        Py_DECREF(descriptor);
        if (!same) {
            PyErr_Format(PyExc_ImportError,
                         "asynccore was not built for this asyncio: %s lies elsewhere",
                         slots->name);
            return -1;
        }
    }
    if ((size_t)((PyTypeObject *)base)->tp_basicsize != basicsize) {
        PyErr_Format(PyExc_ImportError,
                     "asynccore was not built for this asyncio: %R has another size",
                     base);
        return -1;
    }
    return 0;
}
