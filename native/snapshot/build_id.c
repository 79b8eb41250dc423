/* build_id.c - the build-id of an ELF file on the disk. The loaded library may have another: a package may have been
 * upgraded since the process began. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "snapshot/inputs.h"
#include "sys/sys.h"

enum { HEADERS_MAX = 64, NOTES_MAX = 4 << 10 }; /* linkers write a dozen headers and some hundred bytes of notes */

/* The build-id among the notes of one segment; each note is two sizes, a type, a name and a description, padded to
 * `align`. */
static uint32_t find_in_notes(const uint8_t *notes, size_t size, size_t align, uint8_t *build_id)
{
    Elf64_Nhdr note;
    for (size_t at = 0; size - at >= sizeof note;) {
        memcpy(&note, notes + at, sizeof note);
        size_t name = at + sizeof note;
        if (note.n_namesz > size || note.n_descsz > size)
            return 0;
        size_t description = (name + note.n_namesz + align - 1) / align * align;
        size_t next = (description + note.n_descsz + align - 1) / align * align;
        if (description > size || size - description < note.n_descsz)
            return 0;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + name, "GNU", 4) == 0 &&
            note.n_descsz <= MHI_FILE_BUILD_ID_MAX) {
            memcpy(build_id, notes + description, note.n_descsz);
            return note.n_descsz;
        }
        if (next > size)
            return 0;
        at = next;
    }
    return 0;
}

/* The length of the file's build-id, 0 if it has none, or -errno. */
static int find_in_file(int fd, uint8_t *build_id)
{
    Elf64_Ehdr file;
    Elf64_Phdr headers[HEADERS_MAX];
    uint8_t notes[NOTES_MAX];
    int result = mhi_sys_pread_all(fd, &file, sizeof file, 0);
    if (result < 0)
        return result;
    if (memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 || file.e_ident[EI_CLASS] != ELFCLASS64 ||
        file.e_phentsize != sizeof *headers || file.e_phnum > HEADERS_MAX)
        return 0;
    result = mhi_sys_pread_all(fd, headers, file.e_phnum * sizeof *headers, file.e_phoff);
    uint32_t found = 0;
    for (int i = 0; i < file.e_phnum && result == 0 && found == 0; i++) {
        const Elf64_Phdr *header = &headers[i];
        if (header->p_type != PT_NOTE || header->p_filesz > sizeof notes)
            continue;
        result = mhi_sys_pread_all(fd, notes, header->p_filesz, header->p_offset);
        if (result == 0)
            found = find_in_notes(notes, header->p_filesz, header->p_align == 8 ? 8 : 4, build_id);
    }
    return result < 0 ? result : (int)found;
}

int mhi_open_file_has_build_id(int fd, const uint8_t *build_id, uint32_t build_id_bytes)
{
    uint8_t found[MHI_FILE_BUILD_ID_MAX];
    int found_bytes = find_in_file(fd, found);
    if (found_bytes < 0)
        return found_bytes == -ENODATA ? 0 : found_bytes; /* the file was cut short: it is another one, at any rate */
    return (uint32_t)found_bytes == build_id_bytes && memcmp(found, build_id, build_id_bytes) == 0;
}

int mhi_file_has_build_id(const char *path, const uint8_t *build_id, uint32_t build_id_bytes)
{
    int fd = mhi_sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    int result = mhi_open_file_has_build_id(fd, build_id, build_id_bytes);
    mhi_sys_close(fd);
    return result;
}
