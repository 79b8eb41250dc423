/* magicheap.h - load once; every later run maps what the first one loaded, or goes on as the process that had loaded
 * it.
 *
 * The model ("Process snapshots", below, tells the differences there). An *arena* is a region at a fixed address that
 * allocations come from. A *transaction* routes every malloc of the process into one arena, until *commit* turns the
 * arena into a *snapshot*: a file that later processes *attach* at the same address, so that all pointers in it stay
 * true. The *root* is the pointer a later run starts from. A run is *cold* when it loads and *warm* when it attaches:
 *
 *     mh_transaction *tx;
 *     if (mh_open(&tx, "magic.dat", NULL, &err) != MH_OK) return fail(&err);
 *     if (!mh_was_committed(tx)) {
 *         mh_begin(tx, &err);
 *         mh_set_root(tx, load());                       // plain malloc, any library
 *         if (mh_commit(tx, &err) != MH_OK) warn(&err);   // the program goes on either way
 *     }
 *     struct model *model = mh_root(tx);
 *     ...
 *     mh_close(tx);
 *
 * Caveats
 * - Attached memory stays mapped until the process ends: other code may still point into it.
 * - Every process maps the file privately. Writes after the commit stay in the process that made them.
 * - A heap snapshot holds memory only: no threads, descriptors or statics of libraries. A block that leads to the
 *   ordinary heap or a stack would dangle in a later run, so the audit refuses to commit it.
 * - No other thread may write to the arena while mh_commit runs; if one does, the process is unharmed, but the snapshot
 *   may hold any part of its writes.
 * - Attaching a snapshot gives its author the power to run code, as loading a library does. Files of other users, or
 *   that other users can write, are never taken.
 *
 * Every int result is MH_OK or a negative MH_ERR_*. Outputs come first and are NULL or 0 on failure; `err`, always
 * last, may be NULL. Nothing here prints, exits, or aborts. Functions of one transaction are for one thread;
 * mh_malloc and its family are for any thread.
 */
#ifndef MH_MAGICHEAP_H
#define MH_MAGICHEAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)
/* cffi:begin */
enum {
    MH_OK = 0,
    MH_ERR_SYSTEM = -1,      /* the kernel refused: see sys_errno */
    MH_ERR_FORMAT = -2,      /* not a snapshot, or one of another format version */
    MH_ERR_CORRUPT = -3,     /* a snapshot that contradicts itself or its checksum */
    MH_ERR_STALE = -4,       /* an input of the snapshot has changed */
    MH_ERR_BUSY = -5,        /* the address range or the lock is taken */
    MH_ERR_NOSPACE = -6,     /* the arena or the disk is full */
    MH_ERR_ARGUMENT = -7,    /* the caller's mistake, calls out of order included */
    MH_ERR_DANGLING = -8,    /* the audit found pointers that a later run could not follow */
    MH_ERR_UNTRUSTED = -9,   /* owner, mode or directory would let another user choose our memory */
    MH_ERR_UNSUPPORTED = -10 /* this machine cannot do it */
};

typedef struct {
    int status;       /* MH_ERR_* */
    int sys_errno;    /* the kernel's error, or 0 */
    char detail[500]; /* found, expected, what to do: one sentence with the values, NUL-terminated */
} mh_error;

/* Version of this library, "major.minor.patch". */
const char *mh_version(void);
/* One constant sentence for a status. */
const char *mh_strerror(int status);

/* ---- Arenas: a heap at a fixed address, usable on its own ------------------------------------------------- */

typedef struct mh_arena mh_arena;

typedef struct {
    uint64_t address;        /* where the arena begins */
    uint64_t capacity_bytes; /* address space it may grow into */
    uint64_t mapped_bytes;   /* address space for which memory was ever requested, metadata included */
    /* in live blocks, rounded to their size classes; 0 in an attached arena, whose lists are gone */
    uint64_t live_bytes;
    uint64_t live_blocks;
    uint64_t free_bytes; /* in free blocks and free spans below the high-water mark; 0 in an attached arena */
} mh_arena_stats;

/* Reserves an arena of `capacity_bytes` (0: 256 GiB) in a free slot, anonymous memory. */
int mh_arena_new(mh_arena **arena, uint64_t capacity_bytes, mh_error *err);
/* Unmaps the arena: every pointer into it dangles from here on. NULL is allowed. */
void mh_arena_delete(mh_arena *arena);

