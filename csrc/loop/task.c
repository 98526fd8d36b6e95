/* create_task: the usual call without the frame of BaseEventLoop.create_task.
 *
 * Usual is: no debug mode, no keywords but name=, context= and, where it passes on what
 * it does not know, eager_start=; the interpreter's own Task, and the interpreter's own
 * create_task next in the method resolution order. Then that does nothing but
 * Task(coro, loop=self, ...), in every release of 3.11 to 3.15. With a task factory it
 * differs from one to the next: where its code is known, the factory is called as it
 * does. For all else it is called. */
#include "core/python.h"

#include "core/code.h"
#include "core/dictwatch.h"
#include "core/method.h"
#include "loop/future.h"
#include "loop/task.h"

/* The attribute of the classes behind _core.Loop, as super() finds it. New reference,
 * NULL with an exception. */
static PyObject *
inherited(ac_state *state, PyObject *object)
{
    PyObject *super = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type,
                                                   state->Loop, object, NULL);
    PyObject *method =
        super == NULL ? NULL : PyObject_GetAttr(super, state->str_create_task);
    Py_XDECREF(super);
    return method;
}

/* Whether the class inherits the create_task that was there at import. Returns -1 with
 * an exception. */
static int
standard_is_next(LoopObject *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    unsigned int version = ac_type_version(type);
    if (version != 0 && version == AC_LOAD(loop->task_version)) {
        return AC_LOAD(loop->task_standard);
    }
    version = ac_type_version_to_note(type);
    PyObject *method = inherited(loop->state, (PyObject *)type);
    if (method == NULL) {
        return -1;
    }
    bool standard = method == loop->state->standard_create_task;
    Py_DECREF(method);
    AC_STORE(loop->task_standard, standard);
    AC_STORE(loop->task_version, version);
    return standard;
}

/* What a module has by a name. New reference, NULL for nothing. */
static PyObject *
of_module(PyObject *module, PyObject *name)
{
    PyObject *value = module != NULL && PyModule_Check(module)
                          ? ac_dictwatch_get(PyModule_GetDict(module), name)
                          : NULL;
    PyErr_Clear();  // whatever it is, the method that is called instead raises it
    return value;
}

/* Whether `tasks.Task`, as BaseEventLoop.create_task finds it, is the interpreter's
 * own. */
static bool
class_is_standard(ac_state *state)
{
    uint64_t changes = ac_dictwatch_modules(state);
    if (changes != 0 && changes == AC_LOAD(state->task_unreplaced)) {
        return true;
    }
    PyObject *tasks = of_module(state->base_events, state->str_tasks);
    PyObject *type = of_module(tasks, state->str_Task);
    bool standard = type != NULL && type == state->asyncio_Task;
    if (standard && PyModule_GetDict(tasks) == state->tasks_dict) {
        AC_STORE(state->task_unreplaced, changes);
    }
    Py_XDECREF(tasks);
    Py_XDECREF(type);
    return standard;
}

/* How the interpreter's create_task() calls a task factory. */
enum {
    FACTORY_UNKNOWN,   /* it is called instead */
    FACTORY_LEGACY,    /* factory(loop, coro), if there is neither name nor context */
    FACTORY_PASSES_ON, /* factory(loop, coro, **kwargs) */
};

/* The keywords of a usual call. NULL: not given; of name and context also None. */
typedef struct {
    PyObject *name, *context, *eager_start;
} task_keywords;

/* Takes the keywords. Returns false if there is another one. */
static bool
take_keywords(ac_state *state, PyObject *const *values, PyObject *kwnames,
              task_keywords *keywords)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        if (keyword == state->str_eager_start && state->create_task_passes_on) {
            keywords->eager_start = values[i];
            continue;
        }
        PyObject **target = keyword == state->str_name      ? &keywords->name
                            : keyword == state->str_context ? &keywords->context
                                                            : NULL;
        if (target == NULL) {  // another one, or not interned
            return false;
        }
        if (values[i] != Py_None) {
            *target = values[i];
        }
    }
    return true;
}

/* Task(coro, loop=loop, **keywords) */
static PyObject *
task_make(LoopObject *loop, PyObject *coro, const task_keywords *keywords)
{
    ac_state *state = loop->state;
    PyObject *name = keywords->name, *context = keywords->context;
    if (name == NULL && context == NULL && keywords->eager_start == NULL) {
        PyObject *positional = PyTuple_Pack(1, coro);
        PyObject *task = positional == NULL
                             ? NULL
                             : ac_future_call(loop, state->asyncio_Task, positional);
        Py_XDECREF(positional);
        return task;
    }
    PyObject *args[] = {coro, (PyObject *)loop, name == NULL ? Py_None : name,
                        context == NULL ? Py_None : context, keywords->eager_start};
    return PyObject_Vectorcall(state->asyncio_Task, args, 1,
                               keywords->eager_start == NULL ? state->names_task
                                                             : state->names_eager_task);
}

/* create_task(coro, **keywords) with a factory, as far as it is known. Sets *task, to
 * NULL with an exception; returns false if the inherited method is to be called. */
static bool
call_factory(LoopObject *loop, PyObject *factory, PyObject *const *args,
             PyObject *kwnames, PyObject **task)
{
    ac_state *state = loop->state;
    if (state->factory_call == FACTORY_PASSES_ON) {
        *task = ac_method_pass_on(factory, (PyObject *)loop, args, 1, kwnames);
        return true;
    }
    task_keywords keywords = {NULL, NULL, NULL};
    if (state->factory_call == FACTORY_UNKNOWN
        || !take_keywords(state, args + 1, kwnames, &keywords) || keywords.name != NULL
        || keywords.context != NULL)
    {
        return false;
    }
    PyObject *stack[] = {(PyObject *)loop, args[0]};
    *task = PyObject_Vectorcall(factory, stack, 2, NULL);
    return true;
}

