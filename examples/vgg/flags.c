/* SPDX-License-Identifier: Apache-2.0 */
/* The table of flags. Defaults that are not zero or the first choice are the chapter's
 * recipe, and are set in settings_init(). */
#include "settings.h"

#include <string.h>

#define AT(field) offsetof(struct settings, field)
#define NET       (TRAIN | INFO | BENCH)
#define USE       (EVAL | PREDICT)
#define NAMED     (NET | USE) /* of weights that do not say it */
#define ALL       (TRAIN | USE | INFO | DEVICES | BENCH)

static const char *const datasets[] = {"fashion-mnist", "mnist",  "cifar10",
                                       "cifar100",      "folder", NULL};
static const char *const fits[] = {"cover", "stretch", NULL};
static const char *const rules[] = {"opencv", "exact", "pillow", NULL};
static const char *const heads[] = {"flatten", "adaptive", "gap", "none", NULL};
static const char *const pools[] = {"max", "average", NULL};
static const char *const inits[] = {"xavier", "torchvision", "he", NULL};
static const char *const normals[] = {
    "none", "imagenet", "fashion-mnist", "mnist", "cifar10", "cifar100", NULL};
static const char *const optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const schedules[] = {"constant", "step", "multistep", "cosine",
                                        NULL};
static const char *const gemms[] = {"auto", "openblas", "own", NULL};
static const char *const convs[] = {"auto",      "columns",  "winograd2",
                                    "winograd4", "measured", NULL};
static const char *const precisions[] = {"fp32", "tf32", "bf16", NULL};
static const char *const weight_kinds[] = {"fp32", "bf16", NULL};
static const char *const formats[] = {"text", "json", NULL};
static const char *const modes[] = {"train", "infer", NULL};
static const char *const splits[] = {"test", "train", NULL};

