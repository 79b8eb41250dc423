/* registers.h - the registers that a function preserves by the System V ABI of x86-64. */
#ifndef MHI_REGISTERS_H
#define MHI_REGISTERS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
    uint32_t mxcsr;
    uint32_t x87_control; /* 16 bits */
} mhi_registers;

#define MHI_AT(member, offset) _Static_assert(offsetof(mhi_registers, member) == (offset), "as registers.S has it")
MHI_AT(rbx, 0);
MHI_AT(rbp, 8);
MHI_AT(r12, 16);
MHI_AT(r13, 24);
MHI_AT(r14, 32);
MHI_AT(r15, 40);
MHI_AT(rsp, 48);
MHI_AT(rip, 56);
MHI_AT(mxcsr, 64);
MHI_AT(x87_control, 68);
#undef MHI_AT
_Static_assert(sizeof(mhi_registers) == 72, "as snapshots have it");

static inline uint64_t mhi_registers_code(const mhi_registers *registers) { return registers->rip; }
static inline uint64_t mhi_registers_stack(const mhi_registers *registers) { return registers->rsp; }

/* Loading mxcsr with any higher bit set is a fault. */
static inline bool mhi_registers_are_sound(const mhi_registers *registers)
{
    return registers->mxcsr <= UINT16_MAX && registers->x87_control <= UINT16_MAX;
}

#endif
