/* SPDX-License-Identifier: Apache-2.0 */
/* vgg: train, evaluate and measure VGG networks. Built on the public headers alone. */
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *text;
    enum verb verb;
    int (*run)(struct settings *s);
} verbs[] = {
    {"train", "train a network, or resume a training", TRAIN, train_main},
    {"eval", "evaluate a trained network", EVAL, eval_main},
    {"info", "shapes, parameters, operations and memory of a network", INFO, info_main},
    {"devices", "what can compute here", DEVICES, devices_main},
    {"bench", "measure training or inference", BENCH, bench_main},
};

enum { VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(void)
{
    printf("usage: vgg VERB [FLAG...]\n\nVGG convolutional networks, release %s.\n\n",
           vgg_version());
    for (unsigned i = 0; i < VERBS; i++)
        printf("  %-8s %s\n", verbs[i].name, verbs[i].text);
    printf(
        "\nvgg VERB --help lists the flags of a verb. To begin with:\n\n"
        "  vgg train --preset quick     a small network on Fashion-MNIST, minutes\n"
        "  vgg eval runs/quick-...      how good it is\n"
        "  vgg train                    the chapter's VGG-11, hours on a processor\n");
}

static int unknown_verb(const char *word)
{
    const char *names[VERBS + 1] = {NULL};
    for (unsigned i = 0; i < VERBS; i++) names[i] = verbs[i].name;
    const char *near = word_nearest(word, names);
    if (near) return misuse("unknown verb '%.80s', did you mean %s?", word, near);
    return misuse("unknown verb '%.80s'", word);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

static int run_verb(const char *name, int argc, char **argv)
{
    for (unsigned i = 0; i < VERBS; i++) {
        if (strcmp(verbs[i].name, name) != 0) continue;
        verb_name = verbs[i].name;
        if (wants_help(argc, argv)) {
            help_verb(verbs[i].verb);
            return 0;
        }
        struct settings *s = malloc(sizeof *s);
        if (!s) return fail("out of memory");
        settings_init(s);
        int status = settings_parse(s, verbs[i].verb, argc, argv);
        if (status == 0) status = verbs[i].run(s);
        free(s);
        return status;
    }
    return unknown_verb(name);
}

static int run(int argc, char **argv)
{
    if (argc < 2) return misuse("which verb?");
    if (strcmp(argv[1], "--version") == 0) {
        printf("vgg %s\n", vgg_version());
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return 0;
    }
    return run_verb(argv[1], argc - 2, argv + 2);
}

/* A closed standard stream must not become the number of a file that is opened
 * later. */
static void hold_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        const int null = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        (void)null; /* the lowest free number, which is fd; using it fails, as before */
    }
}

int main(int argc, char **argv)
{
    hold_streams();
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves is a failed write, said below */
    signal(SIGXFSZ, SIG_IGN); /* a limit on files' sizes likewise */
    const int status = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        const int failed = fail("can't write to stdout: %s", strerror(errno));
        return status ? status : failed;
    }
    return status;
}
