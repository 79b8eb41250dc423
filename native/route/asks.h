/* asks.h - replacements of the functions that ask the world without opening a file. */
#ifndef MHI_ROUTE_ASKS_H
#define MHI_ROUTE_ASKS_H
#include <dirent.h>
#include <glob.h>
#include <pwd.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>

int mhi_routed_stat(const char *path, struct stat *found);
int mhi_routed_lstat(const char *path, struct stat *found);
int mhi_routed_fstatat(int directory, const char *path, struct stat *found, int flags);
struct statx;
int mhi_routed_statx(int directory, const char *path, int flags, unsigned mask, struct statx *found);
/* For programs built before glibc 2.33; `version` is that of struct stat, of which only one exists. */
int mhi_routed_xstat(int version, const char *path, struct stat *found);
int mhi_routed_lxstat(int version, const char *path, struct stat *found);
int mhi_routed_fxstatat(int version, int directory, const char *path, struct stat *found, int flags);
int mhi_routed_access(const char *path, int mode);
int mhi_routed_euidaccess(const char *path, int mode);
int mhi_routed_faccessat(int directory, const char *path, int mode, int flags);
ssize_t mhi_routed_readlink(const char *path, char *target, size_t size);
ssize_t mhi_routed_readlinkat(int directory, const char *path, char *target, size_t size);
ssize_t mhi_routed_readlink_chk(const char *path, char *target, size_t size, size_t room);
ssize_t mhi_routed_readlinkat_chk(int directory, const char *path, char *target, size_t size, size_t room);
char *mhi_routed_realpath(const char *path, char *resolved);
char *mhi_routed_realpath_chk(const char *path, char *resolved, size_t room);
DIR *mhi_routed_opendir(const char *path);
int mhi_routed_scandir(const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
                       int (*compare)(const struct dirent **, const struct dirent **));
DIR *mhi_routed_fdopendir(int fd);
int mhi_routed_glob(const char *pattern, int flags, int (*failed)(const char *, int), glob_t *found);
char *mhi_routed_getenv(const char *name);
char *mhi_routed_secure_getenv(const char *name);
int mhi_routed_setenv(const char *name, const char *value, int is_replaced);
int mhi_routed_putenv(char *entry);
int mhi_routed_unsetenv(const char *name);
int mhi_routed_clearenv(void);
char *mhi_routed_getcwd(char *path, size_t size);
char *mhi_routed_getcwd_chk(char *path, size_t size, size_t room);
char *mhi_routed_get_current_dir_name(void);
/* Notes the variables and the file that determine the time zone. */
void mhi_note_zone(void);
struct tm *mhi_routed_localtime(const time_t *time);
struct tm *mhi_routed_localtime_r(const time_t *time, struct tm *parts);
time_t mhi_routed_mktime(struct tm *parts);
void mhi_routed_tzset(void);
int mhi_routed_uname(struct utsname *name);
int mhi_routed_gethostname(char *name, size_t size);
int mhi_routed_gethostname_chk(char *name, size_t size, size_t room);
uid_t mhi_routed_getuid(void);
uid_t mhi_routed_geteuid(void);
gid_t mhi_routed_getgid(void);
gid_t mhi_routed_getegid(void);
int mhi_routed_getgroups(int n, gid_t *groups);
struct passwd *mhi_routed_getpwuid(uid_t uid);
struct passwd *mhi_routed_getpwnam(const char *name);
int mhi_routed_getpwuid_r(uid_t uid, struct passwd *entry, char *text, size_t size, struct passwd **found);
int mhi_routed_getpwnam_r(const char *name, struct passwd *entry, char *text, size_t size, struct passwd **found);

#endif
