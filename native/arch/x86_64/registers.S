/* registers.S - like setjmp, but into the file format: the registers that a function must preserve, and where it
 * returns to. */
        .text
        .globl  mhi_registers_save
        .hidden mhi_registers_save
        .type   mhi_registers_save, @function
mhi_registers_save:
        endbr64
        mov     %rbx, 0(%rdi)           /* in the order of mhi_file_process */
        mov     %rbp, 8(%rdi)
        mov     %r12, 16(%rdi)
        mov     %r13, 24(%rdi)
        mov     %r14, 32(%rdi)
        mov     %r15, 40(%rdi)
        lea     8(%rsp), %rdx           /* as it will be after the return */
        mov     %rdx, 48(%rdi)
        mov     (%rsp), %rdx
        mov     %rdx, 56(%rdi)
        stmxcsr 64(%rdi)
        movl    $0, 68(%rdi)
        fnstcw  68(%rdi)
        xor     %eax, %eax
        ret
        .size   mhi_registers_save, . - mhi_registers_save
        .section .note.GNU-stack, "", @progbits
