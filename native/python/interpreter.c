/* interpreter.c - what magicheap/_cpython.py can't reach from Python: Python's own allocator, a C function that is
 * called with the interpreter's lock held, and state of the C library.
 *
 * Python.h is not included: the same library serves C programs, and every version of Python. Functions of Python are
 * looked up by name, and belong to the stable ABI.
 *
 * N1  No function here reports success for work that was not done: every failure is returned.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "magicheap.h"
#include "python/lock.h"
#include "python/pymalloc.h"
#include "sys/sys.h"

/* ---- Python's allocator ---- */

enum { POOL_BYTES = 1 << 14 }; /* as pymalloc.c has it */

/* Whether a pool is readable, without accessing it: under another allocator, the address may be unmapped. */
static bool is_readable(int memory, uint64_t pool)
{
    char copy[POOL_BYTES];
    return mhi_sys_pread_all(memory, copy, sizeof copy, pool) == 0;
}

int mh_try_wiping(const char *text, uint64_t size_bytes, const uint64_t *addresses, uint64_t n_addresses, mh_error *err)
{
    void *place;
    int memory = mhi_sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
    if (memory < 0)
        return mhi_fail_sys(err, memory, "/proc/self/mem can't be read, so no pool of Python's allocator can be told");
    int result =
        mhi_sys_mmap(&place, NULL, sizeof(mhi_remnants), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (result >= 0) {
        mhi_remnants *remnants = place;
        mhi_remnants_begin(remnants);
        mhi_remnants_learn(remnants, text, size_bytes);
        for (uint64_t i = 0; i < n_addresses; i++) {
            uint64_t pool = addresses[i] & ~(uint64_t)(POOL_BYTES - 1);
            if (is_readable(memory, pool))
                mhi_remnants_wipe(remnants, pool, pool + POOL_BYTES);
        }
        mhi_sys_munmap(place, sizeof(mhi_remnants));
    }
    mhi_sys_close(memory);
    return result < 0 ? mhi_fail_sys(err, result, "no memory to try how secrets are wiped") : MH_OK;
}

/* ---- Python's functions ---- */

typedef struct {
    const char *name;
    void *to; /* the address of a pointer to a function */
} wanted_function;

/* Whether this process has them all. */
static bool find_functions(const wanted_function *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *found = dlsym(RTLD_DEFAULT, wanted[i].name);
        if (found == NULL)
            return false;
        memcpy(wanted[i].to, &found, sizeof found);
    }
    return true;
}

static void (*let)(int); /* looked up before the lock is held: the loader's lock may not be free then */

int mhi_python_hold(void)
{
    int (*is_there)(void), (*hold)(void);
    const wanted_function wanted[] = { { "Py_IsInitialized", &is_there },
                                       { "PyGILState_Ensure", &hold },
                                       { "PyGILState_Release", &let } };
    return find_functions(wanted, sizeof wanted / sizeof *wanted) && is_there() ? hold() : -1;
}

void mhi_python_let(int token)
{
    if (token >= 0)
        let(token);
}

/* ---- a function for Python ---- */

/* PyMethodDef of the stable ABI. */
typedef struct {
    const char *name;
    void *(*function)(void *self, void *arguments);
    int flags;
    const char *text;
} method;

enum { NO_ARGUMENTS = 4 }; /* METH_NOARGS */

static void *(*build_value)(const char *, ...);

static void *leave(void *self, void *arguments)
{
    (void)self;
    (void)arguments;
    mh_leave();
    return build_value("");
}

static method leave_method = { "leave", leave, NO_ARGUMENTS, NULL };

/* The functions of Python that are called, by name. */
typedef struct {
    void *(*module)(const char *name);
    void *(*new_function)(method *its, void *self, void *module);
    int (*set)(void *object, const char *name, void *value);
    void (*release)(void *object);
    void (*forget_error)(void);
} python;

static bool find_python(python *its)
{
    const wanted_function wanted[] = {
        { "PyImport_AddModule", &its->module },  { "PyCFunction_NewEx", &its->new_function },
        { "PyObject_SetAttrString", &its->set }, { "Py_DecRef", &its->release },
        { "PyErr_Clear", &its->forget_error },   { "Py_BuildValue", &build_value },
    };
    return find_functions(wanted, sizeof wanted / sizeof *wanted);
}

int mh_give_leave(const char *module, mh_error *err)
{
    python its;
    int lock = find_python(&its) ? mhi_python_hold() : -1;
    if (lock < 0)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "this process has no Python whose functions are called as usual");
    void *function = its.new_function(&leave_method, NULL, NULL), *place = its.module(module);
    bool is_set = function != NULL && place != NULL && its.set(place, leave_method.name, function) == 0;
    if (function != NULL)
        its.release(function);
    if (!is_set)
        its.forget_error();
    mhi_python_let(lock);
    return is_set ? MH_OK : mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "%s can't be given a function", module);
}

/* ---- its objects ---- */

enum { IS_MADE = 1 << 9 }; /* Py_TPFLAGS_HEAPTYPE: its objects hold it; a type of the interpreter they don't */

