/* test_launcher_check.c - a process snapshot that lies: every rule of resumable/check.c is broken once, then every byte
 * and every word is damaged, also with the checksums repaired. What an open accepts is judged again, by rules spelled
 * another way; never a signal.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/mman.h>

#include "format.h"
#include "resumable/tables.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"
#include "test_snapshot.h"

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC };
enum { CODE, DATA, HEAP, WEIGHTS, HOLE, LIBRARY, STACK_LOW, STACK, N_SEGMENTS };
enum { LIBRARY_FILE, OTHER_FILE, LANGUAGE, N_INPUTS };

/* Everything in a small snapshot, before it has places and checksums. */
typedef struct {
    mhi_file_segment segments[N_SEGMENTS];
    mhi_file_input inputs[N_INPUTS];
    mhi_file_process processes[2];
    mhi_file_descriptor descriptors[2];
    mhi_file_signal signals[2];
    mhi_file_touched touched[2];
    char strings[64];
    uint64_t counts[MHI_TABLES_OF_PROCESS]; /* of entries */
    mhi_file_header header;                 /* of which the tables are filled in */
} sample;

#define CODE_AT 0x555500000000ull
#define DATA_AT 0x555500010000ull
#define HEAP_AT 0x555500020000ull
#define WEIGHTS_AT 0x5555ffffd000ull /* three pages before a multiple of 2 MiB, which is then held whole */
#define WEIGHTS_OFFSET (MHI_SEGMENTS_OFFSET + (2 << 20) - 3 * PAGE)
#define LIBRARY_AT 0x7f0000000000ull
#define STACK_AT 0x7ffd00000000ull
#define VDSO_AT 0x7ffe00000000ull

static mhi_file_segment segment(uint32_t kind, uint32_t prot, uint64_t address, uint64_t bytes, uint64_t offset,
                                uint32_t flags)
{
    return (mhi_file_segment){ .sg_kind = kind,
                               .sg_prot = prot,
                               .sg_address = address,
                               .sg_bytes = bytes,
                               .sg_offset = offset,
                               .sg_flags = flags };
}

