/* format.h - magic.dat, drawn once: for the library that writes and maps it, and for a launcher that has no libc.
 *
 *     offset 0     | header page: what this is, where it belongs in memory, the table directory, a checksum of the page
 *                  | hole
 *     2 MiB        | segments, one behind the other, each a whole number of pages. Of a heap snapshot:
 *                  |   ARENA   data of the arena; this part of the file backed the arena while it was filled
 *                  |   PAGES   control page and page table of the arena
 *                  | of a process snapshot:
 *                  |   MEMORY  pages that the process had written; any number of them, in the order of their addresses;
 *                      before each
 *                  |           that is HUGE a hole, less than 2 MiB, so that address and offset are congruent modulo 2
 *                              MiB
 *                  | tables, one behind the other, each at the next multiple of 8:
 *                  |   segments, inputs, modules, relocations, strings; of a process also: process, descriptors,
 *                      signals, touched
 *     file_bytes   | end of file
 *
 * The tables stand behind the segments because they are known last: the arena fills the file before its inputs are
 * known. Every part has exactly one place: the end of the part before it, plus the holes drawn above, whose size
 * follows from address and flag. Nothing is ever read or mapped from a hole, so bytes planted there have no effect.
 *
 * Everything is little-endian and of fixed width. Every integer is hostile until image.c has checked its table. A name
 * is an offset into the strings table, which begins and ends with a NUL byte, so that 0 is "" and every name ends in
 * the table. Checksums are mhi_checksum (XXH64, seeded): the header's covers its page, a table's its bytes, a segment's
 * its bytes. Header and tables are checked at every open, segments only on request, since reading gigabytes would cost
 * the time that the file saves.
 *
 * The segments table of a process snapshot is its whole address space, sorted and without overlap: besides MEMORY there
 * are FILE segments, which are mapped from another file (an input: the executable, a library, the snapshot that this
 * one is a layer on), and ZERO segments, which are fresh anonymous memory. The header's fields about an arena are 0,
 * and there are no modules and relocations: all memory returns to its old address.
 */
#ifndef MHI_FORMAT_H
#define MHI_FORMAT_H
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"

/* The first byte is no text in any encoding; the line ends betray a transfer in text mode; 0x1a stops `type` (after
 * PNG). */
#define MHI_MAGIC "\x89MH\r\n\x1a\n"

enum {
    MHI_FORMAT_VERSION = 5,
    MHI_HEADER_BYTES = 4 << 10,
    MHI_TABLES_MAX = 24,      /* arbitrary: nine are used */
    MHI_HUGE_BYTES = 2 << 20, /* the kernel's huge page: file offset and address must be congruent modulo this */
    MHI_SEGMENTS_OFFSET = MHI_HUGE_BYTES, /* so that an arena, which begins at a multiple of this, is congruent */
    MHI_FILE_BUILD_ID_MAX = 32,           /* the linker's default is 20 bytes (SHA-1) */
    MHI_STATE_COMPLETE = 0x454e4f44,      /* "DONE": the only state a reader accepts */
};

/* Bounds what a reader allocates for a hostile file; 40 million relocations fit. Arbitrary. */
#define MHI_TABLES_BYTES_MAX (1ull << 30)

enum {
    MHI_TABLE_SEGMENTS = 1,
    MHI_TABLE_INPUTS = 2,
    MHI_TABLE_MODULES = 3,
    MHI_TABLE_RELOCATIONS = 4,
    MHI_TABLE_STRINGS = 5,
    MHI_TABLES_OF_HEAP = 5,
    MHI_TABLE_PROCESS = 6,
    MHI_TABLE_DESCRIPTORS = 7,
    MHI_TABLE_SIGNALS = 8,
    MHI_TABLE_TOUCHED = 9,
    MHI_TABLES_OF_PROCESS = 9,
};