/* malloc(3) and its family on one arena; NULL with errno ENOMEM or EINVAL as specified there. Thread-safe. Sealed
 * arenas (after a commit or attach) allocate nothing. */
void *mh_malloc(mh_arena *arena, size_t size_bytes);
void *mh_calloc(mh_arena *arena, size_t n_items, size_t item_bytes);
void *mh_aligned_alloc(mh_arena *arena, size_t align_bytes, size_t size_bytes);
void *mh_realloc(mh_arena *arena, void *block, size_t size_bytes);
void *mh_reallocarray(mh_arena *arena, void *block, size_t n_items, size_t item_bytes);
/* Frees a block of any arena, found by its address; NULL is allowed. Does nothing on a sealed arena, and for a pointer
 * that is not the start of a live block (double free, interior). */
void mh_free(void *block);
/* Usable bytes of `block`, at least the requested size; 0 if it is no live block of an arena. */
size_t mh_usable_size(const void *block);
/* The arena that `address` lies in, or NULL. */
mh_arena *mh_arena_of(const void *address);
/* Walks everything and proves the invariants of the heap; MH_ERR_CORRUPT names the first one broken.
 * The arena must be quiet: no other thread inside mh_malloc or mh_free. */
int mh_check(mh_arena *arena, mh_error *err);
void mh_arena_read_stats(mh_arena *arena, mh_arena_stats *stats);

/* ---- Transactions ------------------------------------------------------------------------------------------ */

typedef struct mh_transaction mh_transaction;

enum { MH_AUDIT_REFUSE = 0, MH_AUDIT_WARN = 1 };

typedef struct {
    uint64_t capacity_bytes; /* 0: 256 GiB */
    /* MH_AUDIT_REFUSE: dangling pointers prevent the commit; MH_AUDIT_WARN: they are only counted */
    int audit;
    const char *key;        /* a snapshot with another key is stale; NULL: "" */
    const char *const *env; /* NULL-terminated names of further variables that are inputs; NULL: none */
    bool ignore_snapshot;   /* run cold even if there is a snapshot, and replace it */
    bool process;           /* a snapshot of the whole process: see "Process snapshots" */
    /* process: the interpreter's path, which the launcher executes when a run goes cold; NULL: "" */
    const char *program;
    const char *const *environment; /* process: the environment as it was when this process started; NULL: environ */
    const char *command;            /* process: the command line by which the launcher finds the snapshot; NULL: none */
    const char *const *arguments;   /* the arguments behind the program's own name; NULL-terminated; NULL: none */
    /* process: mh_watch was called when the program began; such a run takes no snapshot of a run that was not
     * watched */
    bool is_watched;
    /* A directory whose files the interpreter's version covers, except for site-packages and dist-packages in it; NULL:
     * none. */
    const char *standard_library;
    /* heap: if this process has already attached the snapshot, attach it again at another address: see
     * mh_moved_bytes */
    bool is_movable;
} mh_options;

/* Attaches the snapshot at `path` if it is sound, trusted and not stale, else prepares a cold run and keeps the reason.
 * Fails only with MH_ERR_ARGUMENT and MH_ERR_SYSTEM (out of memory): a bad file is a cold run. */
int mh_open(mh_transaction **tx, const char *path, const mh_options *options, mh_error *err);
/* Frees the transaction. The arena stays mapped once it was attached, committed or begun. NULL is allowed. */
void mh_close(mh_transaction *tx);

bool mh_was_committed(const mh_transaction *tx); /* warm: attached by mh_open */
const char *mh_path(const mh_transaction *tx);   /* absolute */
/* which variant: 0: mh_path itself, n: that path with .v<n> appended; final after mh_begin */
int mh_variant(const mh_transaction *tx);
const char *mh_reason(const mh_transaction *tx); /* why the run is cold, one sentence; "" when warm */
int mh_reason_status(const mh_transaction *tx);  /* the same as MH_ERR_*; MH_OK when warm or there was no file */
void *mh_root(const mh_transaction *tx);         /* NULL until attached or set */
mh_arena *mh_transaction_arena(const mh_transaction *tx);
/* Distance (wrapping) of the attached arena from the address for which its pointers were made. Not 0 only with
 * mh_options.is_movable, in a process that committed this very snapshot or attached it before, and may have written to
 * that memory since. The second arena has the file's bytes, and no other code uses it. mh_root has moved, too. But
 * every pointer inside leads to the first arena, so the second is for callers who know which words are no pointers. The
 * caller owns it: mh_arena_delete unmaps it. */