/* The type stands behind the reference count (PyObject of CPython's Include/object.h). */
void mh_change_type(uint64_t object, uint64_t type)
{
    unsigned long (*flags)(void *);
    void (*take)(void *), (*release)(void *);
    const wanted_function wanted[] = { { "PyType_GetFlags", &flags },
                                       { "Py_IncRef", &take },
                                       { "Py_DecRef", &release } };
    void **place = (void **)(object + sizeof(uint64_t)), *now = (void *)type; // NOLINT(performance-no-int-to-ptr)
    if (!find_functions(wanted, sizeof wanted / sizeof *wanted))
        return;
    int lock = mhi_python_hold();
    void *before = *place;
    if (flags(now) & IS_MADE)
        take(now);
    *place = now;
    if (flags(before) & IS_MADE)
        release(before);
    mhi_python_let(lock);
}

/* ---- its threads ---- */

typedef struct {
    void *(*interpreter)(void);
    void *(*first)(void *interpreter);
    void *(*next)(void *thread);
    void *(*variables)(void *thread); /* private, in every version so far */
    void *(*item)(void *dict, const char *key);
} python_threads;

static bool find_threads(python_threads *its)
{
    const wanted_function wanted[] = {
        { "PyInterpreterState_Get", &its->interpreter },
        { "PyInterpreterState_ThreadHead", &its->first },
        { "PyThreadState_Next", &its->next },
        { "_PyThreadState_GetDict", &its->variables },
        { "PyDict_GetItemString", &its->item },
    };
    return find_functions(wanted, sizeof wanted / sizeof *wanted);
}

uint64_t mh_renew_notes(const char *key, uint64_t offset, int32_t was, int32_t is)
{
    python_threads its;
    uint64_t n = 0;
    if (!find_threads(&its))
        return 0;
    int lock = mhi_python_hold();
    for (void *thread = its.first(its.interpreter()); thread != NULL; thread = its.next(thread)) {
        void *variables = its.variables(thread);
        char *note = variables == NULL ? NULL : its.item(variables, key);
        if (note != NULL && *(int32_t *)(note + offset) == was) {
            *(int32_t *)(note + offset) = is;
            n++;
        }
    }
    mhi_python_let(lock);
    return n;
}

/* ---- the C library's environment ---- */

const char *mh_environment_entry(uint64_t i, uint64_t *name_bytes, uint64_t *size_bytes)
{
    *name_bytes = *size_bytes = 0;
    for (uint64_t n = 0; environ != NULL && environ[n] != NULL; n++)
        if (n == i) {
            *name_bytes = strcspn(environ[n], "=");
            *size_bytes = strlen(environ[n]);
            return environ[n];
        }
    return NULL;
}

/* ---- its streams ---- */

int mh_flush_streams(mh_error *err)
{
    return fflush(NULL) == 0 ? MH_OK : mhi_fail_sys(err, -errno, "a stream of C could not be written");
}

bool mh_has_read_input(void) { return __fbufsize(stdin) > 0; }

void mh_forget_input(void) { __fpurge(stdin); }

int mh_buffer_output(bool is_by_line, mh_error *err)
{
    return setvbuf(stdout, NULL, is_by_line ? _IOLBF : _IOFBF, 0) == 0
               ? MH_OK
               : mhi_fail_sys(err, -errno, "standard output of C takes no buffer");
}

/* ---- its threads ---- */

static int fail_threads(mh_error *err, int code, const char *what)
{
    return mhi_fail_sys(err, -code, "%s of threads that are to come", what);
}

int mh_read_stack_size(uint64_t *size_bytes, mh_error *err)
{
    pthread_attr_t attributes;
    size_t size;
    *size_bytes = 0;
    int code = pthread_getattr_default_np(&attributes);
    if (code != 0)
        return fail_threads(err, code, "nobody tells the stack");
    pthread_attr_getstacksize(&attributes, &size);
    pthread_attr_destroy(&attributes);
    *size_bytes = size;
    return MH_OK;
}

int mh_set_stack_size(uint64_t size_bytes, mh_error *err)
{
    pthread_attr_t attributes;
    int code = pthread_getattr_default_np(&attributes);
    if (code != 0)
        return fail_threads(err, code, "nobody tells the stack");
    code = pthread_attr_setstacksize(&attributes, size_bytes);
    if (code == 0)
        code = pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
    return code == 0 ? MH_OK : fail_threads(err, code, "nothing sets the stack");
}

/* ---- functions of other libraries ---- */

void *mh_symbol(const char *library, const char *name)
{
    struct link_map *own, *its;
    Dl_info info;
    void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    void *found = handle == NULL ? NULL : dlsym(handle, name);
    /* the handle also finds symbols of the library's dependencies */
    bool is_own = found != NULL && dlinfo(handle, RTLD_DI_LINKMAP, &own) == 0 &&
                  dladdr1(found, &info, (void **)&its, RTLD_DL_LINKMAP) != 0 && its == own;
    if (handle != NULL && !is_own)
        dlclose(handle); /* otherwise the library stays loaded, and with it the symbol */
    return is_own ? found : NULL;
}