typedef struct {
    uint64_t tb_kind;   /* MHI_TABLE_* */
    uint64_t tb_count;  /* of entries; bytes for strings */
    uint64_t tb_offset; /* in the file, a multiple of 8 */
    uint64_t tb_bytes;  /* tb_count times the size of an entry */
    uint64_t tb_checksum;
} mhi_file_table;

typedef struct {
    uint8_t hd_magic[8]; /* MHI_MAGIC with its NUL */
    uint32_t hd_version; /* MHI_FORMAT_VERSION */
    uint32_t hd_kind;    /* MH_KIND_* */
    uint32_t hd_state;   /* MHI_STATE_COMPLETE */
    uint32_t hd_n_tables;
    uint64_t hd_file_bytes;
    uint64_t hd_address; /* of the arena, as all pointers into it have it */
    uint64_t hd_capacity_bytes;
    uint64_t hd_meta_bytes;  /* control page and page table, at hd_address */
    uint64_t hd_data_offset; /* of the data, from hd_address */
    uint64_t hd_data_bytes;
    uint64_t hd_live_blocks;
    uint64_t hd_root;      /* an address in the data, or 0 */
    int64_t hd_created_ns; /* since the epoch */
    mhi_file_table hd_tables[MHI_TABLES_MAX];
    /* how many snapshots in a row, up to the one that this snapshot replaced, were never taken by a run (variants.h) */
    uint64_t hd_n_wasted;
    uint8_t hd_reserved[MHI_HEADER_BYTES - 112 - MHI_TABLES_MAX * sizeof(mhi_file_table)]; /* zero */
    uint64_t hd_checksum;                                                                  /* of all bytes before it */
} mhi_file_header;

/* Flags of a segment of a process snapshot. */
enum {
    MHI_SEGMENT_GROWS = 1, /* ZERO or MEMORY: part of the main thread's stack, which grows downwards */
    /* FILE: mapped MAP_SHARED, and never writable. MEMORY: shared between each process and its children */
    MHI_SEGMENT_SHARED = 2,
    MHI_SEGMENT_DROPPABLE = 4, /* ZERO: MAP_DROPPABLE, as the C library keeps the state of getrandom */
    MHI_SEGMENT_WIPED = 8,     /* ZERO: had MADV_WIPEONFORK */
    /* gets MADV_HUGEPAGE. FILE, ZERO: the mapping had it. MEMORY: holds a huge page, and file and address are
     * congruent */
    MHI_SEGMENT_HUGE = 16,
    MHI_SEGMENT_NOT_DUMPED = 32, /* ZERO: had MADV_DONTDUMP, so that no layer stores it either */
    /* FILE, ZERO: had MADV_GUARD_INSTALL: an access raises a signal, whatever sg_prot says */
    MHI_SEGMENT_GUARD = 64,
    MHI_SEGMENT_FLAGS = 127,
};

typedef struct {
    uint32_t sg_kind; /* MH_SEGMENT_* */
    uint32_t sg_prot; /* PROT_* of the private mapping */
    uint64_t sg_address;
    uint64_t sg_bytes;
    uint64_t sg_offset;   /* in this file; FILE: in that file; ZERO: 0 */
    uint64_t sg_checksum; /* FILE and ZERO: 0 */
    uint64_t sg_input;    /* FILE: index of the input, of kind FILE or LIBRARY, that names the file; else 0 */
    uint32_t sg_flags;    /* MHI_SEGMENT_* */
    uint32_t sg_reserved; /* zero */
} mhi_file_segment;

/* Whether memory holds a whole, aligned huge page. */
static inline int mhi_holds_huge(uint64_t start, uint64_t end)
{
    return end - start >= MHI_HUGE_BYTES + (-start & (MHI_HUGE_BYTES - 1));
}

/* Length of the hole before a MEMORY segment; the segment before the hole ends at `place`. */
static inline uint64_t mhi_hole_bytes(uint64_t place, uint64_t address, uint32_t flags)
{
    return flags & MHI_SEGMENT_HUGE ? (address - place) & (MHI_HUGE_BYTES - 1) : 0;
}