static sample sound(void)
{
    sample s = {
        .segments = {
            [CODE] = segment(MH_SEGMENT_FILE, RX, CODE_AT, 2 * PAGE, 0, 0),
            [DATA] = segment(MH_SEGMENT_MEMORY, RW, DATA_AT, PAGE, MHI_SEGMENTS_OFFSET, 0),
            [HEAP] = segment(MH_SEGMENT_ZERO, RW, HEAP_AT, 16 * PAGE, 0, MHI_SEGMENT_HUGE),
            [WEIGHTS] = segment(MH_SEGMENT_MEMORY, RW, WEIGHTS_AT, (2 << 20) + 3 * PAGE, WEIGHTS_OFFSET,
                MHI_SEGMENT_HUGE),
            [HOLE] = segment(MH_SEGMENT_FILE, PROT_NONE, LIBRARY_AT - PAGE, PAGE, 1 << 30, 0),
            [LIBRARY] = segment(MH_SEGMENT_FILE, PROT_READ, LIBRARY_AT, 2 * PAGE, PAGE, MHI_SEGMENT_SHARED),
            [STACK_LOW] = segment(MH_SEGMENT_ZERO, RW, STACK_AT, PAGE, 0, MHI_SEGMENT_GROWS),
            [STACK] = segment(MH_SEGMENT_MEMORY, RW, STACK_AT + PAGE, PAGE, WEIGHTS_OFFSET + (2 << 20) + 3 * PAGE,
                MHI_SEGMENT_GROWS),
        },
        .inputs = {
            [LIBRARY_FILE] = { .in_kind = MH_INPUT_LIBRARY, .in_name = 1, .in_bytes = 3 * PAGE - 100 },
            [OTHER_FILE] = { .in_kind = MH_INPUT_FILE, .in_name = 6, .in_bytes = 10 },
            [LANGUAGE] = { .in_kind = MH_INPUT_ENV, .in_name = 11, .in_digest = 1 },
        },
        .processes[0] = {
            .pr_registers = { .rip = CODE_AT + 16, .rsp = STACK_AT + PAGE + 512, .mxcsr = 0x1f80,
                              .x87_control = 0x37f },
            .pr_thread_pointer = DATA_AT + 64, .pr_tid_address = DATA_AT + 256, .pr_robust_list = DATA_AT + 264,
            .pr_robust_bytes = 24,
            .pr_rseq = DATA_AT + 320, .pr_rseq_bytes = 32, .pr_arguments = DATA_AT + 512, .pr_curbrk = DATA_AT + 520,
            .pr_start_code = CODE_AT, .pr_end_code = CODE_AT + PAGE, .pr_start_data = DATA_AT,
            .pr_end_data = DATA_AT + PAGE,
            .pr_start_brk = HEAP_AT, .pr_brk = HEAP_AT + PAGE, .pr_start_stack = STACK_AT,
            .pr_vdso = VDSO_AT, .pr_vdso_bytes = { 4 * PAGE, 2 * PAGE }, .pr_signal_stack = HEAP_AT,
            .pr_signal_stack_bytes = 2 * PAGE,
            .pr_name = "sample", .pr_program = 1, .pr_command = 11, .pr_n_ids = 2, .pr_ids = { 7, 1 },
            .pr_random = DATA_AT + 600,
        },
        .descriptors = { { .ds_fd = 3, .ds_name = 1 }, { .ds_fd = 7, .ds_name = 6, .ds_is_cloexec = 1 } },
        .signals = { { .si_signal = SIGINT, .si_handler = CODE_AT, .si_restorer = CODE_AT + 8 },
                     { .si_signal = SIGPIPE, .si_handler = 1 } },
        .touched = { { DATA_AT, PAGE }, { HEAP_AT + PAGE, 15 * PAGE } },
        .strings = "\0/lib\0/etc\0LANG",
        .counts = { N_SEGMENTS, N_INPUTS, 0, 0, sizeof s.strings, 1, 2, 2, 2 },
        .header = { .hd_magic = MHI_MAGIC, .hd_version = MHI_FORMAT_VERSION, .hd_kind = MH_KIND_PROCESS,
                    .hd_state = MHI_STATE_COMPLETE,
                    .hd_n_tables = MHI_TABLES_OF_PROCESS, .hd_created_ns = 1 },
    };
    return s;
}

/* ---- as a file ---- */

static const char *path;
static uint8_t tables[8192]; /* of the file that was written last */
static size_t tables_bytes;
static mhi_file_header header;
static const uint64_t start = MHI_SEGMENTS_OFFSET + (4 << 20) + PAGE;

static void put(const void *bytes, size_t size, uint64_t offset)
{
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size && close(fd) == 0);
}

/* A header and tables whose checksums hold, whatever is in them. */
static void put_repaired(mhi_file_header *given, const uint8_t *bytes)
{
    for (uint32_t i = 0; i < MHI_TABLES_OF_PROCESS; i++) {
        const mhi_file_table *table = &header.hd_tables[i];
        given->hd_tables[i].tb_checksum = mhi_checksum(bytes + (table->tb_offset - start), table->tb_bytes);
    }
    given->hd_checksum = mhi_checksum(given, offsetof(mhi_file_header, hd_checksum));
    put(bytes, tables_bytes, start);
    put(given, sizeof *given, 0);
}

static void write_sample(const sample *s)
{
    static const uint64_t entry_bytes[] = { MHI_ENTRY_BYTES };
    static const uint8_t none[256];
    const void *entries[] = { s->segments,  s->inputs,      none,       none,      s->strings,
                              s->processes, s->descriptors, s->signals, s->touched };
    uint64_t end = 0;
    header = s->header;
    memset(tables, 0, sizeof tables);
    for (uint32_t i = 0; i < MHI_TABLES_OF_PROCESS; i++) {
        uint64_t offset = (end + 7) & ~7ull, bytes = s->counts[i] * entry_bytes[i];
        header.hd_tables[i] = (mhi_file_table){ i + 1, s->counts[i], start + offset, bytes, 0 };
        memcpy(tables + offset, entries[i], bytes);
        end = offset + bytes;
    }
    tables_bytes = end;
    header.hd_file_bytes = start + end;
    path = path == NULL ? strdup(scratch("process.dat")) : path;
    write_file(path, "", 0);
    CHECK_EQUAL(truncate(path, (off_t)header.hd_file_bytes), 0);
    put_repaired(&header, tables);
}