/* The inherited create_task(*args, **kwargs). */
static PyObject *
call_inherited(LoopObject *loop, bool standard, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    if (standard) {
        return ac_method_pass_on(loop->state->standard_create_task, (PyObject *)loop,
                                 args, nargs, kwnames);
    }
    PyObject *method = inherited(loop->state, (PyObject *)loop);
    PyObject *task = method == NULL
                         ? NULL
                         : PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_XDECREF(method);
    return task;
}

static PyObject *
loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    LoopObject *loop = (LoopObject *)self;
    task_keywords keywords = {NULL, NULL, NULL};
    int standard = standard_is_next(loop);
    if (standard < 0) {
        return NULL;
    }
    if (standard && !loop->debug && !AC_LOAD(loop->closed) && nargs == 1) {
        PyObject *factory =
            PyObject_GetAttr((PyObject *)loop, loop->state->str__task_factory);
        PyObject *task;
        bool done = false;
        if (factory != NULL && factory != Py_None) {
            done = call_factory(loop, factory, args, kwnames, &task);
        }
        else if (factory == Py_None && class_is_standard(loop->state)
                 && take_keywords(loop->state, args + 1, kwnames, &keywords))
        {
            task = task_make(loop, args[0], &keywords);
            done = true;
        }
        Py_XDECREF(factory);
        if (done) {
            return task;
        }
        PyErr_Clear();  // of a look-up: the method that is called instead raises it
    }
    return call_inherited(loop, standard, args, nargs, kwnames);
}

/* The method with the parameters that `inspect.signature` is to find. */
#define CREATE_TASK(parameters)                                                        \
    {                                                                                  \
        {"create_task", AC_CFUNCTION(loop_create_task), METH_FASTCALL | METH_KEYWORDS, \
         "create_task($self, /, coro, " parameters ")\n--\n\n"                         \
         "Schedule a coroutine object. Returns an asyncio.Task."},                     \
            {NULL, NULL, 0, NULL},                                                     \
    }

static PyMethodDef named_methods[] = CREATE_TASK("*, name=None, context=None");
static PyMethodDef both_methods[] = CREATE_TASK("*, name=None, context=None, **kwargs");
static PyMethodDef any_methods[] = CREATE_TASK("**kwargs");

PyMethodDef *
ac_task_methods(const ac_state *state)
{
    if (state->standard_create_task == NULL) {
        return both_methods;
    }
    if (!state->create_task_passes_on) {
        return named_methods;
    }
    const PyCodeObject *code =
        (PyCodeObject *)PyFunction_GET_CODE(state->standard_create_task);
    return code->co_kwonlyargcount > 0 ? both_methods : any_methods;
}

/* Whether a function is the text of asyncio.base_events, not what wraps it. */
static bool
is_of_base_events(ac_state *state, PyObject *function)
{
    return PyFunction_Check(function)
           && PyFunction_GetGlobals(function) == PyModule_GetDict(state->base_events);
}

/* Looks at the interpreter's create_task(); one that does more to a task, as that of
 * 3.13.0, which names it None, is called. Returns 0, or -1 with an exception. */
static int
look_at_factory_call(ac_state *state, PyObject *function)
{
    static const char *const all[] = {
        "_check_closed", "_task_factory", "tasks", "Task", "_source_traceback", NULL,
    };
    static const char *const legacy[] = {
        "_check_closed",     "_task_factory",  "tasks", "Task",
        "_source_traceback", "_set_task_name", NULL,
    };
    const PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(function);
    bool passes_on = state->create_task_passes_on && code->co_kwonlyargcount == 0;
    int rc = state->create_task_passes_on && !passes_on
                 ? 0
                 : ac_code_uses_only(function, PyModule_GetDict(state->base_events),
                                     passes_on ? all : legacy);
    state->factory_call = rc <= 0     ? FACTORY_UNKNOWN
                          : passes_on ? FACTORY_PASSES_ON
                                      : FACTORY_LEGACY;
    return rc < 0 ? -1 : 0;
}

int
ac_task_register(ac_state *state)
{
    PyObject *module = PyImport_ImportModule("_asyncio");
    if (module == NULL) {  // an interpreter without it: Task is Python
        if (!PyErr_ExceptionMatches(PyExc_ImportError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    state->asyncio_Task = PyObject_GetAttr(module, state->str_Task);
    Py_DECREF(module);
    PyObject *base = ac_state_import("asyncio.base_events", "BaseEventLoop");
    PyObject *function =
        base == NULL ? NULL : PyObject_GetAttr(base, state->str_create_task);
    Py_XDECREF(base);
    if (state->asyncio_Task == NULL || function == NULL) {
        Py_XDECREF(function);
        return -1;
    }
    if (is_of_base_events(state, function)) {
        const PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(function);
        state->standard_create_task = Py_NewRef(function);
        state->create_task_passes_on = (code->co_flags & CO_VARKEYWORDS) != 0;
        if (look_at_factory_call(state, function) < 0) {
            Py_DECREF(function);
            return -1;
        }
    }
    Py_DECREF(function);
    state->names_task =
        PyTuple_Pack(3, state->str_loop, state->str_name, state->str_context);
    state->names_eager_task = PyTuple_Pack(4, state->str_loop, state->str_name,
                                           state->str_context, state->str_eager_start);
    return state->names_task == NULL || state->names_eager_task == NULL ? -1 : 0;
}
