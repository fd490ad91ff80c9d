/* SPDX-License-Identifier: Apache-2.0 */
/* Everything the command line can say, and the table that says it.
 *
 * One row of the table is one flag: it drives parsing, --help and args.json. A value
 * comes, in rising order of weight, from its default, a preset, args.json, the command
 * line; `source` remembers which. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "app.h"

enum { FLAG_MAX = 96 };

enum source { FROM_DEFAULT, FROM_PRESET, FROM_FILE, FROM_USER };

struct extent {
    uint32_t height; /* 0: not set */
    uint32_t width;
};

/* Counts, switches and choices (the index in the row's list) are uint64_t. */
struct settings {
    char preset[TEXT_SIZE];
    /* network */
    char arch[TEXT_SIZE], blocks[TEXT_SIZE];
    uint64_t ratio, bn, channels, classes, hidden, head, pool;
    double dropout;
    uint64_t init, new_head;
    char init_weights[TEXT_SIZE];
    /* data */
    char data[TEXT_SIZE];
    uint64_t dataset, fit, resize_rule, normalize, shift, cache;
    struct extent resize, crop;
    struct extent image; /* of the data set's images, as the weights say */
    double flip, erase;
    /* recipe */
    uint64_t batch, epochs, optimizer, nesterov, sched, step_epochs, grad_accum, seed;
    double lr, momentum, weight_decay, gamma, min_lr, warmup_epochs;
    double label_smoothing, clip_norm;
    char milestones[TEXT_SIZE];
    /* machine */
    uint64_t threads, gemm, conv, precision, weights, deterministic;
    char device[TEXT_SIZE];
    /* run */
    char out[TEXT_SIZE], resume[TEXT_SIZE];
    uint64_t steps, quiet, no_progress, format;
    double save_every;
    /* eval, predict, info, bench */
    uint64_t split, layers, mode, warmup, data_loading, stages, plan;
    uint64_t top;
    char names[TEXT_SIZE];
    char path[TEXT_SIZE]; /* the first operand */
    char **pictures;      /* the others */
    unsigned picture_count;

    uint8_t source[FLAG_MAX]; /* enum source of each row of the table */
};

enum format { FORMAT_TEXT, FORMAT_JSON };
enum bench_mode { MODE_TRAIN, MODE_INFER };

enum flag_kind {
    FLAG_SWITCH, /* --name, or --no-name */
    FLAG_COUNT,  /* a whole number in [min, max] */
    FLAG_REAL,   /* a number in [min, max] */
    FLAG_TEXT,
    FLAG_MAYBE,  /* text that may be left out */
    FLAG_CHOICE, /* one of `choices` */
    FLAG_EXTENT  /* N for a square, HxW for any */
};

/* What a flag is to a resumed run. */
enum flag_life {
    LIFE_FIXED, /* part of what is computed: kept in args.json, can't change */
    LIFE_OPEN,  /* kept in args.json, a later call may say otherwise */
    LIFE_CALL   /* says something about one call, not kept */
};

struct flag {
    const char *name;
    const char *operand; /* as --help shows it */
    enum flag_kind kind;
    enum flag_life life;
    unsigned verbs;
    size_t offset; /* in struct settings */
    double min, max;
    const char *const *choices;
    const char *help;
    const char *heading; /* of the group that begins here in --help, else NULL */
};

extern const struct flag flags[];
extern const unsigned flag_count;

/* Where a value came from, by the name of its field. */
#define SOURCE(s, field) settings_source(s, offsetof(struct settings, field))
enum source settings_source(const struct settings *s, size_t offset);

/* Set every field to its default. */
void settings_init(struct settings *s);

/* Read a command line, the arguments after the verb. Presets take effect first. */
int settings_parse(struct settings *s, enum verb verb, int argc, char **argv);

/* Set one flag from text; a NULL value is a switch. Says what is wrong, returns
 * STATUS_USAGE. */
int settings_set(struct settings *s, const struct flag *flag, const char *value,
                 enum source source);

/* Does the command line say which network is meant? */
bool settings_name_network(const struct settings *s);

/* Apply a preset by name. */
int settings_preset(struct settings *s, const char *name);

/* Let the network and the data that the user named win over the preset's. */
void settings_over_preset(struct settings *s);

/* Unless the user named another rule, that by which pictures are made smaller. */
void settings_for_pictures(struct settings *s);

/* A value as text, in the form that settings_set() reads. */
void settings_text(const struct settings *s, const struct flag *flag,
                   char text[TEXT_SIZE]);

/* The row of a flag by its name without dashes, NULL if there is none. */
const struct flag *flag_find(const char *name);

/* The choices of a flag, with commas between. */
void flag_choices(const struct flag *flag, char text[TEXT_SIZE]);

/* The flag of a verb that is nearest to a misspelt one, or that other programs call so;
 * NULL if there is none. */
const char *flag_nearest(const char *name, enum verb verb);

/* The word of `words` nearest to a misspelt one, whatever its case; NULL if none is
 * near. */
const char *word_nearest(const char *word, const char *const *words);

/* The help page of a verb, on stdout. */
void help_verb(enum verb verb);

/* Refuse what can't be meant, as far as it shows without data or a device. */
int settings_check(const struct settings *s);

/* What the settings mean to the library. */
const char *dataset_name(const struct settings *s);
bool has_pictures(const struct settings *s); /* is it a folder of pictures? */
struct extent dataset_extent(const struct settings *s); /* of an image */
int settings_transform(const struct settings *s, vgg_transform *out);
int settings_optimizer(const struct settings *s, vgg_optimizer *out);
int settings_schedule(const struct settings *s, vgg_schedule *out);

/* The architecture for samples of a shape and a number of classes; NULL and 0: those of
 * the architecture itself. Values that it decides are written back to the settings. */
int settings_arch(struct settings *s, const vgg_shape *sample, uint32_t classes,
                  vgg_arch *out);

#endif
