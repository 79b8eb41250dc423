/* test_launcher_vdso.c - which vdso is taken for the snapshot's: whatever its headers say, nothing is read that is not
 * there. */
#define _GNU_SOURCE
#include <sys/auxv.h>
#include <sys/mman.h>

#include "format.h"
#include "harness.h"
#include "launcher/vdso.c"
#include "vdso_calls.c"

enum { PAGE = 4096, SECTION_HEADER = 64 };

/* A vdso of `pages` pages, of which `loaded` bytes are to be loaded and whose section headers end at `end`; behind it
 * nobody may read. */
static uint8_t *make(size_t pages, uint64_t loaded, uint64_t end)
{
    uint8_t *code = mmap(NULL, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED && munmap(code + pages * PAGE, PAGE) == 0);
    memset(code, 0xc3, pages * PAGE);
    *(Elf64_Ehdr *)code = (Elf64_Ehdr){ .e_phoff = sizeof(Elf64_Ehdr),
                                        .e_phnum = 2,
                                        .e_shentsize = SECTION_HEADER,
                                        .e_shnum = (uint16_t)(end / SECTION_HEADER),
                                        .e_shoff = end % SECTION_HEADER };
    Elf64_Phdr *segments = (Elf64_Phdr *)(code + sizeof(Elf64_Ehdr));
    segments[0] = (Elf64_Phdr){ .p_type = PT_DYNAMIC, .p_memsz = 9 * PAGE };
    segments[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_memsz = loaded };
    return code;
}

static int check(const uint8_t *code, uint64_t bytes, uint64_t of_bytes)
{
    mh_error err;
    return check_code((uintptr_t)code, bytes, mhi_checksum(code, of_bytes), &err);
}

/* As Linux 6.1 has it: 0xd5d bytes to be loaded, section headers up to 0x1228. */
TEST(file_that_reaches_a_page_behind_what_is_loaded_counts_whole)
{
    uint8_t *code = make(2, 0xd5d, 0x1228);
    CHECK_EQUAL(check(code, 2 * PAGE, 2 * PAGE), MH_OK);
    code[PAGE + 7] ^= 1;
    CHECK_EQUAL(check_code((uintptr_t)code, 2 * PAGE, mhi_checksum(make(2, 0xd5d, 0x1228), 2 * PAGE), NULL),
                MH_ERR_STALE);
}

TEST(what_is_loaded_counts_where_nothing_else_is_mapped)
{
    CHECK_EQUAL(check(make(1, 0xd5d, 0), PAGE, PAGE), MH_OK);
    CHECK_EQUAL(check(make(1, 0xd5d, 0x1228), PAGE, PAGE), MH_OK);
    CHECK_EQUAL(check(make(2, 0x1522, 0x1a20), 2 * PAGE, 2 * PAGE), MH_OK);
}

TEST(vdso_of_another_size_is_another_one)
{
    /* its headers promise more than there is */
    CHECK_EQUAL(check(make(1, 0xd5d, 0x1228), 2 * PAGE, PAGE), MH_ERR_STALE);
    CHECK_EQUAL(check(make(2, 0xd5d, 0x1228), 3 * PAGE, PAGE), MH_ERR_STALE);
    CHECK_EQUAL(check(make(1, 0xd5d, 0), 2 * PAGE, PAGE), MH_ERR_STALE);
    CHECK_EQUAL(check(make(1, 1ull << 40, 0), 1ull << 40, PAGE), MH_ERR_STALE);
    CHECK_EQUAL(check_code(0, PAGE, 0, NULL), MH_ERR_STALE);
}

TEST(the_running_one_is_taken_as_the_kernel_lists_it)
{
    uintptr_t start = 0, end = 0, vdso = getauxval(AT_SYSINFO_EHDR);
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL && start != vdso)
        CHECK_EQUAL(sscanf(line, "%lx-%lx", &start, &end), 2);
    fclose(maps);
    CHECK_EQUAL(start, vdso);
    CHECK_EQUAL(check((const uint8_t *)vdso, end - start, end - start), MH_OK);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
