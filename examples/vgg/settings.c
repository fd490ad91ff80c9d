/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: their defaults, and one of them set from text or told as text. */
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
    s->top = 3;
    s->cache = 1024;
}

enum source settings_source(const struct settings *s, size_t offset)
{
    for (unsigned i = 0; i < flag_count; i++)
        if (flags[i].offset == offset) return (enum source)s->source[i];
    return FROM_DEFAULT;
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
