/* frames.c - registers of a caller, from the unwind tables, which the x86-64 ABI demands of every function; and targets
 * of branches. */
#include <string.h>
#include <unwind.h>

#include "arch/arch.h"

enum { RBX = 3, RBP = 6, R12 = 12, R13, R14, R15 }; /* DWARF's numbers in the x86-64 ABI */

void mhi_registers_of_frame(mhi_registers *registers, struct _Unwind_Context *frame)
{
    *registers = (mhi_registers){
        .rbx = _Unwind_GetGR(frame, RBX),
        .rbp = _Unwind_GetGR(frame, RBP),
        .r12 = _Unwind_GetGR(frame, R12),
        .r13 = _Unwind_GetGR(frame, R13),
        .r14 = _Unwind_GetGR(frame, R14),
        .r15 = _Unwind_GetGR(frame, R15),
        .rsp = _Unwind_GetCFA(frame),
        .rip = _Unwind_GetIP(frame),
    };
    uint16_t x87_control;
    __asm__("stmxcsr %0\n\tfnstcw %1" : "=m"(registers->mxcsr), "=m"(x87_control));
    registers->x87_control = x87_control;
}

bool mhi_arch_leads_to(const void *code, size_t n_bytes, const void *target)
{
    const uint8_t *byte = code;
    for (size_t i = 1; i + sizeof(int32_t) <= n_bytes; i++) {
        int32_t distance;
        memcpy(&distance, byte + i, sizeof distance);
        /* call, jmp, jcc (0f 8x) */
        bool is_branch = byte[i - 1] == 0xe8 || byte[i - 1] == 0xe9 || (byte[i - 1] & 0xf0) == 0x80;
        if (is_branch && byte + i + sizeof distance + distance == (const uint8_t *)target)
            return true;
    }
    return false;
}