/* ---- the judge: what an accepted image may do, by other rules than the check's ---- */

static bool meets(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    for (uint64_t at = a; at < a + a_bytes; at += PAGE)
        if (at >= b && at < b + b_bytes)
            return true;
    return a >= b && a < b + b_bytes;
}

static const mhi_file_segment *segment_of(const struct mh_image *image, uint64_t address)
{
    for (uint64_t i = 0; i < image->n_segments; i++)
        if (address - image->segments[i].sg_address < image->segments[i].sg_bytes)
            return &image->segments[i];
    return NULL;
}

#define WRITABLE(address) (segment_of(image, address) != NULL && (segment_of(image, address)->sg_prot & RW) == RW)
#define EXECUTABLE(address) (segment_of(image, address) != NULL && (segment_of(image, address)->sg_prot & RX) == RX)

static void judge(const struct mh_image *image)
{
    const mhi_file_process *process = mhi_image_process(image);
    for (uint64_t i = 0; i < image->n_segments; i++) {
        const mhi_file_segment *one = &image->segments[i];
        CHECK(one->sg_address >= 65536 && one->sg_address + one->sg_bytes <= 0x7ffffffff000 && one->sg_bytes > 0);
        CHECK((one->sg_address | one->sg_bytes | one->sg_offset) % PAGE == 0);
        CHECK(one->sg_address + one->sg_bytes <= MHI_LAUNCHER_START || one->sg_address >= MHI_LAUNCHER_END);
        CHECK(one->sg_kind != MH_SEGMENT_FILE || image->inputs[one->sg_input].in_kind <= MH_INPUT_LIBRARY);
        CHECK(one->sg_kind != MH_SEGMENT_MEMORY || one->sg_offset + one->sg_bytes <= image->header.hd_file_bytes);
        CHECK(one->sg_kind != MH_SEGMENT_MEMORY || !(one->sg_flags & MHI_SEGMENT_HUGE) ||
              one->sg_address % (2 << 20) == one->sg_offset % (2 << 20));
        for (uint64_t j = 0; j < i; j++) {
            const mhi_file_segment *other = &image->segments[j];
            CHECK(other->sg_address + other->sg_bytes <= one->sg_address);
            CHECK(one->sg_kind != MH_SEGMENT_MEMORY || other->sg_kind != MH_SEGMENT_MEMORY ||
                  other->sg_offset + other->sg_bytes <= one->sg_offset);
        }
        for (uint64_t at = process->pr_vdso, k = 0; k < 4; at += process->pr_vdso_bytes[k++])
            CHECK(process->pr_vdso_bytes[k] > 1 << 20 ||
                  !meets(at, process->pr_vdso_bytes[k], one->sg_address, one->sg_bytes));
    }
    CHECK(EXECUTABLE(mhi_registers_code(&process->pr_registers)) &&
          WRITABLE(mhi_registers_stack(&process->pr_registers)) && WRITABLE(process->pr_thread_pointer));
    CHECK(WRITABLE(process->pr_tid_address) && WRITABLE(process->pr_arguments) && WRITABLE(process->pr_arguments + 7));
    CHECK(process->pr_rseq == 0 ||
          (WRITABLE(process->pr_rseq) && WRITABLE(process->pr_rseq + process->pr_rseq_bytes - 1)));
    CHECK(process->pr_registers.mxcsr <= 0xffff && memchr(process->pr_name, 0, sizeof process->pr_name) != NULL);
    for (uint64_t i = 0; i < mhi_image_n_signals(image); i++)
        CHECK(mhi_image_signals(image)[i].si_handler <= 1 || EXECUTABLE(mhi_image_signals(image)[i].si_handler));
    for (uint64_t i = 0; i < mhi_image_n_touched(image); i++)
        for (uint64_t at = 0; at < mhi_image_touched(image)[i].to_bytes; at += PAGE)
            CHECK(WRITABLE(mhi_image_touched(image)[i].to_address + at));
    for (uint64_t i = 0; i < mhi_image_n_descriptors(image); i++)
        CHECK(mhi_image_string(image, mhi_image_descriptors(image)[i].ds_name)[0] == '/');
}

