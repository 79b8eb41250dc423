/* runtime.c - the few functions of a C library that the shared sources use, and those to which gcc generates calls by
 * itself.
 *
 * They follow the C standard as far as our sources need: vsnprintf knows the conversions d u x o s c and %, with the
 * flag 0, width, precision, and the lengths l ll z. free gives back only the last block: the launcher lives for a
 * millisecond.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/pages.h"
#include "format.h"
#include "launcher/runtime.h"
#include "sys/raw.h"
#include "sys/sys.h"

/* ---- memory ---- */

/* Behind the launcher itself; arbitrary. */
#define MEMORY_START (MHI_LAUNCHER_START + (1ull << 32))

enum { POOL_BYTES = 16 << 10 }; /* for small blocks; larger ones get pages of their own */

static uint64_t next = MEMORY_START, last = MEMORY_START; /* the first free address, and the last block before it */

void *mhi_memory(size_t size)
{
    void *place;
    size_t pages = mhi_page_end(size);
    /* prefaulted, since all of it is used: one call instead of many page faults */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE;
    if (pages < size || mhi_sys_mmap(&place, (void *)next, pages, PROT_READ | PROT_WRITE, flags, -1, 0) < 0)
        return NULL;
    last = next;
    next += pages;
    return place;
}

void *malloc(size_t size)
{
    static char pool[POOL_BYTES] __attribute__((aligned(16)));
    static size_t used;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size || rounded > POOL_BYTES - used)
        return mhi_memory(size);
    void *block = pool + used;
    used += rounded;
    return block;
}

/* All memory here is fresh, hence zero. */
void *calloc(size_t n_items, size_t item_bytes)
{
    size_t size;
    return __builtin_mul_overflow(n_items, item_bytes, &size) ? NULL : malloc(size);
}

/* Gives the last block of pages back, so that reading files piece by piece takes memory once. */
void free(void *block)
{
    if (block == NULL || (uint64_t)block != last || next == last)
        return;
    mhi_sys_munmap(block, next - last);
    next = last;
}

/* ---- bytes and strings ---- */

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

size_t strlen(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

int strncmp(const char *a, const char *b, size_t size)
{
    for (; size > 0; a++, b++, size--)
        if (*a != *b || *a == '\0')
            return (uint8_t)*a - (uint8_t)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }
char *strcpy(char *restrict to, const char *restrict from) { return memcpy(to, from, strlen(from) + 1); }

char *strcat(char *restrict to, const char *restrict from)
{
    strcpy(to + strlen(to), from);
    return to;
}

void *memchr(const void *bytes, int wanted, size_t size)
{
    for (const uint8_t *at = bytes; size > 0; at++, size--)
        if (*at == (uint8_t)wanted)
            return (void *)at;
    return NULL;
}

char *strchr(const char *text, int wanted)
{
    for (; *text != (char)wanted; text++)
        if (*text == '\0')
            return NULL;
    return (char *)text;
}

char *strrchr(const char *text, int wanted)
{
    const char *found = NULL;
    do {
        if (*text == (char)wanted)
            found = text;
    } while (*text++ != '\0');
    return (char *)found;
}

size_t strcspn(const char *text, const char *reject)
{
    size_t length = 0;
    while (text[length] != '\0' && strchr(reject, text[length]) == NULL)
        length++;
    return length;
}

/* ---- formatted text ---- */

typedef struct {
    char *to;
    size_t size, used; /* used also counts bytes that did not fit */
} output;

static void put(output *out, char byte)
{
    if (out->used + 1 < out->size)
        out->to[out->used] = byte;
    out->used++;
}

static void put_bytes(output *out, const char *bytes, size_t n, size_t width, char fill)
{
    for (size_t i = n; i < width; i++)
        put(out, fill);
    for (size_t i = 0; i < n; i++)
        put(out, bytes[i]);
}

typedef struct {
    char fill; /* '0' or ' ' */
    size_t width;
    size_t precision; /* of strings; SIZE_MAX: none */
    int longs;        /* how many l; z is one */
} conversion;

static const char *parse(conversion *c, const char *format, va_list *values)
{
    *c = (conversion){ .fill = *format == '0' ? '0' : ' ', .precision = SIZE_MAX };
    for (; *format >= '0' && *format <= '9'; format++)
        c->width = 10 * c->width + (size_t)(*format - '0');
    if (*format == '.' && *++format == '*') {
        c->precision = (size_t)va_arg(*values, int);
        format++;
    } else if (format[-1] == '.') {
        for (c->precision = 0; *format >= '0' && *format <= '9'; format++)
            c->precision = 10 * c->precision + (size_t)(*format - '0');
    }
    for (; *format == 'l' || *format == 'z'; format++)
        c->longs++;
    return format;
}

static void put_number(output *out, const conversion *c, uint64_t value, unsigned base, bool is_negative)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    if (is_negative && c->fill == '0')
        put(out, '-');
    else if (is_negative)
        digits[--at] = '-';
    size_t width = c->width - (c->width > 0 && is_negative && c->fill == '0');
    put_bytes(out, digits + at, sizeof digits - at, width, c->fill);
}

static void put_text(output *out, const conversion *c, const char *text)
{
    size_t length = 0;
    while (length < c->precision && text[length] != '\0')
        length++;
    put_bytes(out, text, length, c->width, ' ');
}

static void convert(output *out, const conversion *c, char kind, va_list *values)
{
    switch (kind) {
    case 'd': {
        int64_t value = c->longs > 0 ? va_arg(*values, long) : va_arg(*values, int);
        put_number(out, c, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, value < 0);
        break;
    }
    case 'u':
    case 'x':
    case 'o': {
        uint64_t value = c->longs > 0 ? va_arg(*values, unsigned long) : va_arg(*values, unsigned);
        put_number(out, c, value, kind == 'u' ? 10 : kind == 'x' ? 16 : 8, false);
        break;
    }
    case 's': put_text(out, c, va_arg(*values, const char *)); break;
    case 'c': put(out, (char)va_arg(*values, int)); break;
    default: put(out, kind); break; /* %% */
    }
}

int vsnprintf(char *restrict to, size_t size, const char *restrict format, va_list given)
{
    output out = { .to = to, .size = size };
    va_list values;
    va_copy(values, given);
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(&out, *format);
            continue;
        }
        conversion c;
        format = parse(&c, format + 1, &values);
        convert(&out, &c, *format, &values);
    }
    va_end(values);
    if (size > 0)
        to[out.used < size ? out.used : size - 1] = '\0';
    return (int)out.used;
}

int snprintf(char *restrict to, size_t size, const char *restrict format, ...)
{
    va_list values;
    va_start(values, format);
    int length = vsnprintf(to, size, format, values);
    va_end(values);
    return length;
}

/* ---- the world outside ---- */

void mhi_print(int fd, const char *text)
{
    long n = 0;
    for (size_t left = strlen(text); left > 0 && n >= 0; text += n, left -= (size_t)n)
        n = mhi_raw_3(SYS_write, fd, (long)text, (long)left);
}

void mhi_exit(int status)
{
    for (;;)
        mhi_raw_1(SYS_exit_group, status);
}
