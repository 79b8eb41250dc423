/* got.c - finds slots in relocations, and writes them. */
#define _GNU_SOURCE
#include "route/got.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "arch/arch.h"
#include "base/array.h"
#include "error.h"
#include "sys/sys.h"

static bool is_slot_type(uint64_t type)
{
    return type == MHI_RELOCATION_PLT || type == MHI_RELOCATION_GOT || type == MHI_RELOCATION_WORD;
}

bool mhi_got_collect(mhi_slot **slots, size_t *n_slots, const mhi_elf *elf, int (*lookup)(const char *name))
{
    size_t capacity = 0;
    *slots = NULL;
    *n_slots = 0;
    for (int table = 0; table < 2 && elf->symbols != NULL; table++) {
        const ElfW(Rela) *rela = elf->relas[table], *end = rela + elf->n_relas[table];
        for (; rela < end; rela++) {
            uint64_t type = ELF64_R_TYPE(rela->r_info);
            if (!is_slot_type(type) || (type == MHI_RELOCATION_WORD && rela->r_addend != 0))
                continue;
            int symbol = lookup(elf->strings + elf->symbols[ELF64_R_SYM(rela->r_info)].st_name);
            if (symbol < 0)
                continue;
            mhi_slot slot = { elf->bias + rela->r_offset, (uint32_t)symbol, type != MHI_RELOCATION_WORD,
                              type == MHI_RELOCATION_PLT };
            mhi_slot *items = mhi_array_grow(*slots, *n_slots, &capacity, sizeof slot);
            if (items == NULL) {
                free(*slots);
                *slots = NULL;
                return false;
            }
            *slots = items;
            items[(*n_slots)++] = slot;
        }
    }
    return true;
}

static void close_mapping(mhi_got_pass *pass)
{
    const mhi_mapping *opened = pass->opened;
    if (opened != NULL)
        mhi_sys_mprotect((void *)opened->start, opened->end - opened->start, (int)opened->prot);
    pass->opened = NULL;
}

static int open_mapping(mhi_got_pass *pass, uint64_t place, mh_error *err)
{
    if (pass->maps.items == NULL) {
        int status = mhi_maps_read(&pass->maps, err);
        if (status != MH_OK)
            return status;
    }
    const mhi_mapping *mapping = mhi_maps_find(&pass->maps, place);
    if (mapping == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, EFAULT, "the slot at %#llx is not mapped", (unsigned long long)place);
    if (mapping == pass->opened || mapping->prot & PROT_WRITE)
        return MH_OK;
    close_mapping(pass);
    int result =
        mhi_sys_mprotect((void *)mapping->start, mapping->end - mapping->start, (int)mapping->prot | PROT_WRITE);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot make %s writable", mapping->name);
    pass->opened = mapping;
    return MH_OK;
}

int mhi_got_write(mhi_got_pass *pass, uint64_t place, uint64_t expected, uint64_t value, mh_error *err)
{
    int status = open_mapping(pass, place, err);
    if (status == MH_OK)
        __atomic_compare_exchange_n((uint64_t *)place, &expected, value, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    return status;
}

void mhi_got_finish(mhi_got_pass *pass)
{
    close_mapping(pass);
    mhi_maps_release(&pass->maps);
}