static int try_open(mh_error *err)
{
    struct mh_image *image;
    mh_error stale;
    int status = mhi_image_open(&image, path, true, err);
    if (status == MH_OK) {
        judge(image);
        bool is_variant;
        mhi_inputs_check(image, &(mhi_run){ .environment = environ }, &is_variant, &stale);
        mh_image_verify(image, &stale);
    }
    mh_image_close(image);
    return status;
}

/* ---- each rule ---- */

static void check_refused(const sample *s, int line, const char *reason)
{
    mh_error err;
    write_sample(s);
    int status = try_open(&err);
    if (status != MH_ERR_CORRUPT || strstr(err.detail, reason) == NULL)
        harness_fail(__FILE__, line, status == MH_OK ? "was accepted" : err.detail);
}

#define REFUSED(reason, ...)                   \
    do {                                       \
        sample s = sound();                    \
        mhi_file_process *p = &s.processes[0]; \
        (void)p;                               \
        __VA_ARGS__;                           \
        check_refused(&s, __LINE__, reason);   \
    } while (0)

TEST(sound_snapshot_is_taken_and_is_none_of_a_heap)
{
    sample s = sound();
    mh_error err;
    write_sample(&s);
    CHECK_OK(try_open(&err), err);
    CHECK_COLD(path, MH_ERR_FORMAT, "the snapshot of a process, not of a heap");
}

TEST(header_that_speaks_of_an_arena_is_refused)
{
    REFUSED("speaks of an arena", s.header.hd_address = 1ull << 46);
    REFUSED("speaks of an arena", s.header.hd_root = 1);
    REFUSED("the number of its tables", s.header.hd_n_tables = MHI_TABLES_OF_HEAP);
    REFUSED("incomplete", s.header.hd_state = 0);
    REFUSED("one process", s.counts[MHI_TABLE_PROCESS - 1] = 2);
    REFUSED("one process", s.counts[MHI_TABLE_PROCESS - 1] = 0);
    REFUSED("one process", s.counts[MHI_TABLE_MODULES - 1] = 1);
    REFUSED("one process", s.counts[MHI_TABLE_RELOCATIONS - 1] = 1);
}

TEST(segment_out_of_its_place_is_refused)
{
    REFUSED("whole pages", s.segments[DATA].sg_address += 8);
    REFUSED("whole pages", s.segments[DATA].sg_bytes += 8);
    REFUSED("whole pages", s.segments[HEAP].sg_bytes = 0);
    REFUSED("out of order", s.segments[HEAP].sg_address = DATA_AT);
    REFUSED("out of order", s.segments[CODE].sg_address = 0);
    REFUSED("out of order", s.segments[CODE].sg_address = 0xf000);
    REFUSED("out of order", s.segments[STACK].sg_address = 0x7ffffffff000);
    REFUSED("out of order", s.segments[STACK].sg_address = UINT64_MAX - PAGE + 1);
    REFUSED("out of order", s.segments[HEAP].sg_bytes = UINT64_MAX - PAGE + 1);
    REFUSED("the launcher or the kernel", s.segments[CODE].sg_address = MHI_LAUNCHER_START - PAGE);
    REFUSED("the launcher or the kernel", s.segments[CODE].sg_address = MHI_LAUNCHER_END - PAGE);
    REFUSED("the launcher or the kernel", s.segments[HEAP].sg_address = VDSO_AT - 16 * PAGE,
            s.segments[HEAP].sg_bytes = 17 * PAGE);
    REFUSED("the launcher or the kernel", p->pr_vdso = STACK_AT + PAGE);
    REFUSED("where none belongs", s.segments[STACK].sg_offset -= PAGE);
    REFUSED("where none belongs", s.segments[DATA].sg_offset = 0);
    REFUSED("where its tables begin", s.segments[STACK].sg_bytes += PAGE);
    REFUSED("place in the file", s.segments[HEAP].sg_offset = PAGE);
    REFUSED("in pieces", s.segments[STACK_LOW].sg_address -= PAGE);
    REFUSED("in pieces", s.segments[DATA].sg_flags = MHI_SEGMENT_GROWS);
}

