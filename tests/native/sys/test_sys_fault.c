/* test_sys_fault.c - the fault injector itself: a call that should fail does, and no other. */
#include <errno.h>
#include <fcntl.h>

#include "harness.h"
#include "sys/sys.h"
#include "sys_fault.h"

TEST(only_the_armed_call_fails)
{
    struct stat info;
    sys_fault_select("stat lstat");
    sys_fault_arm(2, EIO);
    CHECK_EQUAL(mhi_sys_stat("/", &info), 0);
    CHECK_EQUAL(mhi_sys_lstat("/", &info), -EIO);
    CHECK(sys_fault_struck());
    CHECK_EQUAL(mhi_sys_stat("/", &info), 0);
    CHECK_EQUAL(sys_fault_calls(), 3);
}

TEST(a_full_disk_stays_full_until_disarmed)
{
    struct stat info;
    sys_fault_select(NULL);
    sys_fault_arm_from(2, ENOSPC);
    CHECK_EQUAL(mhi_sys_stat("/", &info), 0);
    CHECK_EQUAL(mhi_sys_stat("/", &info), -ENOSPC);
    CHECK_EQUAL(mhi_sys_stat("/", &info), -ENOSPC);
    sys_fault_disarm();
    CHECK_EQUAL(mhi_sys_stat("/", &info), 0);
}

TEST(calls_made_from_inside_the_library_are_reached_too)
{
    char byte;
    sys_fault_select("pread");
    int fd = mhi_sys_open("/proc/self/exe", O_RDONLY, 0);
    sys_fault_arm(1, EIO);
    CHECK_EQUAL(mhi_sys_pread_all(fd, &byte, 1, 0), -EIO);
    CHECK_EQUAL(mhi_sys_pread_all(fd, &byte, 1, 0), 0);
    mhi_sys_close(fd);
}

TEST(a_failing_close_closes)
{
    struct stat info;
    sys_fault_select("close");
    int fd = mhi_sys_open("/", O_RDONLY, 0);
    sys_fault_arm(1, EIO);
    CHECK_EQUAL(mhi_sys_close(fd), -EIO);
    CHECK_EQUAL(mhi_sys_fstat(fd, &info), -EBADF);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
