/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the command line by the table of flags. */
#include "settings.h"

#include <string.h>

/* One argument of the command line, split at '='. */
struct argument {
    char name[64];
    const char *value; /* NULL: none in the same word */
};

static int split_argument(const char *word, struct argument *out)
{
    const char *name = word + 2;
    const size_t length = strcspn(name, "=");
    if (length == 0 || length >= sizeof out->name)
        return misuse("'%.80s' is not a flag", word);
    memcpy(out->name, name, length);
    out->name[length] = '\0';
    out->value = name[length] == '=' ? name + length + 1 : NULL;
    return 0;
}

static int unknown_flag(const char *name, enum verb verb)
{
    const char *near = flag_nearest(name, verb);
    const char *what = flag_find(name) ? "" : "unknown flag ";
    const char *where = flag_find(name) ? " is not a flag of this verb" : "";
    if (near) return misuse("%s--%s%s, did you mean --%s?", what, name, where, near);
    return misuse("%s--%s%s", what, name, where);
}

/* The switch that --no-NAME takes back, NULL if it is none of the verb's. */
static const struct flag *find_taken_back(const char *name, enum verb verb)
{
    const struct flag *flag = strncmp(name, "no-", 3) == 0 ? flag_find(name + 3) : NULL;
    return flag && flag->kind == FLAG_SWITCH && (flag->verbs & verb) ? flag : NULL;
}

/* May a word of its own be a flag's value? "--name" never is; "-name" is no text, while
 * a number may be negative, to be told its range. */
static bool is_value(const struct flag *flag, const char *word)
{
    const bool text = flag->kind == FLAG_TEXT || flag->kind == FLAG_MAYBE;
    return word[0] != '-' || word[1] == '\0' || (word[1] != '-' && !text);
}

/* The value of the flag at argv[*at] where it is not in the same word. */
static int next_value(const struct flag *flag, const char **value, int argc,
                      char **argv, int *at)
{
    const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (next && is_value(flag, next)) {
        *value = argv[++*at];
        return 0;
    }
    if (flag->kind == FLAG_MAYBE) return 0;
    if (!next) return misuse("--%s needs a value", flag->name);
    if (flag->kind != FLAG_TEXT)
        return misuse("--%s needs a value before '%.80s'", flag->name, next);
    return misuse("--%s needs a value before '%.80s'; --%s=%.80s if that is meant",
                  flag->name, next, flag->name, next);
}

/* Read the flag at argv[*at] and its value, move *at to its last word. */
static int parse_flag(struct settings *s, enum verb verb, int argc, char **argv,
                      int *at)
{
    struct argument argument;
    int status = split_argument(argv[*at], &argument);
    if (status != 0) return status;
    const struct flag *flag = flag_find(argument.name);
    const struct flag *off = flag ? NULL : find_taken_back(argument.name, verb);
    if (off && argument.value)
        return misuse("--%s takes no value, found '%.80s'", argument.name,
                      argument.value);
    if (off) {
        *(uint64_t *)((char *)s + off->offset) = 0;
        s->source[off - flags] = FROM_USER;
        return 0;
    }
    if (!flag || !(flag->verbs & verb)) return unknown_flag(argument.name, verb);
    if (flag->kind != FLAG_SWITCH && !argument.value)
        status = next_value(flag, &argument.value, argc, argv, at);
    if (status != 0) return status;
    const bool text = flag->kind == FLAG_TEXT || flag->kind == FLAG_MAYBE;
    if (text && argument.value && argument.value[0] == '\0')
        return misuse("--%s: expected %s, found ''%s", flag->name, flag->operand,
                      flag->kind == FLAG_MAYBE ? "; it may be left out" : "");
    return settings_set(s, flag, argument.value, FROM_USER);
}

bool settings_name_network(const struct settings *s)
{
    return SOURCE(s, preset) == FROM_USER || SOURCE(s, arch) == FROM_USER ||
           SOURCE(s, blocks) == FROM_USER;
}