/* What the snapshot depends on: questions that were asked while it was made, each with its answer. Which members are
 * used depends on the kind. Of texts that may be secret or long, only a digest (mhi_checksum) is kept.
 *   FILE, LIBRARY   name = path; bytes, inode, device, mtime_ns, ctime_ns from stat; LIBRARY also the build-id; digest
 *                   of the content, 0: unknown (the build-id of a library is enough)
 *   ENV             name = variable; digest of its value, 0 when it is not set
 *   VARIABLES       name = pattern with one *; except for the ENV inputs, no variable is set whose name matches,
 *                   ignoring case
 *   KEY             text = what the caller chose
 *   CPU             text = feature names separated by spaces; bytes = the result of mhi_cpu_features
 *   SYSTEM          name = what; text = its version, or bytes = its number
 *   ABSENT          name = path; bytes = index + 1 of the DIRECTORY input: while that directory is unchanged, nothing
 *                   has appeared at the path; 0: none
 *   PRESENT         name = path; bytes = its S_IFMT bits; of a symbolic link also the digest of its target
 *   DIRECTORY       name = path; inode, mtime_ns, ctime_ns
 *   LISTING         as DIRECTORY, and digest of the names in it; bytes = MH_LISTING_*; of MH_LISTING_IMPORTS: only
 *                   names that could be modules of NAMES
 *   NAMES           text = names of the modules that were looked for, each followed by a slash, or by ?/ if the search
 *                   failed
 *   ARGUMENTS       digest of the arguments behind the program's own name
 *   PLACE           text = the working directory
 *   TERMINAL        name = number of a standard stream; bytes = 1 if it is a terminal
 *   SIZE            name = the same; bytes = its columns * 65536 + rows; 0: it is no terminal
 *   OPEN            bytes = the standard streams that were open at the start, a bit for each
 *   DISPOSITIONS    bytes = the signals that were ignored at the start, device = those that were blocked; bit signal -
 *                   1
 *   STREAM          name = number of a standard stream; bytes = S_IFMT bits (0: closed) + status flags * 2^32; device =
 *                   st_rdev of a device that is no terminal
 *   POSITION        name = the same; bytes = its position, MHI_NO_POSITION: none
 *   LENGTH          name = the same; bytes = size of the file; 0: it is none
 *   HOST            digest of the result of uname; bytes = 0: without the host's name
 *   USER            bytes = real and effective user id * 2^32
 *   NOTE            text = a question that can't be asked again */
typedef struct {
    uint32_t in_kind; /* MH_INPUT_* */
    uint32_t in_build_id_bytes;
    uint64_t in_name; /* string */
    uint64_t in_text; /* string */
    uint64_t in_bytes;
    uint64_t in_inode;
    uint64_t in_device;
    int64_t in_mtime_ns; /* MHI_MTIME_UNKNOWN: this is not the file that was used, so no file matches */
    uint64_t in_digest;  /* only this is kept of a variable: values may be secret */
    uint8_t in_build_id[MHI_FILE_BUILD_ID_MAX];
    /* MHI_TIME_UNKNOWN: the ctime is too young to tell this state from the next, so only the content counts */
    int64_t in_ctime_ns;
} mhi_file_input;

#define MHI_MTIME_UNKNOWN INT64_MIN
#define MHI_TIME_UNKNOWN INT64_MIN

typedef struct {
    uint64_t mo_path;           /* string */
    uint64_t mo_bytes;          /* of its address range */
    uint64_t mo_relocations;    /* how many relocations lead into this module */
    uint32_t mo_build_id_bytes; /* 0: none, so the path identifies the module */
    uint32_t mo_reserved;       /* zero */
    uint8_t mo_build_id[MHI_FILE_BUILD_ID_MAX];
} mhi_file_module;

