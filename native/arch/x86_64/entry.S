/* entry.S - leaves the kernel's stack for one of our own: the image may need the addresses of the kernel's stack. */
    .globl _start
    .type _start, @function
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi              /* argc, argv, envp and the auxiliary vector, one behind the other */
    lea stack_top(%rip), %rsp
    call mhi_launch
    hlt

    .bss
    .balign 4096
    .skip 256 * 1024            /* several buffers of PATH_MAX deep; untouched pages cost nothing */
stack_top:

    .section .note.GNU-stack, "", @progbits
