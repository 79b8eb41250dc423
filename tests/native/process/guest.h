/* guest.h - runs a program that commits itself and is resumed: $PROCESS_GUEST, through $LAUNCHER. */
#ifndef GUEST_H
#define GUEST_H
#include <sys/resource.h>

#include "test_snapshot.h"

typedef struct {
    const char *name, *path;
    const char *argument; /* NULL: none */
    rlim_t stack_bytes;   /* 0: as it is */
} guest;

static inline void execute(const guest *given, int output)
{
    const char *program = getenv("PROCESS_GUEST"), *launcher = getenv("LAUNCHER");
    if (given->stack_bytes != 0)
        setrlimit(RLIMIT_STACK, &(struct rlimit){ given->stack_bytes, RLIM_INFINITY });
    setenv("GUEST_VARIABLE", "of this run", 1);
    dup2(output, 1);
    execl(program, program, given->name, given->path, launcher, given->argument, NULL);
    _exit(127);
}

/* Runs it and returns its wait status; what it printed goes to `printed`. */
static inline int run_guest(const guest *given, char *printed, size_t size)
{
    int ends[2], status;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        execute(given, ends[1]);
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n; (n = read(ends[0], printed + used, size - 1 - used)) > 0; used += (size_t)n)
        continue;
    printed[used] = '\0';
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static inline void check_guest(const guest *given, const char *prints, int status)
{
    char printed[1024], all[1400];
    int ended = run_guest(given, printed, sizeof printed);
    if (ended != status << 8 || strncmp(printed, prints, strlen(prints)) != 0) {
        snprintf(all, sizeof all, "%s ended with 0x%x instead of %d and printed: %s", given->name, ended, status,
                 printed);
        harness_fail(__FILE__, __LINE__, all);
    }
}

static inline void check_verifies(const char *path)
{
    mh_image *image;
    mh_error err;
    CHECK_OK(mh_image_open(&image, path, &err), err);
    CHECK_OK(mh_image_verify(image, &err), err);
    mh_image_close(image);
}

/* Commits, then is resumed twice. */
static inline void check_case(const char *name)
{
    guest each = { .name = name, .path = scratch(name) };
    check_guest(&each, "cold: there is no snapshot", 0);
    check_verifies(each.path);
    check_guest(&each, "resumed\n", 0);
    each.argument = "7";
    check_guest(&each, "resumed\n", 7);
}

#endif
