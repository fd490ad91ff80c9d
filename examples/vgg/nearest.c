/* SPDX-License-Identifier: Apache-2.0 */
/* Suggestions for misspelt words. */
#include "settings.h"

#include <ctype.h>
#include <string.h>

enum { WORD_SIZE = 64 };

/* What other programs call a flag. */
static const char *const aliases[][2] = {
    {"accumulation-steps", "grad-accum"},
    {"base-lr", "lr"},
    {"batch-norm", "bn"},
    {"batch-size", "batch"},
    {"bs", "batch"},
    {"checkpoint", "resume"},
    {"class-names", "names"},
    {"data-dir", "data"},
    {"data-path", "data"},
    {"drop-rate", "dropout"},
    {"dropout-rate", "dropout"},
    {"dtype", "precision"},
    {"gpu", "device"},
    {"hidden-size", "hidden"},
    {"image-size", "resize"},
    {"img-size", "resize"},
    {"imgsz", "resize"},
    {"initial-lr", "lr"},
    {"input-size", "resize"},
    {"iterations", "steps"},
    {"jobs", "threads"},
    {"json", "format"},
    {"labels", "names"},
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
    {"top-k", "top"},
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
