/* sys_fault.h - makes the N-th system call of the library fail, for tests.
 *
 * Linked with fault_link_args (meson.build), every call of a mhi_sys_* function from another file goes through a
 * counter first. A test runs its scenario once to learn how many calls it makes, then once per call with that one
 * failing:
 *
 *     for (uint64_t n = 1; n <= calls; n++) { sys_fault_arm(n, ENOMEM); scenario(); sys_fault_disarm(); check(); }
 *
 * A failing call is not made, except close: a descriptor is gone even when close reports an error. Thread-safe.
 */
#ifndef SYS_FAULT_H
#define SYS_FAULT_H
#include <stdbool.h>
#include <stdint.h>

/* The n-th selected call from here (1: the next one) fails with `code`, an errno; 0 only counts. Restarts the count. */
void sys_fault_arm(uint64_t n, int code);
/* A code for sys_fault_arm: at that call, before it is made, SIGKILL ends the process. */
enum { SYS_FAULT_KILL = -1 };
/* As sys_fault_arm, but every later selected call fails too: a disk stays full. */
void sys_fault_arm_from(uint64_t n, int code);
/* Every call works again; the count goes on. */
void sys_fault_disarm(void);
/* Selected calls since the last arm. */
uint64_t sys_fault_calls(void);
/* Whether the armed call came and failed. */
bool sys_fault_struck(void);
/* Counts and fails only these functions: names without mhi_sys_, separated by blanks, "fallocate mmap"; NULL: all. */
void sys_fault_select(const char *names);

/* Makes mmap take MAP_FIXED_NOREPLACE for nothing, as kernels before 4.17 do: the address is only a hint. */
void sys_fault_be_old(bool is_old);
void sys_fault_be_early(bool is); /* clocks say 0, as right after a boot */

#endif
