/* asynccore._core: the module definition. Each layer registers its own types and
 * methods, lower ones first. */
#include "core/python.h"

#include "core/awaiter.h"
#include "core/context.h"
#include "core/coroutine_method.h"
#include "core/dictwatch.h"
#include "core/mixin.h"
#include "core/state.h"
#include "datagram/datagram.h"
#include "io/add_reader.h"
#include "io/watch.h"
#include "loop/handle.h"
#include "loop/loop.h"
#include "loop/task.h"
#include "loop/threadsafe.h"
#include "reader/adopt.h"
#include "sock/methods.h"
#include "stream/accept.h"
#include "stream/connection.h"
#include "stream/pipe.h"
#include "stream/stream.h"
#include "tls/tls.h"

#include <uv.h>

#define LIBUV_MIN 0x012C00 /* 1.44.0 */

/* The running libuv may be another than the one compiled against: an older one
 * than we need is refused. */
static int
check_libuv(void)
{
    if (uv_version() < LIBUV_MIN) {
        PyErr_Format(PyExc_ImportError,
                     "asynccore needs libuv 1.44 or newer, but %s is what was loaded",
                     uv_version_string());
        return -1;
    }
    return 0;
}

static PyObject *
on_after_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    ac_state_of(module)->forks++;
    Py_RETURN_NONE;
}

/* What a callback has written by now leaves once, by the parent. */
static PyObject *
on_before_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    ac_state *state = ac_state_of(module);
    if (state->events == NULL) {  // cleared: the interpreter ends
        Py_RETURN_NONE;
    }
    PyObject *loop =
        PyObject_CallMethodNoArgs(state->events, state->str__get_running_loop);
    int rc = loop == NULL ? -1 : 0;
    if (loop != NULL && PyObject_TypeCheck(loop, state->Loop)) {
        rc = ac_loop_flush((LoopObject *)loop);
    }
    Py_XDECREF(loop);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* Loops must know that they are in a forked child without a system call. */
static int
register_at_fork(PyObject *module)
{
    PyObject *registrar = ac_state_import("os", "register_at_fork");
    PyObject *before = PyObject_GetAttrString(module, "_before_fork");
    PyObject *after = PyObject_GetAttrString(module, "_after_fork");
    PyObject *keywords =
        before == NULL || after == NULL
            ? NULL
            : Py_BuildValue("{sOsO}", "before", before, "after_in_child", after);
    PyObject *result =
        registrar == NULL || keywords == NULL
            ? NULL
            : PyObject_Call(registrar, ac_state_of(module)->empty_tuple, keywords);
    Py_XDECREF(registrar);
    Py_XDECREF(before);
    Py_XDECREF(after);
    Py_XDECREF(keywords);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
core_exec(PyObject *module)
{
    ac_state *state = ac_state_of(module);
    if (check_libuv() < 0 || ac_state_init(state) < 0 || ac_context_prove(state) < 0
        || ac_mixin_check(state) < 0 || ac_dictwatch_open(state) < 0
        || ac_handle_register(module, state) < 0
        || ac_threadsafe_register(module, state) < 0 || ac_task_register(state) < 0
        || ac_loop_register(module, state) < 0 || ac_watch_register(module, state) < 0
        || ac_add_reader_register(state) < 0 || ac_stream_register(module, state) < 0
        || ac_accept_register(module, state) < 0
        || ac_connection_register(module, state) < 0
        || ac_pipe_register(module, state) < 0 || ac_awaiter_register(module, state) < 0
        || ac_coroutine_method_register(module, state) < 0
        || ac_methods_register(module, state) < 0
        || ac_datagram_register(module, state) < 0
        || ac_adopt_register(module, state) < 0 || ac_tls_register(module, state) < 0)
    {
        return -1;
    }
    ac_loop_seal(state);
    if (PyModule_AddStringConstant(
            module, "libuv_version_compiled",
            AC_STRING(UV_VERSION_MAJOR) "." AC_STRING(UV_VERSION_MINOR) "." AC_STRING(
                UV_VERSION_PATCH))
            < 0
        || PyModule_AddStringConstant(module, "libuv_version_running",
                                      uv_version_string())
               < 0)
    {
        return -1;
    }
    return register_at_fork(module);
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    return ac_state_traverse(ac_state_of(module), visit, arg);
}

static int
core_clear(PyObject *module)
{
    return ac_state_clear(ac_state_of(module));
}

static void
core_free(void *module)
{
    (void)core_clear(module);
    ac_tls_free(ac_state_of(module));
}

static PyMethodDef core_methods[] = {
    {"_before_fork", on_before_fork, METH_NOARGS,
     "_before_fork($module, /)\n--\n\nCalled before a fork."},
    {"_after_fork", on_after_fork, METH_NOARGS,
     "_after_fork($module, /)\n--\n\nCalled in a forked child."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef ac_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "asynccore._core",
    .m_doc = "The core of asynccore, in C on libuv.",
    .m_size = sizeof(ac_state),
    .m_methods = core_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&ac_module_def);
}