uint64_t mh_moved_bytes(const mh_transaction *tx);
/* A checksum of memory, for detecting changes. Not cryptographic. */
uint64_t mh_checksum(const void *memory, uint64_t size_bytes);

/* Cold only: takes the lock, reserves the arena, routes malloc and its family, of all threads and libraries, into it,
 * and begins to note questions. On failure (read-only directory, lock held by another run, address space refused,
 * another transaction active) nothing is routed, the program runs on the ordinary heap, and mh_commit will report the
 * same error again. */
int mh_begin(mh_transaction *tx, mh_error *err);
/* Stops routing and noting; the arena still takes explicit mh_malloc. mh_commit does this by itself. */
void mh_end(mh_transaction *tx);

/* What a later run gets from mh_root: a block of the arena, an address inside one, or NULL. Any other root is
 * MH_ERR_ARGUMENT: mh_root still returns it in this run, but mh_commit refuses. After a failed mh_begin, any root is
 * accepted: nothing will be committed. */
int mh_set_root(mh_transaction *tx, void *root, mh_error *err);
/* Declares a further address, in a live block of the arena, that a later run will use although the root does not lead
 * to it. */
int mh_keep(mh_transaction *tx, const void *address, mh_error *err);
/* Declares that the block at `address` holds no pointers (numbers, text): the audit will not read it. */
int mh_mark_data(mh_transaction *tx, const void *address, mh_error *err);

/* Inputs: a change of any makes the snapshot stale. The libraries mapped, the executable, the CPU, the page size, the C
 * library, the variables that steer the interpreter, the dynamic linker, the locale and numerical libraries (PYTHON*,
 * LD_*, LC_*, OMP_* and others, native/snapshot/environment.c) are recorded automatically, and so are the questions
 * between mh_watch or mh_begin and mh_end: files opened, examined, looked for in vain; directories listed; variables,
 * working directory, terminals, host, user. The functions below add further inputs. mh_add_file records the file's
 * present state. */
int mh_add_file(mh_transaction *tx, const char *path, mh_error *err);
int mh_add_env(mh_transaction *tx, const char *name, mh_error *err);
/* All variables whose names match `pattern`, in which one * stands for any text, ignoring case; except those that
 * shells set anew for each command. */
int mh_add_variables(mh_transaction *tx, const char *pattern, mh_error *err);
/* The names in a directory: all, or only those that could be a module of mh_add_names, or only metadata of installed
 * packages (.dist-info and the like). A missing directory is recorded as absent. */
enum { MH_LISTING_ALL = 0, MH_LISTING_IMPORTS = 1, MH_LISTING_METADATA = 2 };
int mh_add_listing(mh_transaction *tx, const char *path, int which, mh_error *err);
/* Notes the question for a listing as it is asked, between mh_watch or mh_begin and mh_end. */
void mh_note_listing(const char *path, int which);
/* Modules that were looked for: their names without packages and suffixes, each followed by a slash, or by ?/ if the
 * search failed. Call this once. */
int mh_add_names(mh_transaction *tx, const char *names, mh_error *err);
/* The options' arguments; and the working directory, as it was at mh_open. */
int mh_add_arguments(mh_transaction *tx, mh_error *err);
int mh_add_place(mh_transaction *tx, mh_error *err);
/* A question that can't be asked again, such as one to a child process: reported, never compared. */
int mh_add_note(mh_transaction *tx, const char *text, mh_error *err);
/* Questions about this path, and about paths below it, are no inputs: each run has its own files there. */
int mh_leave_out(mh_transaction *tx, const char *path, mh_error *err);
/* Begins to note questions long before a transaction, for a program that is watched from its first instruction. The
 * next mh_begin goes on with these notes, mh_unwatch drops them. `program`: its file, as the command line names it;
 * questions about it are not noted; NULL: none. */
int mh_watch(const char *program, mh_error *err);
void mh_unwatch(void);
/* Whether code has asked for the working directory since mh_watch. */
bool mh_asked_place(void);
/* Whether C code asked for this variable, so that C code may hold the address of the value. */
bool mh_asked_variable(const char *name);
/* Returns the next variable that code has set in the C library's environment, or removed from it, since mh_watch; NULL:
 * there is none. "": it removed all. *i is 0 for the first. */
