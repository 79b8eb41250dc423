/* test_launcher_command.c - the spelling of commands, and the links by which the launcher finds their snapshots. */
#define _GNU_SOURCE
#include <stdarg.h>

#include "python/command.h"
#include "resumable/links.h"
#include "test_snapshot.h"

static char text[MHI_COMMAND_BYTES];

#define WORDS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static const char *touch(const char *name)
{
    const char *path = scratch(name);
    write_file(path, "", 0);
    return path;
}

static const char *spell_in(bool is_here, const char *launcher, const char *kind, const char *name,
                            const char *const *arguments)
{
    mh_error err;
    CHECK_OK(mh_command_text(text, sizeof text, launcher, kind, name, is_here, arguments, &err), err);
    return text;
}

static const char *spell(const char *launcher, const char *kind, const char *name, const char *const *arguments)
{
    return spell_in(false, launcher, kind, name, arguments);
}

static const char *made(const char *format, ...)
{
    static char spelled[3 * PATH_MAX];
    va_list values;
    va_start(values, format);
    vsnprintf(spelled, sizeof spelled, format, values);
    va_end(values);
    return spelled;
}

TEST(command_is_spelled_as_the_header_draws_it)
{
    const char *launcher = touch("magic"), *script = touch("script.py");
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    CHECK(strcmp(spell(launcher, "script", script, NULL), made("%s\nscript %s", scratch_directory, script)) == 0);
    CHECK(strcmp(spell(launcher, "module", "json.tool", NULL),
                 made("%s\nmodule json.tool\nin %s", scratch_directory, cwd)) == 0);
    CHECK(strcmp(spell(launcher, "installed", "llama", NULL), made("%s\ninstalled llama", scratch_directory)) == 0);
    CHECK(strcmp(spell(launcher, "script", script, WORDS("", "a b")),
                 made("%s\nscript %s\narguments\n \n a b\nin %s", scratch_directory, script, cwd)) == 0);
    CHECK(strcmp(spell(launcher, "module", "m", WORDS()),
                 made("%s\nmodule m\narguments\nin %s", scratch_directory, cwd)) == 0);
}

