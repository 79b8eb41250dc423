/* stubs.S - the entry points that slots are patched with.
 *
 * The table: one row of 16 stubs for each owner byte, one stub of 16 bytes for each column of calls.h. A stub
 * puts its row number behind the caller's own arguments and jumps. A process touches the rows of its libraries only,
 * 256 bytes each.
 */
#include <asm/unistd.h>

    .text

    .macro stub argument, target
    .balign 16
    endbr64
    movl $owner, \argument
    jmp \target
    .endm

    .balign 256
    .globl mhi_route_stubs
    .hidden mhi_route_stubs
    .type mhi_route_stubs, @function
mhi_route_stubs:
    .cfi_startproc
    .set owner, 0
    .rept 256
    stub %esi, mhi_routed_malloc
    stub %edx, mhi_routed_calloc
    stub %edx, mhi_routed_realloc
    stub %ecx, mhi_routed_reallocarray
    stub %edx, mhi_routed_memalign
    stub %ecx, mhi_routed_posix_memalign
    stub %edx, mhi_routed_aligned_alloc
    stub %esi, mhi_routed_valloc
    stub %esi, mhi_routed_pvalloc
    stub %esi, mhi_routed_new
    stub %edx, mhi_routed_new_nothrow
    stub %edx, mhi_routed_new_aligned
    stub %ecx, mhi_routed_new_aligned_nothrow
    stub %esi, mhi_routed_raw_malloc
    stub %edx, mhi_routed_raw_calloc
    stub %edx, mhi_routed_raw_realloc
    .balign 256
    .set owner, owner + 1
    .endr
    .cfi_endproc
    .size mhi_route_stubs, . - mhi_route_stubs

/* dlopen and dlsym look at their return address: the caller's RUNPATH, $ORIGIN, namespace and RTLD_NEXT depend on it.
 * So the replacements do their part first and then jump to the real function, with the caller's arguments, stack and
 * return address unchanged. */
    .macro jumping name, before, real, may_answer
    .balign 16
    .globl \name
    .hidden \name
    .type \name, @function
\name:
    .cfi_startproc
    endbr64
    pushq %rdi
    .cfi_adjust_cfa_offset 8
    pushq %rsi
    .cfi_adjust_cfa_offset 8
    pushq %rdx
    .cfi_adjust_cfa_offset 8
    call \before
    popq %rdx
    .cfi_adjust_cfa_offset -8
    popq %rsi
    .cfi_adjust_cfa_offset -8
    popq %rdi
    .cfi_adjust_cfa_offset -8
    .if \may_answer
    testq %rax, %rax
    jnz 1f
    .endif
    jmp *\real(%rip)
    .if \may_answer
1:  ret
    .endif
    .cfi_endproc
    .size \name, . - \name
    .endm

    jumping mhi_routed_dlopen, mhi_before_dlopen, mhi_real_dlopen, 0
    jumping mhi_routed_dlmopen, mhi_before_dlopen, mhi_real_dlmopen, 0
    jumping mhi_routed_dlsym, mhi_before_dlsym, mhi_real_dlsym, 1
    jumping mhi_routed_dlvsym, mhi_before_dlsym, mhi_real_dlvsym, 1

/* Replaces syscall(2): jumps on to it, except for SYS_getrandom. Some system calls return twice, so our frame must not
 * be on the stack. */
    .globl mhi_routed_syscall
    .hidden mhi_routed_syscall
    .type mhi_routed_syscall, @function
mhi_routed_syscall:
    .cfi_startproc
    endbr64
    cmpq $__NR_getrandom, %rdi
    je mhi_drawn_by_syscall
    jmp *mhi_real_syscall(%rip)
    .cfi_endproc
    .size mhi_routed_syscall, . - mhi_routed_syscall

    .section .note.GNU-stack, "", @progbits