const char *mh_next_set_variable(uint32_t *i);
/* Notes that code asked for the name of the host, or for the rest of the result of uname. */
void mh_note_host(bool name);
/* Notes that code asked what a standard stream is: a pipe, a file, closed. */
void mh_note_stream(int fd);
/* Notes that code asked for the time zone: the variables and the file that determine it. */
void mh_note_zone(void);
/* While paused, questions of the calling thread are not noted. */
void mh_pause(bool is_paused);
/* Before the commit: declares that the program itself has written this file, so that it is no input although libraries
 * have read it. Files that libraries write are known anyway. A missing file is no output. */
int mh_add_output(mh_transaction *tx, const char *path, mh_error *err);

/* Before a commit, when all inputs are recorded: whether it is worth its price. *is_wanted is false, and err->detail
 * has the reason, if the last snapshots were replaced before any run took them, or if every run is another variant;
 * until two runs have had the same inputs. */
int mh_wants_commit(mh_transaction *tx, bool *is_wanted, mh_error *err);
/* Audits, then makes the snapshot real: atomically and durably, or not at all. Ends routing and seals the arena.
 * Afterwards, even on failure, the arena is a private mapping, with which the program goes on. */
int mh_commit(mh_transaction *tx, mh_error *err);
/* Gives the transaction up: ends routing, seals the arena, leaves an old snapshot in place. */
void mh_abandon(mh_transaction *tx);
/* Bytes made durable so far and in all; may be read by another thread while mh_commit or mh_commit_child runs. In the
 * commit of a process each byte counts twice, once written and once made durable; until all are written, the total is
 * an estimate. */
void mh_commit_progress(const mh_transaction *tx, uint64_t *done_bytes, uint64_t *total_bytes);

/* ---- Process snapshots ---------------------------------------------------------------------------------------
 *
 * The transaction of a process commits by fork: later runs resume the child. The states are the same, but there is no
 * arena, no routing of memory, and no root. mh_open never attaches; mh_is_resumable tells whether there is a snapshot
 * to resume:
 *
 *     mh_open(&tx, path, &(mh_options){ .process = true }, &err);
 *     if (mh_is_resumable(tx))
 *         mh_resume(tx, launcher, argv, 0, environ, &err);  // does not return: the process goes on behind fork() below
 *     mh_begin(tx, &err);
 *     load();
 *     mh_arm(tx, &err);
 *     pid_t child = fork();
 *     if (child != 0)
 *         mh_commit_child(tx, child, &err);                 // waits for it and publishes; the program goes on
 *     else
 *         mh_read_resumed(&resumed);                        // a later run: new arguments, environment, descriptors
 */

/* Whether mh_open found a snapshot that may replace this process. */
bool mh_is_resumable(const mh_transaction *tx);
/* Replaces this process by the snapshot, by executing `launcher`. `argv` is the program's whole command line,
 * NULL-terminated; its first n_skipped arguments are not for the program itself. `envp` is the environment as it was
 * when the program started. Returns only on failure. */
int mh_resume(mh_transaction *tx, const char *launcher, const char *const *argv, uint64_t n_skipped,
              const char *const *envp, mh_error *err);
/* The command line by which the launcher finds the resumable snapshot, as mh_options.command; "": none. */
const char *mh_command(const mh_transaction *tx);
/* Before mh_arm: in place of mh_options.command and is_watched. */
int mh_set_command(mh_transaction *tx, const char *command, bool is_watched, mh_error *err);
/* After mh_begin: makes this thread's next fork() a commit. Obstacles are looked for before, as far as possible:
 * MH_ERR_UNSUPPORTED names one, and nothing is armed. */
int mh_arm(mh_transaction *tx, mh_error *err);
/* In the place of fork(), of a process whose other threads are to be carried: stops them, copies the process without
 * any handler of fork, and lets them go on. *child is 0 in a resumed process, where they do not run before the caller
 * has restored its own state and calls mh_revive. MH_ERR_UNSUPPORTED names threads that can't be carried; they go
 * on. With Python, its lock is held meanwhile. */
