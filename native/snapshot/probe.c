/* probe.c - tries the features that a snapshot needs of the machine, one by one, so that a failure names the broken
 * assumption. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/pages.h"
#include "base/text.h"
#include "error.h"
#include "heap/arena.h"
#include "route/modules.h"
#include "snapshot/trust.h"
#include "snapshot/writer.h"
#include "sys/sys.h"

static int probe_page(const char *directory, mh_error *err)
{
    (void)directory;
    long page = mhi_sys_page_size();
    return page == MHI_PAGE
               ? MH_OK
               : mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the page size is %ld, this build expects %d", page, MHI_PAGE);
}

static int probe_privileges(const char *directory, mh_error *err)
{
    (void)directory;
    return mhi_trust_process(err);
}

static int probe_directory(const char *directory, mh_error *err)
{
    char path[PATH_MAX];
    int result = mhi_sys_realpath(directory, path, sizeof path - sizeof "/probe");
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot find the directory %s", directory);
    return mhi_trust_directories(strcat(path, "/probe"), err);
}

/* Reserves `size` bytes at the first slot that is free. */
static int reserve(void **reserved, uint64_t size)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, result = -EEXIST;
    for (uint64_t at = MHI_REGION_START; at + size <= MHI_REGION_END && result == -EEXIST; at += MHI_SLOT_BYTES)
        result = mhi_sys_mmap(reserved, (void *)at, size, PROT_NONE, flags, -1, 0);
    return result;
}

static int probe_fixed(const char *directory, mh_error *err)
{
    (void)directory;
    void *first, *second;
    int result = reserve(&first, MHI_PAGE);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "no memory can be had in the region of arenas");
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    result = mhi_sys_mmap(&second, first, MHI_PAGE, PROT_NONE, flags, -1, 0);
    if (result == 0)
        mhi_sys_munmap(second, MHI_PAGE);
    mhi_sys_munmap(first, MHI_PAGE);
    if (!mhi_in_region(first) || result != -EEXIST)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the kernel does not heed MAP_FIXED_NOREPLACE (Linux 4.17 does)");
    return MH_OK;
}

static int probe_space(const char *directory, mh_error *err)
{
    (void)directory;
    void *reserved;
    int result = reserve(&reserved, MHI_DEFAULT_CAPACITY);
    if (result < 0)
        return mhi_fail_unsupported(
            err, result, "256 GiB of address space can't be reserved (ulimit -v, or vm.overcommit_memory is 2)");
    mhi_sys_munmap(reserved, MHI_DEFAULT_CAPACITY);
    return MH_OK;
}

/* Opens a writer for a snapshot of an unused name. */
static int open_writer(mhi_writer *writer, const char *directory, mh_error *err)
{
    char path[PATH_MAX], real[PATH_MAX];
    int result = mhi_sys_realpath(directory, real, sizeof real);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot find the directory %s", directory);
    if (snprintf(path, sizeof path, "%s/magicheap-probe-%d", real, mhi_sys_process_id()) >= (int)sizeof path)
        return mhi_fail(err, MH_ERR_ARGUMENT, ENAMETOOLONG, "the path of %s is too long", directory);
    return mhi_writer_open(writer, path, err);
}

static int probe_publish(const char *directory, mh_error *err)
{
    mhi_writer writer;
    int status = open_writer(&writer, directory, err);
    if (status != MH_OK)
        return status;
    status = mhi_writer_publish(&writer, err);
    mhi_sys_unlinkat(writer.directory, mhi_path_name(writer.path));
    mhi_writer_close(&writer);
    return status;
}

static int probe_disk(const char *directory, mh_error *err)
{
    mhi_writer writer;
    int status = open_writer(&writer, directory, err);
    if (status != MH_OK)
        return status;
    int result = mhi_sys_fallocate(writer.fd, 0, 0, MHI_PAGE);
    /* on a file system without fallocate, the heap stays in memory until it is written as a whole */
    if (result < 0 && result != -ENOSPC)
        result = mhi_sys_pwrite_all(writer.fd, "", 1, MHI_PAGE);
    mhi_writer_close(&writer);
    return result < 0 ? mhi_fail_sys(err, result, "no space can be had in %s", directory) : MH_OK;
}

/* What make_private relies on: bytes stored through a shared mapping appear in the private one, and stores to the
 * private one stay out of the file. */
