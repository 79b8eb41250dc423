/* command.c - reads the launcher's command line. */
#include <stdbool.h>
#include <string.h>

#include "base/text.h"
#include "format.h"
#include "launcher/request.h"
#include "python/command.h"

const char mhi_usage[] =
    "usage: magic SCRIPT [ARGUMENT...]\n"
    "       magic -m MODULE [ARGUMENT...]\n"
    "       magic --help | --version\n"
    "Runs a Python program; one that uses magic_transaction resumes from its snapshot, if there is a good one.\n"
    "Under the name magic-MODULE it runs that module as installed, not what lies in the working directory. "
    "MAGICHEAP_DISABLE=1 runs the program as if there were none.\n";

static const char module_prefix[] = "magic-";

/* Parses the whole text in this base; false if it is no number, or too large. */
static bool parse_number(const char *text, unsigned base, uint64_t *value)
{
    *value = 0;
    bool is_sound = *text != '\0';
    for (; *text != '\0' && is_sound; text++) {
        const char *digit = strchr("0123456789abcdef", *text);
        uint64_t place = digit == NULL ? base : (uint64_t)(digit - "0123456789abcdef");
        is_sound = place < base && !__builtin_mul_overflow(*value, base, value) &&
                   !__builtin_add_overflow(*value, place, value);
    }
    return is_sound;
}

static const char *parse_resume(mhi_request *request, int argc, char **argv)
{
    enum { OWN = 5 }; /* format.h */
    *request = (mhi_request){ .rest = argv + OWN };
    if (argc <= OWN || !parse_number(argv[2], 16, &request->checksum) ||
        !parse_number(argv[3], 10, &request->n_skipped) || !parse_number(argv[4], 16, &request->blocked) ||
        request->n_skipped > (uint64_t)argc - OWN)
        return MHI_RESUME_NAME ": the library calls this by itself\n";
    request->snapshot = argv[1];
    return NULL;
}

static const char *parse_command(mhi_request *request, int argc, char **argv)
{
    const char *own_name = argc > 0 ? mhi_path_name(argv[0]) : "";
    if (strcmp(own_name, MHI_RESUME_NAME) == 0)
        return parse_resume(request, argc, argv);
    *request = (mhi_request){ .kind = MHI_COMMAND_MODULE, .rest = argv + 1, .n_skipped = 2 };
    if (strncmp(own_name, module_prefix, sizeof module_prefix - 1) == 0 && own_name[sizeof module_prefix - 1] != '\0') {
        request->kind = MHI_COMMAND_INSTALLED;
        request->name = request->module = own_name + sizeof module_prefix - 1;
        request->n_skipped = 3;
        request->arguments = (const char *const *)argv + 1;
        return NULL;
    }
    if (argc >= 3 && strcmp(argv[1], "-m") == 0) {
        request->name = argv[2];
        request->arguments = (const char *const *)argv + 3;
        return NULL;
    }
    if (argc < 2 || argv[1][0] == '-')
        return mhi_usage;
    *request = (mhi_request){
        .kind = MHI_COMMAND_SCRIPT,
        .name = argv[1],
        .rest = argv + 1,
        .arguments = (const char *const *)argv + 2,
        .n_skipped = 1,
    };
    return NULL;
}

const char *mhi_request_parse(mhi_request *request, int argc, char **argv)
{
    bool is_question = argc > 1 && strcmp(mhi_path_name(argv[0]), MHI_WHY_NAME) == 0;
    const char *wrong = parse_command(request, argc - is_question, argv + is_question);
    request->is_question = is_question;
    return wrong;
}
