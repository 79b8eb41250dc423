/* cpus.c - how many CPUs this process may use: its affinity mask and the cgroup quotas above it.
 *
 * A quota holds for a group and all below it, so the smallest quota on the way from the process's group to the root
 * counts. In a container the path may name a group that only the host sees; then the root, which is always tried, has
 * the quota.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "cpus.h"
#include "llama_kernels.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "max 100000" or "50000 100000" (v2), or the two numbers of two files (v1): microseconds of CPU per period. */
static int32_t to_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return INT32_MAX;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < INT32_MAX ? (int32_t)cpus : INT32_MAX;
}

static bool read_numbers(const char *dir, const char *file, long long *a, long long *b)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, file) >= (int)sizeof path)
        return false;
    FILE *in = fopen(path, "re");
    if (!in)
        return false;
    int n = b ? fscanf(in, "%lld %lld", a, b) : fscanf(in, "%lld", a);
    fclose(in);
    return n == (b ? 2 : 1);
}

static int32_t group_cpus(const char *dir)
{
    long long quota, period;
    if (read_numbers(dir, "cpu.max", &quota, &period))
        return to_cpus(quota, period);
    if (read_numbers(dir, "cpu.cfs_quota_us", &quota, NULL) && read_numbers(dir, "cpu.cfs_period_us", &period, NULL))
        return to_cpus(quota, period);
    return INT32_MAX;
}

/* The least quota of mount/group and of everything above it, down to the mount itself. */
static int32_t least_cpus(const char *mount, const char *group)
{
    char dir[PATH_MAX];
    if (snprintf(dir, sizeof dir, "%s%s", mount, group) >= (int)sizeof dir)
        return INT32_MAX;
    size_t mount_length = strlen(mount);
    for (int32_t least = INT32_MAX;;) {
        int32_t cpus = group_cpus(dir);
        least = cpus < least ? cpus : least;
        char *slash = strrchr(dir + mount_length, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

static bool names_cpu(char *controllers)
{
    for (char *rest = controllers, *name; (name = strsep(&rest, ","));)
        if (strcmp(name, "cpu") == 0)
            return true;
    return false;
}

int32_t mki_quota_cpus(const char *membership, const char *root)
{
    FILE *in = fopen(membership, "re");
    if (!in)
        return INT32_MAX;
    int32_t least = INT32_MAX;
    char line[PATH_MAX], mount[PATH_MAX];
    while (fgets(line, sizeof line, in)) { /* "hierarchy:controllers:/group"; v2 is hierarchy 0 without controllers */
        char *rest = line;
        strsep(&rest, ":");
        char *controllers = strsep(&rest, ":"), *group = strsep(&rest, "\n");
        if (!group || (*controllers && !names_cpu(controllers)))
            continue;
        snprintf(mount, sizeof mount, *controllers ? "%s/cpu" : "%s", root);
        int32_t cpus = least_cpus(mount, group);
        least = cpus < least ? cpus : least;
    }
    fclose(in);
    return least;
}

int32_t mk_cpu_count(void)
{
    cpu_set_t mask;
    long allowed = sched_getaffinity(0, sizeof mask, &mask) ? sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&mask);
    int32_t quota = mki_quota_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    if (allowed > quota)
        allowed = quota;
    return allowed > 0 ? (int32_t)allowed : 1;
}
