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
    {"predict", "what is in pictures, by trained weights", PREDICT, predict_main},
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
        "  vgg train --preset quick     a small network on Fashion-MNIST, a minute\n"
        "  vgg eval runs/quick-...      how good it is\n"
        "  vgg predict runs/quick-... PICTURE\n"
        "                               what is in a picture\n"
        "  vgg train                    the chapter's VGG, 80 minutes on two cores\n");
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

/* The row of a verb by its name, VERBS if there is none. */
static unsigned find_verb(const char *name)
{
    unsigned i = 0;
    while (i < VERBS && strcmp(verbs[i].name, name) != 0) i++;
    return i;
}

static int run_verb(const char *name, int argc, char **argv)
{
    const unsigned row = find_verb(name);
    if (row == VERBS) return unknown_verb(name);
    verb_name = verbs[row].name;
    if (wants_help(argc, argv)) {
        help_verb(verbs[row].verb);
        return 0;
    }
    struct settings *s = malloc(sizeof *s);
    if (!s) return fail("out of memory");
    settings_init(s);
    int status = settings_parse(s, verbs[row].verb, argc, argv);
    if (status == 0) status = verbs[row].run(s);
    free(s);
    return status;
}

/* `vgg help`, or of the verb that a word names. */
static int help(const char *word)
{
    const unsigned row = word ? find_verb(word) : VERBS;
    if (word && row == VERBS) return unknown_verb(word);
    if (word)
        help_verb(verbs[row].verb);
    else
        print_help();
    return 0;
}

/* Is a word one of a list of three? */
static bool is_one(const char *word, const char *const names[3])
{
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(word, names[i]) == 0) return true;
    return false;
}

static int run(int argc, char **argv)
{
    static const char *const version[] = {"version", "--version", "-V"};
    static const char *const helping[] = {"help", "--help", "-h"};
    if (argc < 2) return misuse("which verb?");
    if (is_one(argv[1], version)) {
        printf("vgg %s\n", vgg_version());
        return 0;
    }
    if (is_one(argv[1], helping))
        return help(argc > 2 && argv[2][0] != '-' ? argv[2] : NULL);
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
