/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the command line by the table of flags. */
#include "settings.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void settings_init(struct settings *s)
{
    memset(s, 0, sizeof *s);
    snprintf(s->arch, sizeof s->arch, "d2l");
    s->ratio = 1;
    s->batch = 128;
    s->epochs = 10;
    s->lr = 0.005;
    s->step_epochs = 30;
    s->gamma = 0.1;
    s->grad_accum = 1;
    snprintf(s->device, sizeof s->device, "auto");
    s->save_every = 5.0;
    s->warmup = 3;
    s->stages = 1;
}

enum source settings_source(const struct settings *s, size_t offset)
{
    for (unsigned i = 0; i < flag_count; i++)
        if (flags[i].offset == offset) return (enum source)s->source[i];
    return FROM_DEFAULT;
}

const struct flag *flag_find(const char *name)
{
    for (unsigned i = 0; i < flag_count; i++)
        if (strcmp(flags[i].name, name) == 0) return &flags[i];
    return NULL;
}

/* A bound of a whole number; the largest one is 2 to the 64 as a double. */
static unsigned long long bound(double value)
{
    return value < 0x1p64 ? (unsigned long long)value : UINT64_MAX;
}

static int set_count(uint64_t *out, const struct flag *flag, const char *value)
{
    char *end;
    const unsigned long long least = bound(flag->min), most = bound(flag->max);
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    const bool plain = value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0;
    if (!plain || number < least || number > most)
        return misuse("--%s: expected a whole number from %llu to %llu, found '%s'",
                      flag->name, least, most, value);
    *out = number;
    return 0;
}

static int set_real(double *out, const struct flag *flag, const char *value)
{
    char *end;
    const double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number) || number < flag->min ||
        number > flag->max)
        return misuse("--%s: expected a number from %g to %g, found '%s'", flag->name,
                      flag->min, flag->max, value);
    *out = number;
    return 0;
}

void flag_choices(const struct flag *flag, char text[TEXT_SIZE])
{
    size_t length = 0;
    for (unsigned i = 0; flag->choices[i]; i++)
        length += (size_t)snprintf(text + length, TEXT_SIZE - length, "%s%s",
                                   i > 0 ? ", " : "", flag->choices[i]);
}

static int set_choice(uint64_t *out, const struct flag *flag, const char *value)
{
    char list[TEXT_SIZE];
    for (unsigned i = 0; flag->choices[i]; i++) {
        if (strcmp(flag->choices[i], value) != 0) continue;
        *out = i;
        return 0;
    }
    flag_choices(flag, list);
    const char *near = word_nearest(value, flag->choices);
    return misuse("--%s: expected one of %s, found '%.80s'%s%s%s", flag->name, list,
                  value, near ? ", did you mean " : "", near ? near : "",
                  near ? "?" : "");
}

static int set_extent(struct extent *out, const struct flag *flag, const char *value)
{
    unsigned height, width;
    int used = 0;
    const char *at = value;
    if (value[0] >= '0' && value[0] <= '9' &&
        sscanf(at, "%5u%n", &height, &used) == 1) {
        at += used;
        width = height;
        if (*at == 'x' && at[1] >= '0' && at[1] <= '9' &&
            sscanf(at + 1, "%5u%n", &width, &used) == 1)
            at += 1 + used;
        if (*at == '\0' && height <= 16384 && width <= 16384 &&
            (height == 0) == (width == 0)) {
            *out = (struct extent){height, width};
            return 0;
        }
    }
    return misuse("--%s: expected a size such as 224 or 224x192, found '%s'",
                  flag->name, value);
}

static int set_text(char *out, const struct flag *flag, const char *value)
{
    if (strlen(value) >= TEXT_SIZE)
        return misuse("--%s: longer than %d bytes", flag->name, TEXT_SIZE - 1);
    memcpy(out, value, strlen(value) + 1);
    return 0;
}

int settings_set(struct settings *s, const struct flag *flag, const char *value,
                 enum source source)
{
    void *field = (char *)s + flag->offset;
    int status = 0;
    switch (flag->kind) {
    case FLAG_SWITCH:
        if (value) return misuse("--%s takes no value, found '%s'", flag->name, value);
        *(uint64_t *)field = 1;
        break;
    case FLAG_COUNT:
        status = set_count(field, flag, value);
        break;
    case FLAG_REAL:
        status = set_real(field, flag, value);
        break;
    case FLAG_CHOICE:
        status = set_choice(field, flag, value);
        break;
    case FLAG_EXTENT:
        status = set_extent(field, flag, value);
        break;
    case FLAG_MAYBE:
    case FLAG_TEXT:
        status = set_text(field, flag, value ? value : "");
        break;
    }
    if (status == 0) s->source[flag - flags] = (uint8_t)source;
    return status;
}

void settings_text(const struct settings *s, const struct flag *flag,
                   char text[TEXT_SIZE])
{
    const void *field = (const char *)s + flag->offset;
    const struct extent *extent = field;
    switch (flag->kind) {
    case FLAG_SWITCH:
    case FLAG_COUNT:
        snprintf(text, TEXT_SIZE, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case FLAG_REAL: /* the shortest that reads back the same */
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, TEXT_SIZE, "%.*g", digits, *(const double *)field);
            if (strtod(text, NULL) == *(const double *)field) break;
        }
        break;
    case FLAG_CHOICE:
        snprintf(text, TEXT_SIZE, "%s", flag->choices[*(const uint64_t *)field]);
        break;
    case FLAG_EXTENT:
        snprintf(text, TEXT_SIZE, "%ux%u", (unsigned)extent->height,
                 (unsigned)extent->width);
        break;
    case FLAG_MAYBE:
    case FLAG_TEXT:
        snprintf(text, TEXT_SIZE, "%s", (const char *)field);
        break;
    }
}

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
                          verb == EVAL ? "; of a file that does not, --preset, --arch "
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
        } else if (!(verb & (EVAL | INFO)) || s->path[0]) {
            status = misuse("unexpected argument '%.80s'", word);
        } else if (strlen(word) >= TEXT_SIZE || word[0] == '\0') {
            status = misuse("a path has 1 to %d bytes", TEXT_SIZE - 1);
        } else {
            memcpy(s->path, word, strlen(word) + 1);
        }
    }
    if (status == 0) settings_over_preset(s);
    const bool network =
        verb == EVAL ? settings_name_network(s) : (verb & (TRAIN | INFO | BENCH)) != 0;
    const bool saved = s->path[0] && (verb == INFO || (verb == EVAL && !network));
    if (status == 0 && saved) status = check_saved_network(s, verb);
    const bool resumed = SOURCE(s, resume) == FROM_USER; /* args.json comes first */
    return status == 0 && network && !resumed ? settings_check(s) : status;
}