TEST(segment_for_huge_pages_lies_where_they_can_be_mapped_or_is_refused)
{
    REFUSED("where none belongs", s.segments[WEIGHTS].sg_offset = MHI_SEGMENTS_OFFSET + PAGE);
    REFUSED("where none belongs", s.segments[WEIGHTS].sg_offset += PAGE);
    REFUSED("where none belongs", s.segments[WEIGHTS].sg_offset += 2 << 20);
    REFUSED("where none belongs", s.segments[WEIGHTS].sg_offset -= 2 << 20);
    REFUSED("where none belongs", s.segments[WEIGHTS].sg_flags = 0);
    REFUSED("can hold none", s.segments[WEIGHTS].sg_bytes -= PAGE);
    REFUSED("can hold none", s.segments[DATA].sg_flags = MHI_SEGMENT_HUGE);
    REFUSED("can hold none", s.segments[WEIGHTS].sg_flags |= MHI_SEGMENT_SHARED);
    REFUSED("can hold none", s.segments[WEIGHTS].sg_flags |= MHI_SEGMENT_GROWS);
}

TEST(segment_that_is_not_for_huge_pages_lies_behind_the_one_before)
{
    sample moved = sound();
    mh_error err;
    uint64_t hole = WEIGHTS_OFFSET - (MHI_SEGMENTS_OFFSET + PAGE);
    moved.segments[WEIGHTS].sg_flags = 0;
    moved.segments[WEIGHTS].sg_offset -= hole;
    moved.segments[WEIGHTS].sg_bytes += hole;
    write_sample(&moved);
    CHECK_OK(try_open(&err), err);
    REFUSED("where none belongs", s.segments[WEIGHTS].sg_flags = 0, s.segments[WEIGHTS].sg_bytes -= PAGE);
}

TEST(segment_of_an_impossible_kind_is_refused)
{
    REFUSED("unknown kind", s.segments[HEAP].sg_kind = MH_SEGMENT_ARENA);
    REFUSED("unknown kind", s.segments[HEAP].sg_kind = 99);
    REFUSED("flag", s.segments[DATA].sg_prot = 8);
    REFUSED("flag", s.segments[DATA].sg_flags = MHI_SEGMENT_WIPED);
    REFUSED("flag", s.segments[CODE].sg_flags = MHI_SEGMENT_GROWS);
    REFUSED("flag", s.segments[HEAP].sg_flags = 1u << 31);
    REFUSED("flag", s.segments[HEAP].sg_reserved = 1);
    REFUSED("checksum and no data", s.segments[HEAP].sg_checksum = 1);
    REFUSED("does not come from", s.segments[HEAP].sg_input = 1);
    REFUSED("would write to a file", s.segments[LIBRARY].sg_prot = RW);
    REFUSED("no input", s.segments[CODE].sg_input = LANGUAGE);
    REFUSED("no input", s.segments[CODE].sg_input = N_INPUTS);
    REFUSED("no input", s.segments[CODE].sg_input = UINT64_MAX);
    REFUSED("impossible place", s.segments[HOLE].sg_offset = 1);
    REFUSED("impossible place", s.segments[HOLE].sg_offset = INT64_MAX - PAGE + 1);
    REFUSED("behind the end", s.segments[LIBRARY].sg_offset = 2 * PAGE);
    REFUSED("behind the end", s.segments[LIBRARY].sg_input = OTHER_FILE);
    REFUSED("behind the end", s.segments[HOLE].sg_prot = PROT_READ);
    REFUSED("behind the end", s.inputs[LIBRARY_FILE].in_bytes = UINT64_MAX);
}