/* A word of the data that points into a module; entries are sorted by place, each place once. */
typedef struct {
    uint64_t rl_place;    /* of the word: offset from hd_address, a multiple of 8 */
    uint64_t rl_target;   /* offset from the module's load address */
    uint32_t rl_module;   /* index */
    uint32_t rl_reserved; /* zero */
} mhi_file_relocation;

/* The launcher's region: the launcher and all memory that it needs while it builds a process. No image has memory in
 * here. Chosen far from where Linux puts executables (0x400000, 0x55...), brk areas behind them, mappings and stacks
 * (0x7f...), and arenas (0x40...). */
#define MHI_LAUNCHER_START 0x200000000000ull
#define MHI_LAUNCHER_END 0x220000000000ull

/* of the committing process, its forebears by fork, and those of the layers below; arbitrary */
enum { MHI_IDS_MAX = 31 };

/* State of the thread that called fork: its registers, as they are at the return from the capture, and its data in the
 * kernel and the C library. One entry. */
typedef struct {
    mhi_registers pr_registers; /* their size depends on the CPU */
    uint64_t pr_thread_pointer;
    uint64_t pr_tid_address; /* set_tid_address; the C library keeps the thread id there, so the launcher stores it */
    uint64_t pr_robust_list, pr_robust_bytes;
    uint64_t pr_rseq, pr_rseq_bytes; /* rseq area, registered with the signature of glibc; 0: none */
    uint64_t pr_arguments;           /* where the launcher stores the address of the mhi_arguments */
    uint64_t pr_curbrk;              /* address of the C library's __curbrk; 0: unknown */
    /* as prctl_mm_map */
    uint64_t pr_start_code, pr_end_code, pr_start_data, pr_end_data, pr_start_brk, pr_brk, pr_start_stack;
    /* address of the first of the kernel's own areas; they are contiguous: data first, code last */
    uint64_t pr_vdso;
    uint64_t pr_vdso_bytes[4];                       /* size of each area, 0 behind the last */
    uint64_t pr_vdso_checksum;                       /* of the last area, the code */
    uint64_t pr_signal_stack, pr_signal_stack_bytes; /* sigaltstack; 0: none */
    /* signals that the program has blocked, without the inherited ones */
    uint64_t pr_signal_mask;
    char pr_name[16];    /* of the thread, NUL-terminated */
    uint64_t pr_program; /* string: the interpreter, which is executed when the run goes cold */
    /* string: the command line this snapshot answers to, as launcher/command.c spells it; "": none */
    uint64_t pr_command;
    uint64_t pr_parent_checksum; /* hd_checksum of the parent, of which this snapshot is a layer; 0: none */
    uint32_t pr_n_ids;
    uint32_t pr_ids[MHI_IDS_MAX]; /* every process id that this memory has run under, each once; 0 behind the last */
    /* of the executable, in memory: AT_PHDR, AT_PHNUM, AT_BASE, AT_ENTRY */
    uint64_t pr_headers, pr_n_headers, pr_linker, pr_entry;
    uint64_t pr_name_executed, pr_platform; /* AT_EXECFN, AT_PLATFORM: addresses of strings */
    uint64_t pr_random;                     /* AT_RANDOM: where the launcher stores 16 random bytes; 0: nowhere */
} mhi_file_process;

/* A descriptor to be opened again. */
typedef struct {
    uint32_t ds_fd;
    uint32_t ds_flags; /* O_*, without O_CREAT, O_EXCL and O_TRUNC */
    uint32_t ds_is_cloexec;
    uint32_t ds_reserved; /* zero */
    uint64_t ds_name;     /* string: its path */
    uint64_t ds_offset;   /* file offset */
    uint64_t ds_inode;    /* 0: any (a device such as /dev/null) */
    uint64_t ds_device;   /* of a device file: its st_rdev; else 0 */
} mhi_file_descriptor;

/* A signal whose disposition is not the default; as the kernel's struct sigaction. */
typedef struct {
    uint32_t si_signal;
    uint32_t si_reserved; /* zero */
    uint64_t si_handler, si_flags, si_restorer, si_mask;
} mhi_file_signal;