/* Saved weights say what the network is: flags that say it too are not meant. */
static int check_saved_network(const struct settings *s, enum verb verb)
{
    static const char *const machine[] = {"batch", "device", "gemm", "conv"};
    for (unsigned i = 0; i < flag_count; i++) {
        bool harmless = flags[i].life != LIFE_FIXED || s->source[i] != FROM_USER;
        for (unsigned k = 0; k < sizeof machine / sizeof machine[0]; k++)
            harmless = harmless || strcmp(flags[i].name, machine[k]) == 0;
        if (!harmless)
            return misuse("--%s has no meaning with saved weights, which say it "
                          "themselves%s",
                          flags[i].name,
                          verb != INFO ? "; of a file that does not, --preset, --arch "
                                         "or --blocks names the network"
                                       : "");
    }
    return 0;
}

/* The preset is needed before anything else is set; find it without reading the
 * rest. */
static int find_preset(struct settings *s, int argc, char **argv, enum verb verb)
{
    const struct flag *flag = flag_find("preset");
    const char *preset = NULL;
    bool own = false, resume = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--preset") == 0 && i + 1 < argc &&
            is_value(flag, argv[i + 1]))
            preset = argv[i + 1];
        if (strncmp(argv[i], "--preset=", 9) == 0) preset = argv[i] + 9;
        own = own || strncmp(argv[i], "--arch", 6) == 0 ||
              strncmp(argv[i], "--blocks", 8) == 0;
        resume = resume || strncmp(argv[i], "--resume", 8) == 0;
    }
    if (resume) return 0; /* args.json says it all */
    if (!preset && !own && (verb & (TRAIN | INFO | BENCH))) preset = "d2l";
    return preset ? settings_preset(s, preset) : 0;
}

/* The weights, or a picture behind them; those come together at the front of argv, of
 * which nothing before word `at` is read again. */
static int take_operand(struct settings *s, enum verb verb, char **argv, int at)
{
    const char *word = argv[at];
    if (!(verb & (EVAL | PREDICT | INFO)) || (s->path[0] && verb != PREDICT))
        return misuse("unexpected argument '%.80s'", word);
    if (strlen(word) >= TEXT_SIZE || word[0] == '\0')
        return misuse("a path has 1 to %d bytes", TEXT_SIZE - 1);
    if (s->path[0]) {
        s->pictures = argv;
        argv[s->picture_count++] = argv[at];
    } else {
        memcpy(s->path, word, strlen(word) + 1);
    }
    return 0;
}

int settings_parse(struct settings *s, enum verb verb, int argc, char **argv)
{
    int status = find_preset(s, argc, argv, verb);
    bool operands_only = false;
    for (int i = 0; i < argc && status == 0; i++) {
        const char *word = argv[i];
        if (!operands_only && strcmp(word, "--") == 0) {
            operands_only = true;
        } else if (!operands_only && strncmp(word, "--", 2) == 0) {
            status = parse_flag(s, verb, argc, argv, &i);
        } else if (!operands_only && word[0] == '-' && word[1]) {
            status = misuse("'%.80s': flags are long here", word);
        } else {
            status = take_operand(s, verb, argv, i);
        }
    }
    if (status == 0) settings_over_preset(s);
    if (verb == PREDICT || has_pictures(s)) settings_for_pictures(s);
    const bool use = (verb & (EVAL | PREDICT)) != 0; /* of weights */
    const bool network =
        use ? settings_name_network(s) : (verb & (TRAIN | INFO | BENCH)) != 0;
    const bool saved = s->path[0] && (verb == INFO || (use && !network));
    if (status == 0 && saved) status = check_saved_network(s, verb);
    const bool resumed = SOURCE(s, resume) == FROM_USER; /* args.json comes first */
    return status == 0 && network && !resumed ? settings_check(s) : status;
}