TEST(a_snapshot_by_a_relative_path_answers_in_its_directory_only)
{
    const char *launcher = touch("magic"), *script = touch("script.py");
    char cwd[PATH_MAX], exact[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    CHECK(strcmp(spell_in(true, launcher, "script", script, NULL),
                 made("%s\nscript %s\nin %s", scratch_directory, script, cwd)) == 0);
    CHECK(strcmp(spell_in(true, launcher, "installed", "m", NULL),
                 made("%s\ninstalled m\nin %s", scratch_directory, cwd)) == 0);
    CHECK(strcmp(spell_in(true, launcher, "module", "m", NULL), made("%s\nmodule m\nin %s", scratch_directory, cwd)) ==
          0);
    strcpy(exact, spell(launcher, "script", script, WORDS("a")));
    CHECK(strcmp(spell_in(true, launcher, "script", script, WORDS("a")), exact) == 0);
    CHECK_EQUAL(chdir(scratch_directory), 0);
    CHECK(strcmp(spell_in(true, launcher, "script", script, NULL),
                 made("%s\nscript %s\nin %s", scratch_directory, script, scratch_directory)) == 0);
    CHECK_EQUAL(chdir(cwd), 0);
}

TEST(paths_are_resolved)
{
    const char *launcher = touch("magic"), *script = touch("script.py"), *link = scratch("link.py");
    char before[PATH_MAX];
    strcpy(before, spell(launcher, "script", script, NULL));
    CHECK_EQUAL(symlink(script, link), 0);
    CHECK(strcmp(spell(launcher, "script", link, NULL), before) == 0);
    CHECK(strcmp(spell(launcher, "script", made("%s/./script.py", scratch_directory), NULL), before) == 0);
}

TEST(no_two_commands_share_a_text)
{
    const char *launcher = touch("magic"), *script = touch("script.py");
    const char *const *const all[] = { NULL,           WORDS(),         WORDS(""),
                                       WORDS("", ""),  WORDS("a b"),    WORDS("a", "b"),
                                       WORDS("a\n b"), WORDS("a\\n b"), WORDS("a\\", "b"),
                                       WORDS("a\nb"),  WORDS("\xff") };
    enum { N = sizeof all / sizeof *all };
    char *texts[2 * N];
    for (int i = 0; i < N; i++) {
        texts[i] = strdup(spell(launcher, "script", script, all[i]));
        texts[N + i] = strdup(spell(launcher, "module", "m", all[i]));
    }
    for (int i = 0; i < 2 * N; i++)
        for (int j = 0; j < i; j++)
            CHECK(strcmp(texts[i], texts[j]) != 0);
    for (int i = 0; i < 2 * N; i++)
        free(texts[i]);
}

TEST(command_that_cannot_be_spelled_is_an_error)
{
    const char *launcher = touch("magic"), *script = touch("script.py");
    mh_error err;
    CHECK_EQUAL(mh_command_text(text, sizeof text, launcher, "other", script, false, NULL, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_command_text(text, sizeof text, launcher, "script", NULL, false, NULL, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_command_text(text, sizeof text, launcher, "script", scratch("missing.py"), false, NULL, &err),
                MH_ERR_SYSTEM);
    CHECK(err.sys_errno == ENOENT && strstr(err.detail, "missing.py") != NULL && text[0] == '\0');
    uint64_t needed = strlen(spell(launcher, "script", script, NULL)) + 1;
    CHECK_EQUAL(mh_command_text(text, needed - 1, launcher, "script", script, false, NULL, &err), MH_ERR_NOSPACE);
    CHECK_OK(mh_command_text(text, needed, launcher, "script", script, false, NULL, &err), err);

    char *large = malloc(MHI_COMMAND_BYTES + 1);
    memset(large, 'x', MHI_COMMAND_BYTES);
    large[MHI_COMMAND_BYTES] = '\0';
    CHECK_EQUAL(mh_command_text(text, sizeof text, launcher, "script", script, false, WORDS(large), &err),
                MH_ERR_NOSPACE);
    free(large);
}

TEST(link_is_in_the_users_cache_directory)
{
    static char *const homes[] = { "HOME=/h", NULL }, *const both[] = { "XDG_CACHE_HOME=/x", "HOME=/h", NULL };
    static char *const relative[] = { "XDG_CACHE_HOME=x", "HOME=/h", NULL };
    char path[PATH_MAX];
    mh_error err;
    CHECK_OK(mhi_command_link(path, "one", homes, &err), err);
    CHECK(strncmp(path, "/h/.cache/magicheap/commands/", 29) == 0 && strlen(path) == 29 + 16);
    CHECK_OK(mhi_command_link(path, "one", relative, &err), err);
    CHECK(strncmp(path, "/h/.cache/", 10) == 0);
    CHECK_OK(mhi_command_link(path, "one", both, &err), err);
    CHECK(strncmp(path, "/x/magicheap/commands/", 22) == 0);
    char other[PATH_MAX];
    CHECK_OK(mhi_command_link(other, "two", both, &err), err);
    CHECK(strcmp(path, other) != 0);

    char *long_base = malloc(2 * PATH_MAX), *const too_long[] = { long_base, NULL };
    memset(long_base, 'x', 2 * PATH_MAX);
    memcpy(long_base, "HOME=/", 6);
    long_base[2 * PATH_MAX - 1] = '\0';
    CHECK_EQUAL(mhi_command_link(path, "one", too_long, &err), MH_ERR_UNSUPPORTED);
    free(long_base);
}

static void check_link(const char *command, const char *target)
{
    char link[PATH_MAX], found[PATH_MAX] = "";
    mh_error err;
    CHECK_OK(mhi_command_link(link, command, environ, &err), err);
    CHECK(readlink(link, found, sizeof found - 1) > 0 && strcmp(found, target) == 0);
}

TEST(link_is_made_and_replaced)
{
    struct stat status;
    mh_error err;
    setenv("XDG_CACHE_HOME", scratch("cache"), 1);
    CHECK_OK(mh_link_command("one", "/first.dat", &err), err);
    check_link("one", "/first.dat");
    CHECK_OK(mh_link_command("two", "/other.dat", &err), err);
    CHECK_OK(mh_link_command("one", "/second.dat", &err), err);
    check_link("one", "/second.dat");
    check_link("two", "/other.dat");
    CHECK(stat(scratch("cache/magicheap/commands"), &status) == 0 && (status.st_mode & 07777) == 0700);
    CHECK_EQUAL(status.st_nlink, 2);
    CHECK_EQUAL(mh_link_command("one", "relative.dat", &err), MH_ERR_ARGUMENT);
}

TEST(link_where_others_could_exchange_it_is_not_made)
{
    const char *open_to_all = scratch("open");
    mh_error err;
    CHECK(mkdir(open_to_all, 0777) == 0 && chmod(open_to_all, 0777) == 0);
    setenv("XDG_CACHE_HOME", open_to_all, 1);
    CHECK_EQUAL(mh_link_command("one", "/first.dat", &err), MH_ERR_UNTRUSTED);
    write_file(scratch("file"), "", 0);
    setenv("XDG_CACHE_HOME", scratch("file"), 1);
    CHECK_EQUAL(mh_link_command("one", "/first.dat", &err), MH_ERR_SYSTEM);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