/* Pages that every resumed process writes to before its program goes on (process/rehearsal.c), to be prefaulted: a
 * hint. Sorted; each lies in one segment of private memory. As the kernel's struct iovec. */
typedef struct {
    uint64_t to_address;
    uint64_t to_bytes;
} mhi_file_touched;

/* The block that a resumed process finds through pr_arguments. Not part of the file: the launcher makes the block, in
 * its own region. */
typedef struct {
    uint64_t ar_bytes; /* of this block, with all strings: a multiple of the page size */
    uint64_t ar_argc, ar_envc;
    char **ar_argv;             /* of the program, as sys.orig_argv; NULL-terminated */
    char **ar_envp;             /* NULL-terminated */
    uint64_t ar_n_skipped;      /* how many of ar_argv come before sys.argv */
    uint64_t ar_ignored;        /* signals that were ignored when the launcher began; bit signal - 1 */
    uint64_t ar_blocked;        /* signals that were blocked when the launcher began; as a sigset_t of the kernel */
    uint64_t ar_mask;           /* the signal mask of the process when it goes on */
    uint64_t ar_began_ns;       /* CLOCK_MONOTONIC at the launcher's first instruction */
    uint64_t ar_image_checksum; /* hd_checksum of the resumed snapshot */
    char *ar_image_path;
} mhi_arguments;

