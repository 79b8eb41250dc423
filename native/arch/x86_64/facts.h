/* facts.h - numbers and words of x86-64. */
#ifndef MHI_FACTS_H
#define MHI_FACTS_H

enum {
    MHI_PAGE = 4096,       /* the only base page size of the CPU */
    MHI_ADDRESS_BITS = 47, /* also with 57-bit addresses: the kernel hands out higher ones only on request */
    MHI_RED_ZONE = 128,    /* System V ABI */
    MHI_THREAD_BYTES = 64, /* the C library's tcbhead_t as far as the stack canary, generously */
    MHI_AUXV_MAX = 24,     /* of 26 that Linux 6.12 keeps (AT_VECTOR_SIZE), which sets about 22 */
    MHI_STUB_BYTES = 16,
    MHI_STUB_ROW_BYTES = 256,
};
#define MHI_USER_END ((1ull << MHI_ADDRESS_BITS) - MHI_PAGE) /* TASK_SIZE: the last page stays empty */

#define MHI_CPU_STATE "XSAVE area"
#define MHI_NO_SHADOW_STACK "GLIBC_TUNABLES=glibc.cpu.x86_shstk=off turns it off"

#endif