/* clang-format off */
const struct flag flags[] = {
    {"preset", "NAME", FLAG_TEXT, LIFE_FIXED, NAMED, AT(preset), 0, 0, NULL,
     "d2l: the chapter's recipe; quick: 0.92 test accuracy in a minute", "Recipe"},

    {"arch", "NAME", FLAG_TEXT, LIFE_FIXED, NAMED, AT(arch), 0, 0, NULL,
     "d2l, vgg11, vgg13, vgg16, vgg16c, vgg19, with _bn; or A to E", "Network"},
    {"blocks", "LIST", FLAG_TEXT, LIFE_FIXED, NAMED, AT(blocks), 0, 0, NULL,
     "own blocks: 1x64,1x128,2x256 is convolutions x channels; the rest is of --arch",
     NULL},
    {"ratio", "N", FLAG_COUNT, LIFE_FIXED, NAMED, AT(ratio), 1, 4096, NULL,
     "divide the channels of every block", NULL},
    {"bn", NULL, FLAG_SWITCH, LIFE_FIXED, NAMED, AT(bn), 0, 1, NULL,
     "batch normalisation after every convolution", NULL},
    {"channels", "N", FLAG_COUNT, LIFE_FIXED, NAMED, AT(channels), 1, 4096, NULL,
     "channels of the input image (train: the data's)", NULL},
    {"classes", "N", FLAG_COUNT, LIFE_FIXED, NAMED, AT(classes), 1, 1e6, NULL,
     "number of outputs (train: the data's)", NULL},
    {"hidden", "N", FLAG_COUNT, LIFE_FIXED, NAMED, AT(hidden), 0, 1e6, NULL,
     "width of the two hidden linear layers, 0 for none", NULL},
    {"dropout", "P", FLAG_REAL, LIFE_FIXED, NAMED, AT(dropout), 0, 0.9999, NULL,
     "rate after each hidden linear layer", NULL},
    {"head", "KIND", FLAG_CHOICE, LIFE_FIXED, NAMED, AT(head), 0, 0, heads,
     "what stands between blocks and classes", NULL},
    {"pool", "KIND", FLAG_CHOICE, LIFE_FIXED, NAMED, AT(pool), 0, 0, pools,
     "how a 2x2 window is reduced", NULL},
    {"init", "RULE", FLAG_CHOICE, LIFE_FIXED, TRAIN, AT(init), 0, 0, inits,
     "first values of the parameters", NULL},
    {"init-weights", "PATH", FLAG_TEXT, LIFE_FIXED, TRAIN, AT(init_weights), 0, 0, NULL,
     "start from a safetensors file, or a run's or checkpoint's", NULL},
    {"new-head", NULL, FLAG_SWITCH, LIFE_FIXED, TRAIN, AT(new_head), 0, 1, NULL,
     "with --init-weights: layers of another shape there begin anew", NULL},

    {"data", "DIR", FLAG_TEXT, LIFE_OPEN, TRAIN | EVAL | BENCH, AT(data), 0, 0, NULL,
     "folder of the data set's files as published, or of one's pictures", "Data"},
    {"dataset", "NAME", FLAG_CHOICE, LIFE_FIXED, NET | EVAL, AT(dataset),
     0, 0, datasets,
     "which data set the folder holds; folder: pictures of one's own, in "
     "train/CLASS/ and test/CLASS/", NULL},
    {"resize", "N[xM]", FLAG_EXTENT, LIFE_FIXED, NAMED, AT(resize), 0, 0, NULL,
     "bring images to N x N (or N high, M wide) pixels", NULL},
    {"fit", "HOW", FLAG_CHOICE, LIFE_FIXED, TRAIN | BENCH | USE, AT(fit), 0, 0, fits,
     "pictures: cover the size, the rest cut off, or be stretched to it", NULL},
    {"cache", "MB", FLAG_COUNT, LIFE_OPEN, TRAIN | BENCH, AT(cache), 0, 1e6, NULL,
     "pictures: memory for those that were read once, 0 for none", NULL},
    {"resize-rule", "RULE", FLAG_CHOICE, LIFE_FIXED, TRAIN | BENCH | USE,
     AT(resize_rule), 0, 0, rules,
     "whose bilinear rounding; of pictures pillow unless given", NULL},
    {"normalize", "NAME", FLAG_CHOICE, LIFE_FIXED, TRAIN | BENCH | USE,
     AT(normalize), 0, 0, normals, "subtract the mean and divide by the deviation of",
     NULL},
    {"crop", "N[xM]", FLAG_EXTENT, LIFE_FIXED, NAMED, AT(crop), 0, 0, NULL,
     "cut out the centre after resizing", NULL},
    {"flip", "P", FLAG_REAL, LIFE_FIXED, TRAIN | BENCH, AT(flip), 0, 1, NULL,
     "training: chance of a horizontal flip", NULL},
    {"shift", "N", FLAG_COUNT, LIFE_FIXED, TRAIN | BENCH, AT(shift), 0, 4096, NULL,
     "training: move by up to N pixels", NULL},
    {"erase", "P", FLAG_REAL, LIFE_FIXED, TRAIN | BENCH, AT(erase), 0, 1, NULL,
     "training: chance to erase a rectangle", NULL},

    {"batch", "N", FLAG_COUNT, LIFE_FIXED, TRAIN | EVAL | INFO | BENCH, AT(batch),
     1, 1e6, NULL, "images a batch", "Training"},
    {"epochs", "N", FLAG_COUNT, LIFE_OPEN, TRAIN, AT(epochs), 1, 1e6, NULL,
     "passes over the training images", NULL},
    {"lr", "X", FLAG_REAL, LIFE_FIXED, TRAIN, AT(lr), 1e-12, 1e6, NULL,
     "learning rate", NULL},
    {"optimizer", "NAME", FLAG_CHOICE, LIFE_FIXED, TRAIN | BENCH, AT(optimizer), 0, 0,
     optimizers, "how gradients change parameters", NULL},
    {"momentum", "X", FLAG_REAL, LIFE_FIXED, TRAIN | BENCH, AT(momentum), 0, 0.999999,
     NULL, "of sgd", NULL},
    {"nesterov", NULL, FLAG_SWITCH, LIFE_FIXED, TRAIN | BENCH, AT(nesterov), 0, 1, NULL,
     "Nesterov's momentum", NULL},
    {"weight-decay", "X", FLAG_REAL, LIFE_FIXED, TRAIN | BENCH, AT(weight_decay),
     0, 1e3, NULL, "pull of every parameter towards zero", NULL},
    {"sched", "NAME", FLAG_CHOICE, LIFE_FIXED, TRAIN, AT(sched), 0, 0, schedules,
     "how the learning rate moves", NULL},
    {"step-epochs", "N", FLAG_COUNT, LIFE_FIXED, TRAIN, AT(step_epochs), 1, 1e6, NULL,
     "step: every so many epochs", NULL},
    {"gamma", "X", FLAG_REAL, LIFE_FIXED, TRAIN, AT(gamma), 1e-12, 1e6, NULL,
     "step, multistep: factor on the rate", NULL},
    {"milestones", "LIST", FLAG_TEXT, LIFE_FIXED, TRAIN, AT(milestones), 0, 0, NULL,
     "multistep: epochs, for instance 30,60,80", NULL},
    {"min-lr", "X", FLAG_REAL, LIFE_FIXED, TRAIN, AT(min_lr), 0, 1e6, NULL,
     "cosine: where the rate ends", NULL},
    {"warmup-epochs", "X", FLAG_REAL, LIFE_FIXED, TRAIN, AT(warmup_epochs), 0, 1e6,
     NULL, "rise to the learning rate over X epochs", NULL},
    {"label-smoothing", "X", FLAG_REAL, LIFE_FIXED, TRAIN, AT(label_smoothing),
     0, 0.9999, NULL, "share of the target given to all classes", NULL},
    {"clip-norm", "X", FLAG_REAL, LIFE_FIXED, TRAIN, AT(clip_norm), 0, 1e30, NULL,
     "shorten gradients longer than this, 0 for never", NULL},
    {"grad-accum", "N", FLAG_COUNT, LIFE_FIXED, TRAIN, AT(grad_accum), 1, 1e6, NULL,
     "batches whose gradients make one step", NULL},
    {"seed", "N", FLAG_COUNT, LIFE_FIXED, TRAIN | BENCH, AT(seed), 0,
     18446744073709551615.0, NULL, "of everything random", NULL},

    {"device", "NAME", FLAG_TEXT, LIFE_OPEN, TRAIN | USE | INFO | BENCH, AT(device),
     0, 0, NULL, "auto, or a name that `vgg devices` prints", "Machine"},
    {"precision", "KIND", FLAG_CHOICE, LIFE_OPEN, TRAIN | USE | INFO | BENCH,
     AT(precision), 0, 0, precisions,
     "of the arithmetic; on cuda bf16 is the fast one", NULL},
    {"weights", "KIND", FLAG_CHOICE, LIFE_CALL, USE | BENCH, AT(weights), 0, 0,
     weight_kinds, "how linear layers keep theirs; bf16 halves what is read", NULL},
    {"deterministic", NULL, FLAG_SWITCH, LIFE_OPEN, TRAIN | USE | INFO | BENCH,
     AT(deterministic), 0, 1, NULL,
     "on cuda: the same bits in every run, as elsewhere by default", NULL},
    {"threads", "N", FLAG_COUNT, LIFE_OPEN, ALL, AT(threads), 0, 1024, NULL,
     "threads to use, 0 for all; results do not depend on it", NULL},
    {"gemm", "NAME", FLAG_CHOICE, LIFE_FIXED, ALL, AT(gemm), 0, 0, gemms,
     "whose matrix product", NULL},
    {"conv", "NAME", FLAG_CHOICE, LIFE_FIXED, ALL, AT(conv), 0, 0, convs,
     "how the processor computes 3x3 convolutions", NULL},

    {"out", "DIR", FLAG_TEXT, LIFE_CALL, TRAIN, AT(out), 0, 0, NULL,
     "run directory (runs/NAME-DATE-TIME)", "Run"},
    {"resume", "[DIR]", FLAG_MAYBE, LIFE_CALL, TRAIN, AT(resume), 0, 0, NULL,
     "go on with a run (--out's, or the latest in runs/)", NULL},
    {"steps", "N", FLAG_COUNT, LIFE_CALL, TRAIN | BENCH, AT(steps), 1, 1e15, NULL,
     "train: stop after step N of the run; bench: measure N (20)", NULL},
    {"save-every", "MIN", FLAG_REAL, LIFE_OPEN, TRAIN, AT(save_every), 0, 1e6, NULL,
     "minutes between checkpoints within an epoch", NULL},
    {"split", "NAME", FLAG_CHOICE, LIFE_CALL, EVAL, AT(split), 0, 0, splits,
     "which images of the data set", NULL},
    {"top", "N", FLAG_COUNT, LIFE_CALL, PREDICT, AT(top), 1, 1e6, NULL,
     "classes to show of each picture", NULL},
    {"names", "FILE", FLAG_TEXT, LIFE_CALL, USE, AT(names), 0, 0, NULL,
     "the classes' names, a line each, of weights that have none", NULL},
    {"layers", NULL, FLAG_SWITCH, LIFE_CALL, INFO, AT(layers), 0, 1, NULL,
     "every layer, not only every block", NULL},
    {"mode", "MODE", FLAG_CHOICE, LIFE_CALL, BENCH, AT(mode), 0, 0, modes,
     "what a step is", NULL},
    {"warmup", "N", FLAG_COUNT, LIFE_CALL, BENCH, AT(warmup), 0, 1e9, NULL,
     "steps before the clock starts", NULL},
    {"data-loading", NULL, FLAG_SWITCH, LIFE_CALL, BENCH, AT(data_loading), 0, 1, NULL,
     "real images, loading included, not random ones", NULL},
    {"stages", NULL, FLAG_SWITCH, LIFE_CALL, BENCH, AT(stages), 0, 1, NULL,
     "text: a row a stage; --no-stages: the summary alone", NULL},
    {"plan", NULL, FLAG_SWITCH, LIFE_CALL, BENCH, AT(plan), 0, 1, NULL,
     "text: how each stage is computed and what it holds, in full", NULL},

    {"quiet", NULL, FLAG_SWITCH, LIFE_CALL, TRAIN, AT(quiet), 0, 1, NULL,
     "no progress at all, only the result", "Output"},
    {"no-progress", NULL, FLAG_SWITCH, LIFE_CALL, TRAIN, AT(no_progress), 0, 1, NULL,
     "a line an epoch, no bar even on a terminal", NULL},
    {"format", "FORM", FLAG_CHOICE, LIFE_CALL, ALL, AT(format), 0, 0, formats,
     "json: one object on stdout and nothing else there", NULL},
};
/* clang-format on */

const unsigned flag_count = sizeof flags / sizeof flags[0];
_Static_assert(sizeof flags / sizeof flags[0] <= FLAG_MAX, "settings.source is short");

const struct flag *flag_find(const char *name)
{
    for (unsigned i = 0; i < flag_count; i++)
        if (strcmp(flags[i].name, name) == 0) return &flags[i];
    return NULL;
}

void flag_choices(const struct flag *flag, char text[TEXT_SIZE])
{
    size_t length = 0;
    for (unsigned i = 0; flag->choices[i]; i++)
        length += (size_t)snprintf(text + length, TEXT_SIZE - length, "%s%s",
                                   i > 0 ? ", " : "", flag->choices[i]);
}