int mh_copy(mh_transaction *tx, int *child, mh_error *err);
/* Behind mh_arm: whether a resumed process must call mh_revive even if fork() and not mh_copy has made it. */
bool mh_must_revive(const mh_transaction *tx);
/* In a resumed process, once: makes its pipes, epoll sets and the like anew, where /dev/null was open until now, and
 * begins its other threads, which run from mh_release_signals on. If it fails, the process must end or execute a
 * program. MH_ERR_STALE: the machine was started since the commit, so that the clock that threads wait by was set back.
 * */
int mh_revive(mh_error *err);
/* The kernel's id of the thread with this pthread_t, where mh_revive has begun it; 0: it has not. */
int mh_thread_id(uint64_t thread);
/* Between mh_arm and the copy, describes another thread, by its kernel id, as messages will: "worker (run) of logs". */
int mh_know_thread(mh_transaction *tx, int thread, const char *text, mh_error *err);
/* Between mh_arm and fork(): asks for a rehearsal. After the child has written the snapshot, a child of it continues as
 * a resumed process would, with made-up arguments, streams on /dev/null, and mh_read_resumed false. The caller performs
 * the steps of every resumed process and then calls mh_rehearsed, or mh_release_signals at its last step. That records
 * the pages written so far and exits. The launcher prefaults these. The rehearsal is killed after four seconds.
 * `failure`: why a step failed, or NULL; it would fail in each later run, and refuses the commit. */
void mh_rehearse(mh_transaction *tx);
void mh_rehearsed(const char *failure);
/* Between mh_arm and fork(): in a resumed process, signals stay blocked until the caller has restored its own state and
 * calls mh_release_signals, so that no handler runs earlier. Without this call, signals are unblocked inside fork(). */
void mh_hold_signals(mh_transaction *tx);
void mh_release_signals(void); /* does nothing in a process that was not resumed; ends a rehearsal */
/* In a resumed process that is about to execute its program anew: gives caught signals their default action, and
 * unblocks the signals that the launcher blocked. */
void mh_surrender_signals(void);
/* Zeroes the memory at `address` in the snapshot: for secrets. After mh_begin, any number of times. */
int mh_scrub(mh_transaction *tx, const void *address, uint64_t size_bytes, mh_error *err);
/* After mh_begin: declares that the caller itself opens this descriptor again in each resumed process; until then it
 * leads to /dev/null. */
int mh_hold_descriptor(mh_transaction *tx, int fd, mh_error *err);
/* Whether a descriptor of this process is the program's own: neither the transaction's, nor inherited from the parent
 * process. */
bool mh_is_carried(const mh_transaction *tx, int fd);
/* 1: both are descriptors of one open file, as dup makes them; 0: they are not; -errno: the kernel can't compare
 * them. */
int mh_is_same_open(int fd, int other);
/* In the parent: waits for the child and makes the snapshot real, as mh_commit does. */
int mh_commit_child(mh_transaction *tx, int child, mh_error *err);

typedef struct {
    uint64_t argc, envc;
    char **argv, **envp;      /* NULL-terminated; the C environ is envp already */
    uint64_t n_skipped;       /* as in mh_resume */
    uint64_t ignored_signals; /* bit signal - 1: ignored when the process started */
    uint64_t began_ns;        /* CLOCK_MONOTONIC at the launcher's first instruction */
    const char *path;         /* of the snapshot */
    const char *strings;      /* all of argv, then all of envp, one behind the other with their NUL bytes */
    uint64_t strings_bytes, arguments_bytes; /* the latter: those of argv */
} mh_resumed;
/* False in a process that was not resumed, and in a rehearsal. */
bool mh_read_resumed(mh_resumed *resumed);
/* The id of the process as which the program began: that of its last resume, else that of the one which loaded the
 * library. A child of it has another. */
uint32_t mh_first_id(void);
/* A number that is equal for descriptors that a program can't tell apart: terminals, pipes, the same device. 0: closed,
 * or the descriptor has an offset, as files do. */
uint64_t mh_descriptor_kind(int fd);
/* The modules that drew random bytes from the kernel between mh_begin and mh_end, in this process and in those from
 * which its memory descends, each once: by getrandom, getentropy, arc4random, /dev/urandom, /dev/random or AT_RANDOM.
 * The path is "" for the program, NULL while a thread is still filling the entry. Complete means that there were not
 * too many to keep (128). */
uint32_t mh_drawer_count(void);
const char *mh_drawer_path(uint32_t i);
uint64_t mh_drawer_size(uint32_t i); /* bytes of each of its draws, if all had one size; else, or if unknown, 0 */
bool mh_drawers_are_complete(void);
/* Whether such a draw returned exactly these 8 to 64 bytes: 1 or 0; -1: unknown, since there were too many draws
 * (32768). */
