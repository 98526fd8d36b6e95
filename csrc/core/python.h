/* The interpreter as the rest of the sources see it.
 *
 * The one file that looks at PY_VERSION_HEX: what differs between CPython 3.11
 * and 3.15 gets one name here. */
#ifndef AC_PYTHON_H
#define AC_PYTHON_H

#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#include <frameobject.h> /* PyFrame_New */

#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030B0000
#error "asynccore needs CPython 3.11 or newer"
#endif

#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h> /* T_OBJECT_EX and friends, before they had a prefix */
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_T_DOUBLE T_DOUBLE
#define Py_T_INT T_INT
#define Py_T_UINT T_UINT
#define AC_T_OBJECT T_OBJECT /* NULL reads as None */
#define Py_READONLY READONLY
/* Objects of classes that are written in Python hold their weak reference list
 * themselves; from 3.12 on it lies in front of the object. */
#define AC_BASE_WEAKREFS PyObject *weakrefs;
#define AC_THROW_WARNS 0
#define AC_THROW_REPLACES_STOP 1 /* a StopIteration for one that has not begun */
#else
#define AC_BASE_WEAKREFS
#define AC_THROW_WARNS 1 /* throw() of a coroutine, of more than one argument */
#define AC_THROW_REPLACES_STOP 0
#define AC_T_OBJECT _Py_T_OBJECT
#endif

#if PY_VERSION_HEX >= 0x030C0000
#define AC_HAVE_DICT_WATCHERS 1 /* PyDict_Watch; before, a dict has a version */
#else
#define AC_HAVE_DICT_WATCHERS 0
#endif

#if PY_VERSION_HEX >= 0x030D0000
#define AC_HAVE_SET_WAKEUP_FD 1 /* PySignal_SetWakeupFd: a few instructions */
#else
#define AC_HAVE_SET_WAKEUP_FD 0
#endif

#if PY_VERSION_HEX >= 0x030E0000
#define AC_HAVE_THREADSAFE_HANDLE 1 /* asyncio.events._ThreadSafeHandle */
#define AC_NOT_AWAITABLE "'%.100s' object can't be awaited"
#else
#define AC_HAVE_THREADSAFE_HANDLE 0
#define AC_NOT_AWAITABLE "object %.100s can't be used in 'await' expression"
#endif

#if PY_VERSION_HEX >= 0x030F0000
#define AC_DUE_BY_ULP 1        /* the end of a turn's timers is later than its clock */
#define AC_THROW_LOOKS_FIRST 1 /* at the coroutine, then at its arguments */
#else
#define AC_DUE_BY_ULP 0
#define AC_THROW_LOOKS_FIRST 0
#endif

#ifdef Py_GIL_DISABLED
#define AC_FREE_THREADED 1 /* threads run side by side: see core/threads.h */
#else
#define AC_FREE_THREADED 0
#endif

/* Whether an object has `n` references and this thread took all of them. Without a GIL,
 * where another thread has or had one, that cannot be told: a reference may be passed
 * on while the counts are read. */
static inline bool
ac_has_references(PyObject *object, Py_ssize_t n)
{
#if !AC_FREE_THREADED
    return Py_REFCNT(object) == n;
#else
    return __atomic_load_n(&object->ob_tid, __ATOMIC_RELAXED) == _Py_ThreadId()
           && __atomic_load_n(&object->ob_ref_local, __ATOMIC_RELAXED) == n
           && __atomic_load_n(&object->ob_ref_shared, __ATOMIC_ACQUIRE) == 0;
#endif
}

/* A function with other parameters than a PyCFunction, for a PyMethodDef. */
#define AC_CFUNCTION(function) ((PyCFunction)(void (*)(void))(function))

/* The exception being raised as one object, removed from the thread state;
 * NULL if there is none. */
static inline PyObject *
ac_err_take(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
    }
    Py_DECREF(type);
    Py_XDECREF(tb);
    return value;
#endif
}

/* Raises again what ac_err_take() gave; consumes the reference. Nothing happens for
 * NULL: what has been raised meanwhile stays. */
static inline void
ac_err_restore_steal(PyObject *exc)
{
    if (exc == NULL) {
        return;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exc);
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
#endif
}

#if PY_VERSION_HEX >= 0x030C0000
/* Whether *kept is a StopIteration that nobody else has, nor has changed: then it gets
 * another value, in its place and in its arguments. */
static inline bool
ac_err_refill_stop_iteration(PyObject *kept, PyObject *value)
{
    PyStopIterationObject *self = (PyStopIterationObject *)kept;
    if (kept == NULL || Py_REFCNT(kept) != 1 || self->dict != NULL
        || self->notes != NULL || self->traceback != NULL || self->context != NULL
        || self->cause != NULL || self->suppress_context || self->value == NULL
        || !PyBytes_CheckExact(self->value) || !PyTuple_CheckExact(self->args)
        || PyTuple_GET_SIZE(self->args) != 1 || Py_REFCNT(self->args) != 1
        || !PyBytes_CheckExact(PyTuple_GET_ITEM(self->args, 0)))
    {
        return false;
    }
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)self->args)->ob_hash = -1;
#endif
    PyObject *former = PyTuple_GET_ITEM(self->args, 0);
    PyTuple_SET_ITEM(self->args, 0, Py_NewRef(value));
    Py_DECREF(former);  // bytes, as the other: nothing runs
    Py_SETREF(self->value, Py_NewRef(value));
    return true;
}

