/* vdso_calls.c - the functions of x86-64's vdso that the C library calls, and the equivalent system calls. */
#include <string.h>
#include <sys/syscall.h>

#include "arch/arch.h"

static int number_of(const char *function)
{
    static const struct {
        const char *name;
        int number;
    } calls[] = {
        { "__vdso_clock_gettime", SYS_clock_gettime },
        { "__vdso_clock_getres", SYS_clock_getres },
        { "__vdso_gettimeofday", SYS_gettimeofday },
        { "__vdso_time", SYS_time },
        { "__vdso_getcpu", SYS_getcpu },
        { "__vdso_getrandom", SYS_getrandom },
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, function) == 0)
            return calls[i].number;
    return -1;
}

/* The system call takes the arguments of the vdso function in the same registers. */
void mhi_arch_write_vdso_call(uint8_t *place, const char *function)
{
    static const uint8_t rest[] = { 0x0f, 0x05, 0xc3 }; /* syscall; ret */
    int number = number_of(function);
    if (number < 0)
        return;
    place[0] = 0xb8; /* mov $number, %eax */
    memcpy(place + 1, &number, sizeof number);
    memcpy(place + 1 + sizeof number, rest, sizeof rest);
}
