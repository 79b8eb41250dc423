/* arch.h - what depends on the CPU: the contract that each folder beside this file fulfils.
 *
 * A folder is named as Meson names the CPU's family. All folders hold files of the same names, and the build takes one
 * folder: no #if chooses. Nothing outside names a register, an instruction, a relocation, or the size of a page
 * (tests/project/test_arch.py).
 *
 *     facts.h         numbers and words
 *     registers.h     the registers of a suspended thread, as a snapshot stores them
 *     registers.S     saves and restores them
 *     call.h          a system call
 *     thread.c        state of a thread that each CPU keeps in its own way: thread pointer, shadow stack, a call that a
 *                     signal has interrupted
 *     clone.S         of the library: the first instructions of a thread, and the last of a signal handler
 *     relocations.h   relocation types, named by their purpose
 *     cpu.c           what the CPU can do
 *     stubs.S         of the library: entry points that stand in for other functions
 *     frames.c        of the library: registers of a caller, and targets of branches
 *     entry.S         of the launcher: its first instructions
 *     bytes.c         of the launcher: memcpy and memset, to which gcc generates calls by itself
 *     vdso_calls.c    of the launcher: system calls that replace the functions of the vdso
 *     meson.build     arch_sources, of the library; arch_launcher_sources, arch_launcher_args
 */
#ifndef MHI_ARCH_H
#define MHI_ARCH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* facts.h:
 *     MHI_PAGE            bytes; mhi_sys_page_size() is compared with it
 *     MHI_ADDRESS_BITS    significant bits of a user-space address
 *     MHI_USER_END        where user-space addresses end
 *     MHI_RED_ZONE        bytes below the stack pointer that are in use; 0: none
 *     MHI_THREAD_BYTES    bytes at the thread pointer that compiler-generated code uses itself
 *     MHI_AUXV_MAX        pairs in an auxiliary vector, no more than the kernel would have set
 *     MHI_STUB_BYTES, MHI_STUB_ROW_BYTES    sizes in the table that stubs.S lays out
 *     MHI_CPU_STATE       the name in messages of the state whose size mhi_cpu_features returns
 *     MHI_NO_SHADOW_STACK    how to start a program without a shadow stack, as messages say it */
#include "facts.h"

/* ---- registers ---- */

/* registers.h: mhi_registers, of fixed layout and without padding: callee-saved registers, stack pointer, instruction
 * pointer and control registers, but not the thread pointer. */
#include "registers.h"

/* Stores the registers as they are after the return to the caller, and returns 0. When mhi_registers_go restores them,
 * this function returns a second time, with `value`. */
int mhi_registers_save(mhi_registers *registers) __attribute__((returns_twice));
void mhi_registers_go(const mhi_registers *registers, int value) __attribute__((noreturn));

static inline uint64_t mhi_registers_code(const mhi_registers *registers);  /* the instruction pointer */
static inline uint64_t mhi_registers_stack(const mhi_registers *registers); /* the stack pointer */
/* Whether the other registers can be loaded without a fault. */
static inline bool mhi_registers_are_sound(const mhi_registers *registers);

/* The registers with which the frame's callee would return into it; the value for mhi_registers_go is then what the
 * callee returned. Control registers are the current ones. */
struct _Unwind_Context;
void mhi_registers_of_frame(mhi_registers *registers, struct _Unwind_Context *frame);
/* Whether one of these instructions calls or jumps to `target` by a relative displacement. */
bool mhi_arch_leads_to(const void *code, size_t n_bytes, const void *target);

/* ---- the kernel ---- */

/* Returns the system call's result, -errno on failure. struct stat is the C library's, struct sigaction that of
 * sys.h. */
static inline long mhi_raw_6(long number, long a, long b, long c, long d, long e, long f);
#include "call.h"

/* Of the calling thread; 0 or -errno. */
int mhi_arch_thread_pointer(uint64_t *address);
int mhi_arch_set_thread_pointer(uint64_t address);
int mhi_arch_shadow_stack(uint64_t *features); /* the enabled ones; 0: none, or the machine has no shadow stack */

/* A system call that a thread waits in: its number and arguments, and the thread's stack pointer and instruction
 * pointer behind it. */
typedef struct { uint64_t number, arguments[6], stack, code; } mhi_waiting;
/* If the context that a signal handler got was interrupted in this very call, and the call would fail with EINTR,
 * changes the context so that the thread makes the call again; returns whether it was. */
bool mhi_arch_call_again(void *context, const mhi_waiting *call);

/* Makes a thread as clone does. It begins on `stack`, growing down, by `begin`, which must not return. Returns its id
 * or -errno. */
long mhi_arch_clone(uint64_t flags, void *stack, int *id_address, uint64_t thread_pointer, void (*begin)(void *),
                    void *argument);

void mhi_arch_signal_return(void); /* where a signal handler returns to: the restorer of the kernel's sigaction */

/* Overwrites the first instructions of this vdso function, at `place`, with the equivalent system call. Writes nothing
 * if the C library calls no vdso function of this name. */
void mhi_arch_write_vdso_call(uint8_t *place, const char *function);

/* ---- modules ---- */

/* relocations.h: MHI_RELOCATION_PLT fills the word through which a PLT entry jumps; MHI_RELOCATION_GOT fills a word of
 * the GOT; MHI_RELOCATION_WORD fills any other word with the address of a symbol, plus the addend. */
#include "relocations.h"

/* One row of MHI_STUB_ROW_BYTES for each of 256 owners; a row holds one stub of MHI_STUB_BYTES for each MHI_STUB_* of
 * route/calls.h. stubs.S also defines mhi_routed_dlopen, _dlmopen, _dlsym and _dlvsym of calls.h, and
 * mhi_routed_syscall of entropy.h: these jump to the real function with stack and return address unchanged. */
extern const char mhi_route_stubs[];

/* ---- the CPU ---- */

enum { MHI_CPU_TEXT_BYTES = 1024 };

/* Names of the features that this CPU has and the kernel enables, separated by spaces; NUL-terminated. Returns the size
 * of the enabled register state, which determines the size of signal frames and of lazy binding's save area; 0: that
 * size is the same on every such CPU. */
uint32_t mhi_cpu_features(char text[MHI_CPU_TEXT_BYTES]);

#endif