#define MHI_AT(type, member, offset) \
    _Static_assert(offsetof(type, member) == (offset), #type "." #member " is at " #offset)
MHI_AT(mhi_file_table, tb_count, 8);
MHI_AT(mhi_file_table, tb_offset, 16);
MHI_AT(mhi_file_table, tb_bytes, 24);
MHI_AT(mhi_file_table, tb_checksum, 32);
MHI_AT(mhi_file_header, hd_version, 8);
MHI_AT(mhi_file_header, hd_kind, 12);
MHI_AT(mhi_file_header, hd_state, 16);
MHI_AT(mhi_file_header, hd_n_tables, 20);
MHI_AT(mhi_file_header, hd_file_bytes, 24);
MHI_AT(mhi_file_header, hd_address, 32);
MHI_AT(mhi_file_header, hd_capacity_bytes, 40);
MHI_AT(mhi_file_header, hd_meta_bytes, 48);
MHI_AT(mhi_file_header, hd_data_offset, 56);
MHI_AT(mhi_file_header, hd_data_bytes, 64);
MHI_AT(mhi_file_header, hd_live_blocks, 72);
MHI_AT(mhi_file_header, hd_root, 80);
MHI_AT(mhi_file_header, hd_created_ns, 88);
MHI_AT(mhi_file_header, hd_tables, 96);
MHI_AT(mhi_file_header, hd_checksum, MHI_HEADER_BYTES - 8);
MHI_AT(mhi_file_segment, sg_prot, 4);
MHI_AT(mhi_file_segment, sg_address, 8);
MHI_AT(mhi_file_segment, sg_bytes, 16);
MHI_AT(mhi_file_segment, sg_offset, 24);
MHI_AT(mhi_file_segment, sg_checksum, 32);
MHI_AT(mhi_file_segment, sg_input, 40);
MHI_AT(mhi_file_segment, sg_flags, 48);
MHI_AT(mhi_file_input, in_build_id_bytes, 4);
MHI_AT(mhi_file_input, in_name, 8);
MHI_AT(mhi_file_input, in_text, 16);
MHI_AT(mhi_file_input, in_bytes, 24);
MHI_AT(mhi_file_input, in_inode, 32);
MHI_AT(mhi_file_input, in_device, 40);
MHI_AT(mhi_file_input, in_mtime_ns, 48);
MHI_AT(mhi_file_input, in_digest, 56);
MHI_AT(mhi_file_input, in_build_id, 64);
MHI_AT(mhi_file_input, in_ctime_ns, 96);
MHI_AT(mhi_file_module, mo_bytes, 8);
MHI_AT(mhi_file_module, mo_relocations, 16);
MHI_AT(mhi_file_module, mo_build_id_bytes, 24);
MHI_AT(mhi_file_module, mo_build_id, 32);
MHI_AT(mhi_file_relocation, rl_target, 8);
MHI_AT(mhi_file_relocation, rl_module, 16);
MHI_AT(mhi_file_process, pr_registers, 0);
MHI_AT(mhi_file_process, pr_thread_pointer, sizeof(mhi_registers));
#undef MHI_AT
/* Signals that stay blocked from the launcher's first instruction until the resumed process has restored its handlers
 * and state, so that none is lost in between: all but those that report a fault, and the two that the C library itself
 * sends. */
#define MHI_SIGNAL_BIT(number) (1ull << ((number) - 1))
#define MHI_SIGNALS_HELD                                                                           \
    (~(MHI_SIGNAL_BIT(4) /* ILL */ | MHI_SIGNAL_BIT(5) /* TRAP */ | MHI_SIGNAL_BIT(6) /* ABRT */ | \
       MHI_SIGNAL_BIT(7) /* BUS */ | MHI_SIGNAL_BIT(8) /* FPE */ | MHI_SIGNAL_BIT(11) /* SEGV */ | \
       MHI_SIGNAL_BIT(31) /* SYS */ | MHI_SIGNAL_BIT(32) | MHI_SIGNAL_BIT(33)))

/* argv[0] by which the library executes the launcher when Python has met a transaction and found its snapshot sound.
 * The further arguments: the snapshot's absolute path; its hd_checksum in 16 hexadecimal digits, since another snapshot
 * may have that path by then; how many of the program's arguments precede sys.argv, in decimal; the mask of blocked
 * signals in 16 hexadecimal digits; the program's arguments as in sys.orig_argv. */
#define MHI_RESUME_NAME "magicheap-resume"
/* argv[0] by which `magicheap why` executes the launcher. The further arguments: the command line in question, with its
 * argv[0]. */
#define MHI_WHY_NAME "magicheap-why"
/* The variable that carries the reason into a cold run. The reason follows MHI_COLD_KEPT if the snapshot is sound and
 * fresh, and merely could not be resumed here and now: then a new commit would not help. Python removes the variable
 * from its environment. */
#define MHI_COLD_VARIABLE "MAGICHEAP_COLD"
/* The variable by which the launcher has a program watched from its first instruction; magicheap.pth removes it. */
#define MHI_WATCH_VARIABLE "MAGICHEAP_WATCH"
#define MHI_COLD_KEPT "kept: "

/* Size of an entry of each table, in the order of MHI_TABLE_*. */
#define MHI_ENTRY_BYTES                                                                                        \
    sizeof(mhi_file_segment), sizeof(mhi_file_input), sizeof(mhi_file_module), sizeof(mhi_file_relocation), 1, \
        sizeof(mhi_file_process), sizeof(mhi_file_descriptor), sizeof(mhi_file_signal), sizeof(mhi_file_touched)
_Static_assert(sizeof(mhi_file_table) == 40, "table");
_Static_assert(sizeof(mhi_file_header) == MHI_HEADER_BYTES, "header");
_Static_assert(sizeof(mhi_file_segment) == 56, "segment");
_Static_assert(sizeof(mhi_file_process) == sizeof(mhi_registers) + 416, "process");
_Static_assert(sizeof(mhi_file_descriptor) == 48, "descriptor");
_Static_assert(sizeof(mhi_file_signal) == 40, "signal");
_Static_assert(sizeof(mhi_file_touched) == 16, "touched");
_Static_assert(sizeof(mhi_file_input) == 104, "input");
_Static_assert(sizeof(mhi_file_module) == 64, "module");
_Static_assert(sizeof(mhi_file_relocation) == 24, "relocation");

#endif
