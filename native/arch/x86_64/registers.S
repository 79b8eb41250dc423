/* registers.S - like setjmp and longjmp, but the buffer is part of the file format: the offsets are those of
 * mhi_registers. */
        .text
        .globl  mhi_registers_save
        .hidden mhi_registers_save
        .type   mhi_registers_save, @function
mhi_registers_save:
        endbr64
        mov     %rbx, 0(%rdi)
        mov     %rbp, 8(%rdi)
        mov     %r12, 16(%rdi)
        mov     %r13, 24(%rdi)
        mov     %r14, 32(%rdi)
        mov     %r15, 40(%rdi)
        lea     8(%rsp), %rdx           /* the stack pointer after the return */
        mov     %rdx, 48(%rdi)
        mov     (%rsp), %rdx
        mov     %rdx, 56(%rdi)
        stmxcsr 64(%rdi)
        movl    $0, 68(%rdi)
        fnstcw  68(%rdi)
        xor     %eax, %eax
        ret
        .size   mhi_registers_save, . - mhi_registers_save

        .globl  mhi_registers_go
        .hidden mhi_registers_go
        .type   mhi_registers_go, @function
mhi_registers_go:
        endbr64
        ldmxcsr 64(%rdi)
        fldcw   68(%rdi)
        mov     0(%rdi), %rbx
        mov     8(%rdi), %rbp
        mov     16(%rdi), %r12
        mov     24(%rdi), %r13
        mov     32(%rdi), %r14
        mov     40(%rdi), %r15
        mov     48(%rdi), %rsp
        mov     %esi, %eax
        jmp     *56(%rdi)
        .size   mhi_registers_go, . - mhi_registers_go

        .section .note.GNU-stack, "", @progbits
