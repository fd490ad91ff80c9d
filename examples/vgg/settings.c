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

static int set_count(uint64_t *out, const struct flag *flag, const char *value)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    const bool plain = value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0;
    if (!plain || (double)number < flag->min || (double)number > flag->max)
        return misuse("--%s: expected a whole number from %.15g to %.15g, found '%s'",
                      flag->name, flag->min, flag->max, value);
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

static int set_choice(uint64_t *out, const struct flag *flag, const char *value)
{
    char list[256] = "";
    size_t length = 0;
    for (unsigned i = 0; flag->choices[i]; i++) {
        if (strcmp(flag->choices[i], value) == 0) {
            *out = i;
            return 0;
        }
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s",
                                   i > 0 ? ", " : "", flag->choices[i]);
    }
    return misuse("--%s: expected one of %s, found '%s'", flag->name, list, value);
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
    const struct flag *elsewhere = flag_find(name);
    if (elsewhere) return misuse("--%s is not a flag of this verb", name);
    if (near) return misuse("unknown flag --%s, did you mean --%s?", name, near);
    return misuse("unknown flag --%s", name);
}

/* Read the flag at argv[*at] and its value, move *at to its last word. */
static int parse_flag(struct settings *s, enum verb verb, int argc, char **argv,
                      int *at)
{
    struct argument argument;
    const int status = split_argument(argv[*at], &argument);
    if (status != 0) return status;
    const struct flag *flag = flag_find(argument.name);
    if (!flag && strncmp(argument.name, "no-", 3) == 0) {
        flag = flag_find(argument.name + 3);
        if (flag && flag->kind == FLAG_SWITCH && (flag->verbs & verb) &&
            !argument.value) {
            *(uint64_t *)((char *)s + flag->offset) = 0;
            s->source[flag - flags] = FROM_USER;
            return 0;
        }
        flag = NULL;
    }
    if (!flag || !(flag->verbs & verb)) return unknown_flag(argument.name, verb);
    const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (flag->kind == FLAG_MAYBE && !argument.value && next && next[0] != '-')
        argument.value = argv[++*at];
    if (flag->kind != FLAG_SWITCH && flag->kind != FLAG_MAYBE && !argument.value) {
        if (!next) return misuse("--%s needs a value", flag->name);
        argument.value = argv[++*at];
    }
    if (flag->kind == FLAG_TEXT && argument.value[0] == '\0')
        return misuse("--%s: expected %s, found ''", flag->name, flag->operand);
    return settings_set(s, flag, argument.value, FROM_USER);
}

/* Saved weights say what the network is: flags that say it too are not meant. */
static int check_saved_network(const struct settings *s)
{
    static const char *const machine[] = {"batch", "device", "gemm", "conv"};
    for (unsigned i = 0; i < flag_count; i++) {
        bool harmless = flags[i].life != LIFE_FIXED || s->source[i] != FROM_USER;
        for (unsigned k = 0; k < sizeof machine / sizeof machine[0]; k++)
            harmless = harmless || strcmp(flags[i].name, machine[k]) == 0;
        if (!harmless)
            return misuse("--%s has no meaning with saved weights, which say it "
                          "themselves",
                          flags[i].name);
    }
    return 0;
}

/* The preset is needed before anything else is set; find it without reading the
 * rest. */
static int find_preset(struct settings *s, int argc, char **argv, bool network)
{
    const char *preset = NULL;
    bool own = false, resume = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--preset") == 0 && i + 1 < argc) preset = argv[i + 1];
        if (strncmp(argv[i], "--preset=", 9) == 0) preset = argv[i] + 9;
        own = own || strncmp(argv[i], "--arch", 6) == 0 ||
              strncmp(argv[i], "--blocks", 8) == 0;
        resume = resume || strncmp(argv[i], "--resume", 8) == 0;
    }
    if (!network || resume) return 0; /* args.json says it all */
    if (!preset && !own) preset = "d2l";
    return preset ? settings_preset(s, preset) : 0;
}

int settings_parse(struct settings *s, enum verb verb, int argc, char **argv)
{
    const bool network = (verb & (TRAIN | INFO | BENCH)) != 0;
    int status = find_preset(s, argc, argv, network);
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
    if (status == 0 && verb == INFO && s->path[0]) status = check_saved_network(s);
    const bool resumed = SOURCE(s, resume) == FROM_USER; /* args.json comes first */
    return status == 0 && network && !resumed ? settings_check(s) : status;
}