int mh_was_drawn(const void *bytes, uint64_t size_bytes);

/* A hash of the circumstances that a resumed process would have to examine again: kinds of descriptors 0 to 2, CPU
 * affinity, soft RLIMIT_STACK, TZ, MAGICHEAP_LOG. Equal hashes: nothing differs. 0: unknown. A rehearsal gets that of
 * the committing process. */
uint64_t mh_circumstances(void);

/* The kernel's state of this process besides its memory, as numbers for comparison, in the order of
 * magicheap/_kernel.py: at present, or when the library was loaded. The latter are kept in a resumed process. */
enum { MH_STATE_VALUES = 59 };
void mh_read_state(bool at_first, int64_t *values);

/* In a process of CPython: gives the object at this address another type, with the same layout. */
void mh_change_type(uint64_t object, uint64_t type);
/* In a process of CPython: each of its threads may have an object under this key in the dict of its variables. Changes
 * the number at this offset of these objects where it is `was`; returns how many had it. */
uint64_t mh_renew_notes(const char *key, uint64_t offset, int32_t was, int32_t is);

/* In a CPython process that is to be resumed, before its commit: whether mh_leave can work in the resumed process. */
bool mh_can_leave(void);
/* In CPython, with its lock held, from the first garbage collection of Py_FinalizeEx: skips the rest of the teardown,
 * and continues as if Py_FinalizeEx had returned 0 to Py_RunMain or Py_Exit. Returns if this is impossible, or if the
 * teardown would do more than free memory: functions were given to Py_AtExit, or a file, pipe or socket of the
 * program's own is open for writing. Then nothing has changed. */
void mh_leave(void);
/* Gives the Python module of this name, in the main interpreter, a function `leave` that calls mh_leave with the lock
 * held; a binding would release the lock for each call. MH_ERR_UNSUPPORTED: the module got none. */
int mh_give_leave(const char *module, mh_error *err);
/* Wipes copies of a text at these addresses as a commit wipes copies of secrets, if they seem to lie in pools of
 * Python's own allocator. Lets the caller test whether such copies are found. */
int mh_try_wiping(const char *text, uint64_t size_bytes, const uint64_t *addresses, uint64_t n_addresses,
                  mh_error *err);

/* The permitted use of the object that holds a variable's value. OTHER: none, since the program has set another value.
 * OWN: a new value may be written into the object. HELD: the object may only be read, since other code holds it,
 * too. */
typedef enum { MH_VARIABLE_OTHER, MH_VARIABLE_OWN, MH_VARIABLE_HELD } mh_variable_use;
/* In a CPython process that is to be resumed: the variables that it was started with, in the order of os.environ; for
 * each, address and size of the text in the bytes object that holds the value, and a mh_variable_use. Replaces the
 * variables of an earlier call; n may be 0. MH_ERR_ARGUMENT: a use is not one of these. */
int mh_keep_variables(const char *const *names, const uint64_t *addresses, const uint64_t *sizes_bytes,
                      const uint8_t *uses, uint64_t n, mh_error *err);
/* In a resumed process: writes the values of its entries into those objects. Returns how many could not be written, and
 * stores their indices in `left`; -1: names or their order differ, and nothing was written. */
int64_t mh_renew_variables(const mh_resumed *resumed, uint64_t *left);

/* What the C library keeps for the whole process. */
/* The address of entry `i` of environ, with the number of bytes before its = and in all; NULL past the last. */
const char *mh_environment_entry(uint64_t i, uint64_t *name_bytes, uint64_t *size_bytes);
/* Flushes C's streams. MH_ERR_SYSTEM: not all could be written. */
int mh_flush_streams(mh_error *err);
/* Whether C's standard input has a buffer, which means that it was read from. Drops the buffer's content. */
bool mh_has_read_input(void);
void mh_forget_input(void);
/* Makes C's standard output line-buffered or fully buffered. Call this before anything is written to it. */
int mh_buffer_output(bool is_by_line, mh_error *err);
/* The default stack size of new threads. */
int mh_read_stack_size(uint64_t *size_bytes, mh_error *err);
int mh_set_stack_size(uint64_t size_bytes, mh_error *err);
/* The address of a symbol that a loaded library itself defines, not one of its dependencies; NULL: the library is not
 * loaded, or does not define it. On success the library stays loaded. */