TEST(process_that_could_not_run_is_refused)
{
    REFUSED("where no code is", p->pr_registers.rip = DATA_AT);
    REFUSED("where no code is", p->pr_registers.rip = CODE_AT + 2 * PAGE);
    REFUSED("its stack or its thread pointer", p->pr_registers.rsp = CODE_AT);
    REFUSED("its stack or its thread pointer", p->pr_registers.rsp += 1);
    REFUSED("its stack or its thread pointer", p->pr_thread_pointer = DATA_AT + PAGE - 8);
    REFUSED("its stack or its thread pointer", p->pr_thread_pointer = 1ull << 63);
    REFUSED("control register", p->pr_registers.mxcsr = 1 << 16);
    REFUSED("control register", p->pr_registers.x87_control = 1 << 16);
    REFUSED("its thread id", p->pr_tid_address = 0);
    REFUSED("its thread id", p->pr_arguments = LIBRARY_AT);
    REFUSED("its end of data", p->pr_curbrk = CODE_AT);
    REFUSED("robust locks", p->pr_robust_bytes = 32);
    REFUSED("robust locks", p->pr_robust_list = DATA_AT + PAGE - 16);
    REFUSED("restartable sequences", p->pr_rseq_bytes = 0);
    REFUSED("restartable sequences", p->pr_rseq_bytes = UINT64_MAX);
    REFUSED("restartable sequences", p->pr_rseq += 8);
    REFUSED("signal stack", p->pr_signal_stack_bytes = 17 * PAGE);
    REFUSED("random bytes", p->pr_random = DATA_AT + PAGE - 8);
    REFUSED("random bytes", p->pr_random = CODE_AT);
    REFUSED("no process id, or too many", p->pr_n_ids = 0);
    REFUSED("no process id, or too many", p->pr_n_ids = MHI_IDS_MAX + 1);
    REFUSED("process ids", p->pr_ids[1] = 0);
    REFUSED("process ids", p->pr_ids[5] = 9);
    REFUSED("layout", p->pr_end_code = p->pr_start_code - 1);
    REFUSED("layout", p->pr_brk = UINT64_MAX);
    REFUSED("the kernel's areas", p->pr_vdso_bytes[0] = 100);
    REFUSED("the kernel's areas", p->pr_vdso_bytes[3] = PAGE);
    REFUSED("the kernel's areas", p->pr_vdso_bytes[1] = UINT64_MAX - PAGE + 1);
    REFUSED("the kernel's areas", p->pr_vdso = MHI_LAUNCHER_START);
    REFUSED("the kernel's areas", p->pr_vdso += 1);
    REFUSED("its program or its command", p->pr_program = 64);
    REFUSED("its program or its command", p->pr_command = UINT64_MAX);
    REFUSED("the name of its thread", memset(p->pr_name, 'x', sizeof p->pr_name));
}

TEST(descriptor_or_signal_that_cannot_be_is_refused)
{
    REFUSED("out of order", s.descriptors[1].ds_fd = 3);
    REFUSED("out of order", s.descriptors[1].ds_fd = 1u << 20);
    REFUSED("a value that it can't have", s.descriptors[0].ds_flags = O_CREAT);
    REFUSED("a value that it can't have", s.descriptors[0].ds_flags = O_TRUNC);
    REFUSED("a value that it can't have", s.descriptors[0].ds_is_cloexec = 2);
    REFUSED("a value that it can't have", s.descriptors[0].ds_reserved = 1);
    REFUSED("a value that it can't have", s.descriptors[0].ds_offset = UINT64_MAX);
    REFUSED("no path", s.descriptors[0].ds_name = 0);
    REFUSED("no path", s.descriptors[0].ds_name = 64);
    REFUSED("impossible number", s.signals[0].si_signal = 0);
    REFUSED("impossible number", s.signals[0].si_signal = 65);
    REFUSED("impossible number", s.signals[0].si_signal = SIGKILL);
    REFUSED("impossible number", s.signals[0].si_signal = SIGSTOP);
    REFUSED("impossible number", s.signals[0].si_reserved = 1);
    REFUSED("two dispositions", s.signals[1].si_signal = SIGINT);
    REFUSED("where no code is", s.signals[0].si_handler = DATA_AT);
    REFUSED("where no code is", s.signals[0].si_restorer = 0);
}

TEST(touched_pages_that_it_does_not_have_are_refused)
{
    REFUSED("pages are touched", s.touched[0].to_address += 8);
    REFUSED("pages are touched", s.touched[0].to_bytes = 0);
    REFUSED("pages are touched", s.touched[0].to_bytes += 8);
    REFUSED("pages are touched", s.touched[0].to_bytes += PAGE);
    REFUSED("pages are touched", s.touched[0].to_bytes = UINT64_MAX - PAGE + 1);
    REFUSED("pages are touched", s.touched[0].to_address = CODE_AT);
    REFUSED("pages are touched", s.touched[0].to_address = HEAP_AT + PAGE);
    REFUSED("pages are touched", s.touched[1].to_address = STACK_AT + PAGE, s.touched[1].to_bytes = PAGE);
    REFUSED("pages are touched", s.touched[1].to_address = UINT64_MAX - PAGE + 1);
    REFUSED("pages are touched", s.segments[DATA].sg_flags = MHI_SEGMENT_SHARED);
}

