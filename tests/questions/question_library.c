/* question_library.c - how C asks the questions of question_table.py: functions that take a text and return one. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <langinfo.h>
#include <locale.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char text[8192];

static const char *number(long n) { return snprintf(text, sizeof text, "%ld", n), text; }
static const char *is(int yes) { return yes ? "yes" : "no"; }
static const char *word(const char *found)
{
    return snprintf(text, sizeof text, "%s", found == NULL ? "none" : found), text;
}

static const char *content(int fd)
{
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (fd >= 0)
        close(fd);
    return n < 0 ? "none" : (text[n] = '\0', text);
}

static const char *content_of(FILE *file)
{
    size_t n;
    if (file == NULL)
        return "none";
    rewind(file);
    n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    fclose(file);
    return text;
}

static const char *names(DIR *directory)
{
    long n = 0, sum = 0;
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL)
        for (const char *at = (n++, entry->d_name); *at != '\0'; at++)
            sum += *at;
    return directory == NULL ? "none" : (closedir(directory), number(1000 * n + sum));
}

const char *ask_open(const char *path) { return content(open(path, O_RDONLY)); }
const char *ask_open_read_write(const char *path) { return content(open(path, O_RDWR)); }
const char *ask_open_create(const char *path) { return content(open(path, O_RDWR | O_CREAT, 0600)); }
const char *ask_openat(const char *path)
{
    int directory = open(".", O_RDONLY | O_DIRECTORY), fd = openat(directory, path, O_RDONLY);
    close(directory);
    return content(fd);
}
const char *ask_fopen(const char *path) { return content_of(fopen(path, "r")); }
const char *ask_fopen_read_write(const char *path) { return content_of(fopen(path, "r+")); }
const char *ask_fopen_append(const char *path) { return content_of(fopen(path, "a+")); }
const char *ask_freopen(const char *path) { return content_of(freopen(path, "r", fopen("/dev/null", "r"))); }

const char *ask_stat(const char *path)
{
    struct stat found;
    return stat(path, &found) < 0 ? "none" : number(found.st_size);
}
const char *ask_lstat(const char *path)
{
    struct stat found;
    return lstat(path, &found) < 0 ? "none" : number(found.st_size);
}
const char *ask_fstatat(const char *path)
{
    struct stat found;
    return fstatat(AT_FDCWD, path, &found, 0) < 0 ? "none" : number(found.st_size);
}
const char *ask_statx(const char *path)
{
    struct statx found;
    return statx(AT_FDCWD, path, 0, STATX_SIZE, &found) < 0 ? "none" : number(found.stx_size);
}
const char *ask_access(const char *path) { return is(access(path, F_OK) == 0); }
const char *ask_executable(const char *path) { return is(access(path, X_OK) == 0); }
const char *ask_realpath(const char *path)
{
    char *found = realpath(path, NULL);
    word(found);
    free(found);
    return text;
}
const char *ask_readlink(const char *path)
{
    ssize_t n = readlink(path, text, sizeof text - 1);
    return n < 0 ? "none" : (text[n] = '\0', text);
}

const char *ask_opendir(const char *path) { return names(opendir(path)); }
const char *ask_fdopendir(const char *path) { return names(fdopendir(open(path, O_RDONLY | O_DIRECTORY))); }
const char *ask_scandir(const char *path)
{
    struct dirent **found = NULL;
    int n = scandir(path, &found, NULL, alphasort);
    for (int i = 0; i < n; i++)
        free(found[i]);
    free(found);
    return number(n);
}
const char *ask_glob(const char *pattern)
{
    glob_t found = { 0 };
    glob(pattern, 0, NULL, &found);
    number((long)found.gl_pathc);
    globfree(&found);
    return text;
}

const char *ask_getenv(const char *name) { return word(getenv(name)); }
const char *ask_secure_getenv(const char *name) { return word(secure_getenv(name)); }
const char *ask_getcwd(const char *unused) { return (void)unused, getcwd(text, sizeof text); }
const char *ask_current_directory(const char *unused)
{
    char *found = get_current_dir_name();
    (void)unused, word(found);
    free(found);
    return text;
}
const char *ask_isatty(const char *fd) { return is(isatty(atoi(fd))); }
const char *ask_settings(const char *fd)
{
    struct termios found;
    return is(tcgetattr(atoi(fd), &found) == 0);
}
const char *ask_size(const char *fd)
{
    struct winsize found;
    return ioctl(atoi(fd), TIOCGWINSZ, &found) < 0 ? "none" : number(found.ws_col);
}
const char *ask_gethostname(const char *unused)
{
    return (void)unused, gethostname(text, sizeof text) < 0 ? "none" : text;
}
const char *ask_uname(const char *unused)
{
    struct utsname found;
    (void)unused;
    return uname(&found) < 0 ? "none" : word(found.nodename);
}
const char *ask_user(const char *unused)
{
    struct passwd *found = getpwuid(getuid());
    (void)unused;
    return word(found == NULL ? NULL : found->pw_name);
}
const char *ask_group(const char *unused) { return (void)unused, number(getgid()); }
const char *ask_codeset(const char *unused)
{
    (void)unused;
    setlocale(LC_ALL, "");
    return word(nl_langinfo(CODESET));
}
const char *ask_zone(const char *unused)
{
    time_t now = 1700000000;
    struct tm found;
    (void)unused;
    tzset();
    return word(localtime_r(&now, &found)->tm_zone);
}
