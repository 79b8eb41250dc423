/* cpus.h - the parts of mk_cpu_count that tests give other files to read. */
#ifndef MK_CPUS_H
#define MK_CPUS_H
#include <stdint.h>

/* CPUs that the cgroup quotas of the process described by `membership` (/proc/self/cgroup) allow, rounded up, under
 * the cgroup file systems mounted in `root` (/sys/fs/cgroup); INT32_MAX without a quota. */
int32_t mki_quota_cpus(const char *membership, const char *root);
#endif