void *mh_symbol(const char *library, const char *name);

/* The spelling of a command line by which the launcher finds a snapshot, for mh_options.command. `launcher` is the
 * launcher's path; `kind` is "script" (`name` is its path), "module", or "installed" (a module under -P). `arguments`:
 * NULL if the snapshot serves any, else the program's own, NULL-terminated. The working directory counts if arguments
 * are given, or with `is_here`: the snapshot's path is relative. 128 KiB hold every text by which a snapshot can be
 * found. */
int mh_command_text(char *text, uint64_t size, const char *launcher, const char *kind, const char *name, bool is_here,
                    const char *const *arguments, mh_error *err);
/* The user's directory of snapshots, which need not exist, into a buffer of PATH_MAX bytes, by the launcher's rule.
 * MH_ERR_UNSUPPORTED: there is none, and `path` is "". */
int mh_cache_directory(char *path, uint64_t size, mh_error *err);
/* Makes that directory and its missing parents, accessible to the user alone. Never makes a home, or anything below a
 * home or directory of another user. */
int mh_make_cache_directory(mh_error *err);
/* The interpreter with which the launcher in `directory` runs programs, into a buffer of PATH_MAX bytes; "" if the
 * launcher is not installed there. */
int mh_read_interpreter(char *path, uint64_t size, const char *directory);
/* From now on the launcher finds the snapshot at `path`, which is absolute, by this command. Replaces an earlier
 * link. */
int mh_link_command(const char *command, const char *path, mh_error *err);

/* ---- What the audit found (valid from mh_commit to mh_close) ------------------------------------------------- */

enum { MH_TARGET_HEAP = 1, MH_TARGET_STACK = 2, MH_TARGET_MAPPING = 3, MH_TARGET_ARENA = 4 /* another arena */ };

typedef struct {
    uint64_t block; /* address of the block that holds the pointer */
    uint64_t block_bytes;
    uint64_t offset;       /* of the pointer in the block */
    uint64_t value;        /* the pointer itself */
    int target;            /* MH_TARGET_* */
    char owner[256];       /* path of the library that allocated the block, or "" */
    char target_name[256]; /* the mapping into which the pointer leads, as /proc/self/maps names it */
} mh_finding;

typedef struct {
    uint64_t live_blocks;
    uint64_t scanned_bytes; /* bytes read as possible pointers */
    uint64_t data_bytes;    /* bytes known to hold no pointers */
    uint64_t relocations;   /* pointers into modules, fixed at every attach */
    uint64_t findings;      /* dangling pointers in blocks that the root leads to */
    uint64_t litter_blocks; /* live blocks that no pointer leads to */
} mh_audit_summary;

typedef struct {
    char name[256]; /* path of the library; "" for explicit calls */
    uint64_t blocks;
    uint64_t bytes;
} mh_owner;

void mh_read_audit(const mh_transaction *tx, mh_audit_summary *summary);
/* Finding number `i` of the kept ones (the first 64); MH_ERR_ARGUMENT past the last. */
int mh_read_finding(const mh_transaction *tx, uint32_t i, mh_finding *finding);
/* Live blocks by the library that allocated them, largest first; returns the number of owners, of which at most `n_max`
 * are stored. */
int mh_read_owners(mh_arena *arena, mh_owner *owners, int n_max);

/* ---- Snapshot files as such: info and verify ------------------------------------------------------------------ */

typedef struct mh_image mh_image; /* header and tables of a file, checked */

enum { MH_KIND_HEAP = 1, MH_KIND_PROCESS = 2 };
enum { MH_SEGMENT_ARENA = 1, MH_SEGMENT_PAGES = 2, MH_SEGMENT_MEMORY = 3, MH_SEGMENT_FILE = 4, MH_SEGMENT_ZERO = 5 };
enum {
    MH_INPUT_FILE = 1,
    MH_INPUT_LIBRARY = 2,
    MH_INPUT_ENV = 3,
    MH_INPUT_KEY = 4,
    MH_INPUT_CPU = 5,
    MH_INPUT_SYSTEM = 6,
    MH_INPUT_ABSENT = 7,
    MH_INPUT_PRESENT = 8,
    MH_INPUT_DIRECTORY = 9,
    MH_INPUT_LISTING = 10,
    MH_INPUT_NAMES = 11,
    MH_INPUT_ARGUMENTS = 12,
    MH_INPUT_PLACE = 13,
    MH_INPUT_TERMINAL = 14,
    MH_INPUT_SIZE = 15,
    MH_INPUT_HOST = 16,
    MH_INPUT_USER = 17,
    MH_INPUT_NOTE = 18,
    MH_INPUT_RIGHTS = 19,
    MH_INPUT_VARIABLES = 20,
    MH_INPUT_LENGTH = 21,
    MH_INPUT_POSITION = 22,
    MH_INPUT_STREAM = 23,
    MH_INPUT_OPEN = 24,
    MH_INPUT_DISPOSITIONS = 25
};