/* A StopIteration of this value, filled by hand: PyErr_SetObject() takes twice as many
 * instructions for it. NULL with MemoryError. */
static inline PyObject *
ac_err_new_stop_iteration(PyObject *value)
{
    PyTypeObject *type = (PyTypeObject *)PyExc_StopIteration;
    PyObject *args = PyTuple_Pack(1, value);
    PyObject *exc = args == NULL ? NULL : type->tp_alloc(type, 0);
    if (exc == NULL) {
        Py_XDECREF(args);
        return NULL;
    }
    ((PyStopIterationObject *)exc)->args = args;
    ((PyStopIterationObject *)exc)->value = Py_NewRef(value);
    return exc;
}
#endif

/* Raises StopIteration(value), whatever value is; MemoryError on failure. Where `kept`
 * is not NULL, one of a few bytes is left there for the next: 600 instructions less
 * than to make and free one. A traceback in it would be kept as well, so that is for
 * what the interpreter takes at once. */
static inline void
ac_err_set_stop_iteration(PyObject *value, PyObject **kept)
{
#if PY_VERSION_HEX >= 0x030C0000
    bool keep =
        kept != NULL && PyBytes_CheckExact(value) && PyBytes_GET_SIZE(value) <= 4096;
    if (keep && ac_err_refill_stop_iteration(*kept, value)) {
        PyErr_SetRaisedException(Py_NewRef(*kept));
        return;
    }
    PyObject *exc = ac_err_new_stop_iteration(value);
    if (exc != NULL) {
        if (keep) {
            Py_XSETREF(*kept, Py_NewRef(exc));
        }
        PyErr_SetRaisedException(exc);
    }
#else
    (void)kept;  // the object is made when needed
    if (!PyTuple_Check(value) && !PyExceptionInstance_Check(value)) {
        PyErr_SetObject(PyExc_StopIteration, value);
        return;
    }
    PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (exc != NULL) {
        PyErr_SetObject(PyExc_StopIteration, exc);
        Py_DECREF(exc);
    }
#endif
}

/* True if the exception being raised is one that asyncio never catches. */
static inline bool
ac_err_is_exit(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit)
           || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

/* Makes `fd` the one that the interpreter writes signals to, in the main thread only.
 * Returns the former one, -1 if there was none. Leaves the exception being raised. */
static inline int
ac_set_wakeup_fd(int fd)
{
#if AC_HAVE_SET_WAKEUP_FD
    return PySignal_SetWakeupFd(fd);
#else
    // declared by the older headers too, but not exported
    PyObject *exc = ac_err_take();
    PyObject *module = PyImport_ImportModule("_signal");
    PyObject *result = NULL;
    int former = -1;
    if (module != NULL) {
        result = PyObject_CallMethod(module, "set_wakeup_fd", "i", fd);
        if (result == NULL && fd != -1) {
            PyErr_Clear();  // it is checked, and was closed since
            result = PyObject_CallMethod(module, "set_wakeup_fd", "i", -1);
        }
        Py_DECREF(module);
    }
    if (result != NULL) {
        former = (int)PyLong_AsLong(result);
        Py_DECREF(result);
    }
    PyErr_Clear();
    ac_err_restore_steal(exc);
    return former;
#endif
}

/* The context that runs now, or NULL where none was entered yet. Borrowed; this is
 * the context itself, while PyContext_CopyCurrent() gives a copy. */
static inline PyObject *
ac_context_borrowed(void)
{
    return PyThreadState_Get()->context;
}

/* How many frames of its origin a new coroutine keeps: what
 * sys.get_coroutine_origin_tracking_depth() gives. */
static inline int
ac_coroutine_origin_depth(void)
{
    return PyThreadState_Get()->coroutine_origin_tracking_depth;
}

/* The identifier that threading.get_ident() gives. */
static inline unsigned long
ac_thread_id(void)
{
    return PyThread_get_thread_ident();
}

/* The object of a weak reference: new reference, NULL if it is dead. */
static inline PyObject *
ac_weakref_get(PyObject *ref)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *object = NULL;
    (void)PyWeakref_GetRef(ref, &object);  // fails for what is no weak reference only
    return object;
#else
    PyObject *object = PyWeakref_GET_OBJECT(ref);
    return object == Py_None ? NULL : Py_NewRef(object);
#endif
}

/* What a dict has by a name: a new reference; NULL for nothing, or with an exception.
 */
static inline PyObject *
ac_dict_get(PyObject *dict, PyObject *name)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *value = NULL;
    (void)PyDict_GetItemRef(dict, name, &value);
    return value;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, name));
#endif
}

/* The attributes of an instance of a class written in Python. Borrowed, kept by the
 * object; NULL without an exception where there is none. Runs no Python. */
static inline PyObject *
ac_instance_dict_borrowed(PyObject *object)
{
    PyObject **dict = _PyObject_GetDictPtr(object);
    return dict == NULL ? NULL : *dict;
}

#if !AC_HAVE_DICT_WATCHERS
/* Another number after each change, for all dicts together. */
static inline uint64_t
ac_dict_version(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_version_tag;
}
#endif

/* The version of a type's attributes: it changes whenever the type or one of
 * its bases is assigned to; 0 means "not known, look again". */
static inline unsigned int
ac_type_version(PyTypeObject *type)
{
#if AC_FREE_THREADED
    return __atomic_load_n(&type->tp_version_tag, __ATOMIC_RELAXED);
#else
    return type->tp_version_tag;
#endif
}

#endif