static int remap(int fd, bool *holds)
{
    char *shared, *private, in_file = 0;
    int result = mhi_sys_ftruncate(fd, MHI_PAGE);
    if (result == 0)
        result = mhi_sys_mmap((void **)&shared, NULL, MHI_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (result < 0)
        return result;
    shared[0] = 'a';
    result = mhi_sys_mmap((void **)&private, shared, MHI_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
    if (result == 0) {
        *holds = private[0] == 'a';
        private[0] = 'b';
        result = mhi_sys_pread_all(fd, &in_file, 1, 0);
        *holds = *holds && in_file == 'a';
    }
    mhi_sys_munmap(shared, MHI_PAGE);
    return result;
}

static int probe_remap(const char *directory, mh_error *err)
{
    mhi_writer writer;
    int status = open_writer(&writer, directory, err);
    if (status != MH_OK)
        return status;
    bool holds = false;
    int result = remap(writer.fd, &holds);
    mhi_writer_close(&writer);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "a file there can't be mapped");
    return holds ? MH_OK
                 : mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                            "the file system does not keep shared and private mappings of a file coherent");
}

static int probe_membarrier(const char *directory, mh_error *err)
{
    (void)directory;
    int result = mhi_sys_membarrier_register();
    if (result == 0)
        result = mhi_sys_membarrier();
    return result < 0 ? mhi_fail_unsupported(err, result,
                                             "membarrier is refused (Linux 4.14 has it; a seccomp filter may not)")
                      : MH_OK;
}

static int probe_maps(const char *directory, mh_error *err)
{
    (void)directory;
    char line[64];
    int fd = mhi_sys_open("/proc/self/maps", O_RDONLY, 0);
    long result = fd < 0 ? fd : mhi_sys_read(fd, line, sizeof line);
    if (fd >= 0)
        mhi_sys_close(fd);
    return result <= 0 ? mhi_fail_unsupported(err, (int)result,
                                              "/proc/self/maps can't be read, so pointers can't be told apart")
                       : MH_OK;
}

/* The read-only relocated data (RELRO) of the object that this function is in, whole pages. */
static int find_relro(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    uintptr_t here = (uintptr_t)&find_relro, *range = context, start = 0, end = 0;
    bool is_ours = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + header->p_vaddr, to = from + header->p_memsz;
        is_ours |= header->p_type == PT_LOAD && here >= from && here < to;
        if (header->p_type == PT_GNU_RELRO)
            start = mhi_page_start(from), end = mhi_page_start(to);
    }
    if (is_ours)
        range[0] = start, range[1] = end;
    return is_ours;
}

static int probe_got(const char *directory, mh_error *err)
{
    (void)directory;
    uintptr_t range[2] = { 0, 0 };
    mhi_modules_walk(find_relro, range);
    if (range[1] <= range[0])
        return MH_OK; /* nothing of ours is protected */
    int result = mhi_sys_mprotect((void *)range[0], range[1] - range[0], PROT_READ | PROT_WRITE);
    if (result == 0)
        result = mhi_sys_mprotect((void *)range[0], range[1] - range[0], PROT_READ);
    return result < 0 ? mhi_fail_unsupported(err, result,
                                             "the libraries' tables of addresses can't be changed (mprotect of RELRO)")
                      : MH_OK;
}

static const struct {
    const char *name;
    int (*run)(const char *directory, mh_error *err);
} probes[] = {
    { "pages of 4 KiB", probe_page },
    { "no raised privileges", probe_privileges },
    { "mappings at fixed addresses", probe_fixed },
    { "256 GiB of address space", probe_space },
    { "memory barriers on other threads", probe_membarrier },
    { "list of the own mappings", probe_maps },
    { "writable tables of addresses", probe_got },
    { "directory that nobody else can change", probe_directory },
    { "new file, lock and rename in the directory", probe_publish },
    { "disk space in the directory", probe_disk },
    { "shared mapping turned private", probe_remap },
};

int mh_probe(uint32_t i, const char **name, const char *directory, mh_error *err)
{
    *name = NULL;
    if (i >= sizeof probes / sizeof *probes)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there are %zu probes", sizeof probes / sizeof *probes);
    *name = probes[i].name;
    return probes[i].run(directory == NULL ? "." : directory, err);
}