typedef struct {
    int kind; /* MH_KIND_* */
    uint32_t format_version;
    uint64_t file_bytes;   /* apparent size */
    uint64_t stored_bytes; /* without holes */
    uint64_t address;      /* of the arena */
    uint64_t root;         /* its address, or 0 */
    int64_t created_ns;    /* since the epoch */
    uint32_t n_segments, n_inputs, n_modules;
    uint64_t n_relocations;
    uint64_t live_blocks;
    /* of the header, which covers everything but the segments' bytes: identifies the snapshot */
    uint64_t checksum;
} mh_image_info;

typedef struct {
    char command[512];        /* by which the launcher finds the snapshot, as mh_command_text spells it; "": none */
    char program[512];        /* the interpreter, which a cold run executes */
    uint64_t parent_checksum; /* of the parent, of which this snapshot is a layer; 0: none */
    uint32_t n_descriptors;   /* open files */
    uint32_t n_signals;       /* whose disposition is not the default */
    /* pages that every resumed process writes to before its program goes on; 0: there was no rehearsal */
    uint64_t touched_bytes;
} mh_process_info;

typedef struct {
    int kind; /* MH_SEGMENT_* */
    uint32_t prot;
    uint64_t address, size_bytes, file_offset, checksum;
    uint32_t input; /* MH_SEGMENT_FILE: index of the input that names the file; else 0 */
} mh_segment_info;
typedef struct {
    int kind;
    char name[512];
    uint64_t size_bytes, inode, device;
    int64_t mtime_ns;
    uint64_t digest;
} mh_input_info;
typedef struct {
    char path[512];
    char build_id[72]; /* hexadecimal, "" without one */
    uint64_t n_relocations;
} mh_module_info;

int mh_image_open(mh_image **image, const char *path, mh_error *err);
void mh_image_close(mh_image *image);
void mh_image_read_info(const mh_image *image, mh_image_info *info);
/* MH_ERR_ARGUMENT for a heap snapshot. */
int mh_image_read_process(const mh_image *image, mh_process_info *process);
int mh_image_read_segment(const mh_image *image, uint32_t i, mh_segment_info *segment);
int mh_image_read_input(const mh_image *image, uint32_t i, mh_input_info *input);
int mh_image_read_module(const mh_image *image, uint32_t i, mh_module_info *module);
/* Copies the key's text, as far as there is room, NUL-terminated; returns its whole length. */
uint64_t mh_image_read_key(const mh_image *image, char *key, uint64_t size);
/* Whether no run will ever take the snapshot again, since a file that it depends on has changed. */
bool mh_image_is_gone(const mh_image *image);
/* Reads every byte: MH_ERR_CORRUPT names the segment whose checksum does not match. */
int mh_image_verify(const mh_image *image, mh_error *err);
/* MH_OK if a run with these options could take the snapshot here and now, else the reason. Does not take it. With
 * `options` NULL, or of a process without a key, any key matches. */
int mh_image_check_inputs(const mh_image *image, const mh_options *options, mh_error *err);

/* MH_OK if this machine can do heap snapshots; else MH_ERR_UNSUPPORTED or MH_ERR_SYSTEM with the first obstacle. Each
 * probe is one assumption about the machine, tried for real. i counts from 0; name is a constant; MH_ERR_ARGUMENT past
 * the last. */
int mh_probe(uint32_t i, const char **name, const char *directory, mh_error *err);
/* The same for process snapshots, which need all of mh_probe, too. MH_OK with a non-empty err->detail: the assumption
 * does not hold, but there is a fallback. */
int mh_process_probe(uint32_t i, const char **name, mh_error *err);
/* cffi:end */
#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
