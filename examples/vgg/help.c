/* SPDX-License-Identifier: Apache-2.0 */
/* Help pages, written from the table of flags. */
#include "settings.h"

#include <string.h>

enum { COLUMNS = 80, HELP_COLUMN = 26 };

static const struct {
    enum verb verb;
    const char *usage, *text;
} pages[] = {
    {TRAIN, "vgg train [--preset d2l|quick] [FLAG...]",
     "Train a network. Without --preset, --arch or --blocks this is the chapter's "
     "recipe (--preset d2l). Progress goes to stderr, the result to stdout, and "
     "everything else to the run directory: args.json, metrics.csv, log.jsonl, "
     "curves.svg, last/, best/. Ctrl-C saves and stops after the present batch; a "
     "second one stops at once."},
    {EVAL, "vgg eval DIR|FILE [FLAG...]",
     "Evaluate a run directory (its best/), a checkpoint or a weights file on the "
     "data set that it was trained for. Weights from elsewhere do not say their "
     "network: --preset, --arch or --blocks does, and the flags beside them."},
    {PREDICT, "vgg predict DIR|FILE PICTURE... [FLAG...]",
     "Say what is in pictures (files, or folders of them) by the weights of a run "
     "directory (its best/), a checkpoint or a weights file, after the preprocessing "
     "that they were trained with. Weights from elsewhere do not say their network: "
     "--preset, --arch or --blocks does, and the flags beside them."},
    {INFO, "vgg info [DIR|FILE] [FLAG...]",
     "Show the shape of every block, parameters, multiply-accumulates and memory, of "
     "a network given by flags (--preset d2l if none) or of saved weights."},
    {DEVICES, "vgg devices [FLAG...]",
     "Show what can compute here, and what can't and why."},
    {BENCH, "vgg bench [FLAG...]",
     "Measure steps of training or inference on random images: where their time goes "
     "by stage, and images a second. Rows of the table are medians over the steps."},
};

/* Print words from column `left` on, where the cursor is; a line that is full goes on
 * below its first word. */
static void print_wrapped(const char *text, size_t left)
{
    size_t column = left;
    while (*text) {
        const size_t length = strcspn(text, " ");
        if (column > left && column + 1 + length > COLUMNS) {
            printf("\n%*s", (int)left, "");
            column = left;
        }
        printf("%s%.*s", column > left ? " " : "", (int)length, text);
        column += (column > left) + length;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

/* The default as people would type it; empty if there is nothing to say. */
static void default_text(const struct flag *flag, char text[TEXT_SIZE])
{
    struct settings s;
    settings_init(&s);
    text[0] = '\0';
    const bool decided_elsewhere =
        strcmp(flag->name, "channels") == 0 || strcmp(flag->name, "classes") == 0 ||
        strcmp(flag->name, "hidden") == 0 || strcmp(flag->name, "dropout") == 0 ||
        strcmp(flag->name, "head") == 0 || strcmp(flag->name, "steps") == 0;
    if (decided_elsewhere || flag->kind == FLAG_SWITCH || flag->kind == FLAG_EXTENT)
        return;
    if (flag->kind == FLAG_REAL)
        snprintf(text, TEXT_SIZE, "%g", *(double *)((char *)&s + flag->offset));
    else
        settings_text(&s, flag, text);
}

static void help_flag(const struct flag *flag)
{
    char left[64], value[TEXT_SIZE], text[2 * TEXT_SIZE];
    if (flag->heading) printf("\n%s\n", flag->heading);
    snprintf(left, sizeof left, "--%s%s%s", flag->name, flag->operand ? " " : "",
             flag->operand ? flag->operand : "");
    default_text(flag, value);
    snprintf(text, sizeof text, "%s%s%s%s", flag->help, value[0] ? " [" : "", value,
             value[0] ? "]" : "");
    printf("  %-*s ", HELP_COLUMN - 3, left);
    print_wrapped(text, HELP_COLUMN);
    if (!flag->choices) return;
    flag_choices(flag, text);
    printf("%*s", HELP_COLUMN + 2, "");
    print_wrapped(text, HELP_COLUMN + 2);
}

void help_verb(enum verb verb)
{
    const char *heading = NULL;
    for (unsigned i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (pages[i].verb != verb) continue;
        printf("usage: %s\n\n", pages[i].usage);
        print_wrapped(pages[i].text, 0);
    }
    for (unsigned i = 0; i < flag_count; i++) {
        struct flag row = flags[i];
        if (row.heading) heading = row.heading;
        if (!(row.verbs & verb)) continue;
        row.heading = heading;
        heading = NULL;
        help_flag(&row);
    }
    printf("\nA value in brackets is the default. Exit status: 0 ok, 1 failed, 2 "
           "usage%s.\n",
           verb == TRAIN ? ",\n129, 130, 143 stopped by SIGHUP, SIGINT, SIGTERM" : "");
}
