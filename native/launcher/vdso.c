/* vdso.c - moves the kernel's vdso to the address at which the image's C library calls it.
 *
 * The vdso is code that the kernel maps into every process, behind the data that the code reads. Its address differs
 * between processes, and the C library keeps pointers into it. So it is moved, data and code alike, to its address in
 * the committing process. A kernel that has sealed it (mseal) does not allow the move. Then a substitute is mapped
 * there: the same code, but each function begins with the system call that it normally avoids. Reading the clock then
 * costs a system call; nothing else changes.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/pages.h"
#include "error.h"
#include "launcher/launcher.h"
#include "snapshot/checksum.h"
#include "sys/raw.h"
#include "sys/sys.h"

/* Intermediate place of a vdso that moves by less than its size; in our region, unused otherwise. */
#define WAITING_ROOM 0x218000000000ull

enum { N_AREAS = sizeof((mhi_file_process *)0)->pr_vdso_bytes / sizeof *((mhi_file_process *)0)->pr_vdso_bytes };

/* The image's vdso. */
typedef struct {
    const uint64_t *bytes; /* of each area; the last one is the code */
    size_t n;
    uint64_t start, total, code_bytes;
} vdso_place;

static vdso_place read_place(const mhi_file_process *process)
{
    vdso_place p = { .bytes = process->pr_vdso_bytes, .start = process->pr_vdso };
    while (p.n < N_AREAS && p.bytes[p.n] != 0)
        p.total += p.bytes[p.n++];
    p.code_bytes = p.n == 0 ? 0 : p.bytes[p.n - 1];
    return p;
}

uint64_t mhi_vdso_code(const mhi_file_process *process)
{
    vdso_place p = read_place(process);
    return p.n == 0 ? 0 : p.start + p.total - p.code_bytes;
}

enum { CODE_PAGES_MAX = 64 }; /* arbitrary: kernels have two */

/* Whether the running vdso's code may be mapped with this many bytes. The kernel maps the whole file, which ends with
 * its section headers: with little code, these lie a page behind the loadable segments. Other makers of a vdso map only
 * the loadable segments. */
static bool may_have_bytes(const Elf64_Ehdr *header, uint64_t bytes)
{
    const Elf64_Phdr *segments = (const void *)((const char *)header + header->e_phoff);
    uint64_t loaded = 0;
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && segments[i].p_offset + segments[i].p_memsz > loaded)
            loaded = segments[i].p_offset + segments[i].p_memsz;
    uint64_t whole = header->e_shoff + (uint64_t)header->e_shnum * header->e_shentsize;
    return bytes == mhi_page_end(loaded) || bytes == mhi_page_end(whole > loaded ? whole : loaded);
}

/* Whether the kernel has the range mapped; the headers alone are no proof. A sandbox may forbid the question. */
static bool is_mapped(uintptr_t place, uint64_t bytes)
{
    unsigned char pages[CODE_PAGES_MAX];
    return bytes / MHI_PAGE <= CODE_PAGES_MAX &&
           mhi_raw_3(SYS_mincore, (long)place, (long)bytes, (long)pages) != -ENOMEM;
}

static int check_code(uintptr_t vdso, uint64_t bytes, uint64_t checksum, mh_error *err)
{
    if (vdso == 0)
        return mhi_fail(err, MH_ERR_STALE, 0, "this kernel gives programs no vdso, and the snapshot's process had one");
    if (!may_have_bytes((const void *)vdso, bytes) || !is_mapped(vdso, bytes))
        return mhi_fail(err, MH_ERR_STALE, 0,
                        "this kernel's vdso is not of %lu bytes, as the one that the snapshot was made under", bytes);
    if (mhi_checksum((const void *)vdso, bytes) != checksum)
        return mhi_fail(err, MH_ERR_STALE, 0,
                        "this kernel's vdso holds another code than the one that the snapshot was made under");
    return MH_OK;
}

/* ---- moved ---- */

static int move_areas(const vdso_place *p, uint64_t from, uint64_t to)
{
    for (size_t i = 0; i < p->n; from += p->bytes[i], to += p->bytes[i], i++) {
        long result = mhi_raw_5(SYS_mremap, (long)from, (long)p->bytes[i], (long)p->bytes[i],
                                MREMAP_MAYMOVE | MREMAP_FIXED, (long)to);
        if (result < 0)
            return (int)result;
    }
    return 0;
}

static int move(const vdso_place *p, uint64_t from)
{
    if (from == p->start)
        return 0;
    if (from >= p->start + p->total || p->start >= from + p->total)
        return move_areas(p, from, p->start);
    int result = move_areas(p, from, WAITING_ROOM);
    return result == 0 ? move_areas(p, WAITING_ROOM, p->start) : result;
}

/* ---- substituted ---- */

/* MH_ERR_UNSUPPORTED: no system call can replace one of the functions. Aliases without the prefix share the address of
 * a name with it. */
static const char *write_calls(uint8_t *code)
{
    const Elf64_Ehdr *header = (const void *)code;
    const Elf64_Shdr *sections = (const void *)(code + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM)
            continue;
        const Elf64_Sym *symbols = (const void *)(code + sections[i].sh_offset);
        const char *names = (const char *)code + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++) {
            if (symbols[k].st_shndx != SHN_UNDEF)
                mhi_arch_write_vdso_call(code + symbols[k].st_value, names + symbols[k].st_name);
        }
        return NULL;
    }
    return "it has no symbols";
}

static int substitute(const vdso_place *p, uintptr_t vdso, mh_error *err)
{
    if (vdso - (p->total - p->code_bytes) < p->start + p->total && p->start < vdso + p->code_bytes)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the kernel has sealed its vdso, and it overlaps the snapshot's");
    void *start;
    int result = mhi_sys_mmap(&start, (void *)p->start, p->total, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot put a substitute for the vdso at 0x%lx", p->start);
    uint8_t *code = (uint8_t *)p->start + (p->total - p->code_bytes);
    memcpy(code, (const void *)vdso, p->code_bytes);
    const char *wrong = write_calls(code);
    if (wrong != NULL)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the kernel has sealed its vdso, and no substitute can be made: %s",
                        wrong);
    result = mhi_sys_mprotect(code, p->code_bytes, PROT_READ | PROT_EXEC);
    return result == 0 ? MH_OK : mhi_fail_sys(err, result, "cannot make the substitute of the vdso executable");
}

int mhi_vdso_place(const mhi_file_process *process, uintptr_t vdso, mh_error *err)
{
    vdso_place p = read_place(process);
    if (p.n == 0)
        return MH_OK; /* the image's process had no vdso, so nothing in it calls ours */
    int status = check_code(vdso, p.code_bytes, process->pr_vdso_checksum, err);
    if (status != MH_OK)
        return status;
    int result = move(&p, vdso - (p.total - p.code_bytes));
    return result == 0 ? MH_OK : substitute(&p, vdso, err);
}
