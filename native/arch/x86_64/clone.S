/* clone.S - system calls that do not return to their caller alone: a new thread, and the end of a signal handler. */
        .text
        .globl  mhi_arch_clone
        .hidden mhi_arch_clone
        .type   mhi_arch_clone, @function
mhi_arch_clone:
        endbr64
        and     $-16, %rsi
        sub     $16, %rsi
        mov     %r8, 0(%rsi)            /* the new thread has no registers of its own but these two */
        mov     %r9, 8(%rsi)
        mov     %rdx, %r10              /* where it keeps its id, from the call's return on */
        mov     %rcx, %r8               /* its thread pointer */
        mov     $56, %eax               /* clone */
        syscall
        test    %rax, %rax
        jz      1f
        ret
1:      xor     %ebp, %ebp              /* the outermost frame */
        pop     %rax
        pop     %rdi
        call    *%rax
        hlt
        .size   mhi_arch_clone, . - mhi_arch_clone

        .globl  mhi_arch_signal_return
        .hidden mhi_arch_signal_return
        .type   mhi_arch_signal_return, @function
        nop                             /* unwinders look for the caller one byte before */
mhi_arch_signal_return:
        mov     $15, %rax               /* rt_sigreturn, in the very bytes by which debuggers know a signal frame */
        syscall
        .size   mhi_arch_signal_return, . - mhi_arch_signal_return

        .section .note.GNU-stack, "", @progbits
