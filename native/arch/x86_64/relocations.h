/* relocations.h - the relocation types of x86-64, named by their purpose. */
#ifndef MHI_RELOCATIONS_H
#define MHI_RELOCATIONS_H
#include <elf.h>

enum {
    MHI_RELOCATION_PLT = R_X86_64_JUMP_SLOT,
    MHI_RELOCATION_GOT = R_X86_64_GLOB_DAT,
    MHI_RELOCATION_WORD = R_X86_64_64,
};

#endif