/* ---- any damage; in a child, since a defect would be a signal ---- */

static void survive(void (*damage_all)(void *what))
{
    sample s = sound();
    write_sample(&s);
    char *what = mmap(NULL, 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(what != MAP_FAILED);
    if (wait_for_child(damage_all, what) != 0)
        harness_fail(__FILE__, __LINE__, what);
}

#define NOTE(what, ...) snprintf(what, 256, __VA_ARGS__)

static bool is_padding(size_t at)
{
    for (uint32_t i = 0; i < header.hd_n_tables; i++)
        if (at + start - header.hd_tables[i].tb_offset < header.hd_tables[i].tb_bytes)
            return false;
    return true;
}

static void flip_bytes(void *what)
{
    mh_error err;
    for (size_t at = 0; at < sizeof header + tables_bytes; at++) {
        bool in_header = at < sizeof header;
        uint8_t *was = in_header ? (uint8_t *)&header + at : tables + (at - sizeof header),
                is = (uint8_t)(*was ^ (1 << at % 8));
        uint64_t place = in_header ? at : start + at - sizeof header;
        NOTE(what, "byte %zu is 0x%02x", at, is);
        put(&is, 1, place);
        CHECK((try_open(&err) != MH_OK) == (in_header || !is_padding(at - sizeof header)));
        put(was, 1, place);
    }
}

TEST(any_damaged_byte_is_noticed) { survive(flip_bytes); }

static uint64_t hostile(uint64_t was, int i)
{
    const uint64_t values[] = { 0,
                                1,
                                was + 1,
                                was - 1,
                                was + 8,
                                was + PAGE,
                                was - PAGE,
                                was << 1,
                                was >> 1,
                                UINT64_MAX,
                                UINT64_MAX - PAGE + 1,
                                INT64_MAX,
                                (uint64_t)INT64_MAX + 1,
                                UINT32_MAX,
                                CODE_AT,
                                DATA_AT,
                                STACK_AT,
                                MHI_LAUNCHER_START,
                                VDSO_AT };
    return values[i];
}

enum { HOSTILE = 19 };

static void forge_words(void *what)
{
    mh_error err;
    size_t header_bytes = offsetof(mhi_file_header, hd_tables) + MHI_TABLES_OF_PROCESS * sizeof(mhi_file_table);
    for (size_t at = 0; at + 8 <= header_bytes + tables_bytes; at += 4)
        for (int i = 0; i < HOSTILE; i++) {
            mhi_file_header forged = header;
            uint8_t bytes[sizeof tables];
            memcpy(bytes, tables, sizeof tables);
            uint8_t *word = at < header_bytes ? (uint8_t *)&forged + at : bytes + (at - header_bytes);
            uint64_t value;
            memcpy(&value, word, 8);
            value = hostile(value, i);
            NOTE(what, "the word at %zu is 0x%" PRIx64 ", checksums repaired", at, value);
            memcpy(word, &value, 8);
            put_repaired(&forged, bytes);
            try_open(&err);
        }
}

TEST(forged_words_with_good_checksums_are_an_error_or_harmless) { survive(forge_words); }

static void scramble(void *what)
{
    mh_error err;
    uint64_t random = harness_seed();
    for (int round = 0; round < 5000; round++) {
        mhi_file_header forged = header;
        uint8_t bytes[sizeof tables];
        memcpy(bytes, tables, sizeof tables);
        NOTE(what, "round %d of random damage, checksums repaired", round);
        for (uint64_t n = 1 + harness_below(&random, 4); n > 0; n--)
            bytes[harness_below(&random, tables_bytes)] = (uint8_t)harness_random(&random);
        put_repaired(&forged, bytes);
        try_open(&err);
    }
}

TEST(tables_damaged_at_random_are_an_error_or_harmless) { survive(scramble); }

int main(int argc, char **argv) { return harness_main(argc, argv); }
