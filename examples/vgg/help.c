/* SPDX-License-Identifier: Apache-2.0 */
/* Help pages, written from the table of flags, and suggestions for misspelt words. */
#include "settings.h"

#include <ctype.h>
#include <string.h>

enum { WORD_SIZE = 64, COLUMNS = 80, HELP_COLUMN = 26 };

/* What other programs call a flag. */
static const char *const aliases[][2] = {
    {"accumulation-steps", "grad-accum"},
    {"base-lr", "lr"},
    {"batch-norm", "bn"},
    {"batch-size", "batch"},
    {"bs", "batch"},
    {"checkpoint", "resume"},
    {"data-dir", "data"},
    {"data-path", "data"},
    {"drop-rate", "dropout"},
    {"dropout-rate", "dropout"},
    {"dtype", "precision"},
    {"gpu", "device"},
    {"hidden-size", "hidden"},
    {"image-size", "resize"},
    {"img-size", "resize"},
    {"initial-lr", "lr"},
    {"input-size", "resize"},
    {"iterations", "steps"},
    {"jobs", "threads"},
    {"learning-rate", "lr"},
    {"lr-schedule", "sched"},
    {"lr-scheduler", "sched"},
    {"lrate", "lr"},
    {"max-epochs", "epochs"},
    {"max-grad-norm", "clip-norm"},
    {"max-steps", "steps"},
    {"model", "arch"},
    {"network", "arch"},
    {"num-classes", "classes"},
    {"num-epochs", "epochs"},
    {"num-threads", "threads"},
    {"num-workers", "threads"},
    {"output", "out"},
    {"output-dir", "out"},
    {"pretrained", "init-weights"},
    {"save-dir", "out"},
    {"scheduler", "sched"},
    {"step-size", "step-epochs"},
    {"wd", "weight-decay"},
    {"weights", "init-weights"},
    {"workers", "threads"},
};

/* Small letters, and '-' for '_'. */
static void fold(const char *word, char out[WORD_SIZE])
{
    size_t i = 0;
    for (; word[i] && i + 1 < WORD_SIZE; i++)
        out[i] = word[i] == '_' ? '-' : (char)tolower((unsigned char)word[i]);
    out[i] = '\0';
}

static unsigned lesser(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Edit distance of two words: insertions, deletions, changes and swaps of neighbours,
 * each 1. */
static unsigned distance(const char *a, const char *b)
{
    unsigned d[WORD_SIZE][WORD_SIZE];
    const size_t rows = strlen(a), columns = strlen(b);
    if (rows >= WORD_SIZE || columns >= WORD_SIZE) return WORD_SIZE;
    for (size_t i = 0; i <= rows; i++) d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= columns; j++) d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= rows; i++) {
        for (size_t j = 1; j <= columns; j++) {
            d[i][j] = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = lesser(d[i][j], lesser(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = lesser(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[rows][columns];
}

/* How far a word is from a known one, WORD_SIZE if it is not near. Near is: at most a
 * third of it is wrong, or it begins the known one. */
static unsigned misfit(const char *misspelt, const char *known)
{
    char word[WORD_SIZE];
    fold(misspelt, word);
    const size_t length = strlen(word);
    const unsigned edits = distance(word, known);
    if (length >= 2 && strncmp(word, known, length) == 0) return lesser(edits, 2);
    return edits <= 1 || edits <= length / 3 ? edits + 1 : WORD_SIZE;
}

static const char *flag_alias(const char *name, enum verb verb)
{
    char word[WORD_SIZE];
    fold(name, word);
    for (unsigned i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(aliases[i][0], word) != 0) continue;
        const struct flag *flag = flag_find(aliases[i][1]);
        if (flag && (flag->verbs & verb)) return flag->name;
    }
    return NULL;
}

const char *flag_nearest(const char *name, enum verb verb)
{
    const char *best = flag_alias(name, verb);
    unsigned least = best ? 0 : WORD_SIZE;
    for (unsigned i = 0; i < flag_count; i++) {
        const unsigned wrong = misfit(name, flags[i].name);
        if (!(flags[i].verbs & verb) || wrong >= least) continue;
        least = wrong;
        best = flags[i].name;
    }
    return best;
}

const char *word_nearest(const char *word, const char *const *words)
{
    const char *best = NULL;
    unsigned least = WORD_SIZE;
    for (unsigned i = 0; words[i]; i++) {
        const unsigned wrong = misfit(word, words[i]);
        if (wrong >= least) continue;
        least = wrong;
        best = words[i];
    }
    return best;
}

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
