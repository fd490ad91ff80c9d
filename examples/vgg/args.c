/* SPDX-License-Identifier: Apache-2.0 */
/* args.json: every setting of a run. Flags that hold for one call only are not in
 * it. */
#include "args.h"
#include "files.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

static bool kept(const struct flag *flag)
{
    return (flag->verbs & TRAIN) && flag->life != LIFE_CALL;
}

static void save_flag(struct json *j, const struct settings *s, const struct flag *flag)
{
    char text[TEXT_SIZE];
    const void *field = (const char *)s + flag->offset;
    switch (flag->kind) {
    case FLAG_SWITCH:
        json_bool(j, flag->name, *(const uint64_t *)field != 0);
        break;
    case FLAG_COUNT:
        json_count(j, flag->name, *(const uint64_t *)field);
        break;
    case FLAG_REAL:
        json_real(j, flag->name, *(const double *)field);
        break;
    default:
        settings_text(s, flag, text);
        json_text(j, flag->name, text);
    }
}

int args_save(const struct settings *s, const char *path)
{
    struct new_file file;
    const int status = file_begin(&file, path);
    if (status != 0) return status;
    struct json j = {.file = file.file, .pretty = true};
    json_object(&j, NULL);
    json_text(&j, "version", vgg_version());
    for (unsigned i = 0; i < flag_count; i++)
        if (kept(&flags[i])) save_flag(&j, s, &flags[i]);
    json_end(&j);
    return file_commit(&file);
}

/* Set a flag from its member; a switch is a bool there. */
static int set_member(struct settings *s, const struct flag *flag,
                      const struct json_member *member)
{
    if (flag->kind == FLAG_SWITCH) {
        *(uint64_t *)((char *)s + flag->offset) = member->number == 1.0;
        s->source[flag - flags] = FROM_FILE;
        return 0;
    }
    return settings_set(s, flag, member->text, FROM_FILE);
}

/* Is a value of the kind that save_flag() writes? */
static bool fits(const struct flag *flag, const struct json_member *member)
{
    if (flag->kind == FLAG_SWITCH) return member->kind == JSON_BOOL;
    const bool number = flag->kind == FLAG_COUNT || flag->kind == FLAG_REAL;
    return member->kind == (number ? JSON_NUMBER : JSON_TEXT);
}

static int begun_without(const struct flag *flag)
{
    return misuse("--%s: the run being resumed was begun without it, and that can't "
                  "change; leave the flag out, or start a new run",
                  flag->name);
}

/* One value of the file meets what the user said, if anything. */
static int load_flag(struct settings *s, const struct flag *flag,
                     const struct json_member *member)
{
    static struct settings theirs;
    char mine[TEXT_SIZE], file[TEXT_SIZE];
    const bool given = s->source[flag - flags] == FROM_USER;
    if (!given) return set_member(s, flag, member);
    if (flag->life == LIFE_OPEN) return 0;
    settings_init(&theirs);
    const int status = set_member(&theirs, flag, member);
    if (status != 0) return status;
    settings_text(s, flag, mine);
    settings_text(&theirs, flag, file);
    if (strcmp(mine, file) == 0) return 0;
    if (flag->kind == FLAG_SWITCH) return begun_without(flag); /* none takes one back */
    return misuse("--%s %s: the run being resumed has %s, and that can't change; leave "
                  "the flag out, or start a new run",
                  flag->name, mine, file[0] ? file : "none");
}

/* A flag that was not there yet when the run was begun: it may not change what is
 * computed. */
static int check_newer(const struct settings *s, const struct flag *flag)
{
    static struct settings plain;
    char mine[TEXT_SIZE], was[TEXT_SIZE];
    if (flag->life != LIFE_FIXED || s->source[flag - flags] != FROM_USER) return 0;
    settings_init(&plain);
    settings_text(s, flag, mine);
    settings_text(&plain, flag, was);
    return strcmp(mine, was) == 0 ? 0 : begun_without(flag);
}

/* Of releases from 0.1 on: a run that was begun before it goes on with the default. */
static bool is_newer(const struct flag *flag)
{
    return strcmp(flag->name, "conv") == 0 || strcmp(flag->name, "new-head") == 0 ||
           strcmp(flag->name, "fit") == 0 || strcmp(flag->name, "cache") == 0;
}

int args_load(struct settings *s, const char *path, bool whole)
{
    bool seen[FLAG_MAX] = {false};
    char *text = file_read(path, NULL);
    if (!text) return STATUS_RUN;
    const char *at = text;
    struct json_member member;
    int status = 0, more = 0;
    while (status == 0 && (more = json_next(&at, &member)) == 1) {
        const struct flag *flag = flag_find(member.key);
        if (!flag || !kept(flag)) continue;
        seen[flag - flags] = true;
        status = fits(flag, &member)
                     ? load_flag(s, flag, &member)
                     : fail("%s: \"%s\" has a value of another kind than vgg train "
                            "wrote; put the old one back",
                            path, flag->name);
    }
    free(text);
    if (more < 0) return fail("%s: not what vgg train wrote; start a new run", path);
    for (unsigned i = 0; i < flag_count && status == 0 && whole; i++)
        if (kept(&flags[i]) && !seen[i] && is_newer(&flags[i]))
            status = check_newer(s, &flags[i]);
        else if (kept(&flags[i]) && !seen[i])
            status = fail("%s: no \"%s\" in it, which vgg train wrote; put it back",
                          path, flags[i].name);
    return status;
}
