/* SPDX-License-Identifier: Apache-2.0 */
/* Named recipes, and what settings mean to the library. */
#include "settings.h"

#include <stdlib.h>
#include <string.h>

enum { PRESET_FLAGS = 24 };

/* A preset is a list of flags as one would type them. */
static const struct {
    const char *name;
    const char *flags[PRESET_FLAGS][2];
} presets[] = {
    /* "Dive into Deep Learning", chapter "Networks Using Blocks (VGG)": 10 epochs of
     * plain SGD on Fashion-MNIST at 224 x 224. */
    {"d2l",
     {{"arch", "d2l"},
      {"ratio", "4"},
      {"dataset", "fashion-mnist"},
      {"resize", "224"},
      {"resize-rule", "opencv"},
      {"normalize", "none"},
      {"batch", "128"},
      {"epochs", "10"},
      {"lr", "0.005"},
      {"optimizer", "sgd"},
      {"sched", "constant"},
      {"init", "xavier"},
      {"dropout", "0.5"}}},
    /* A small VGG on the images as they are. */
    {"quick",
     {{"blocks", "1x64,1x128,1x256"},
      {"ratio", "4"},
      {"hidden", "128"},
      {"dropout", "0"},
      {"dataset", "fashion-mnist"},
      {"normalize", "fashion-mnist"},
      {"flip", "0.5"},
      {"batch", "64"},
      {"epochs", "8"},
      {"lr", "0.04"},
      {"optimizer", "sgd"},
      {"momentum", "0.9"},
      {"nesterov", NULL},
      {"weight-decay", "0.0005"},
      {"sched", "cosine"},
      {"warmup-epochs", "0.2"},
      {"init", "he"}}},
};

int settings_preset(struct settings *s, const char *name)
{
    static const char *const names[] = {"d2l", "quick", NULL};
    for (unsigned i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name) != 0) continue;
        snprintf(s->preset, sizeof s->preset, "%s", name);
        for (unsigned k = 0; k < PRESET_FLAGS && presets[i].flags[k][0]; k++) {
            const struct flag *flag = flag_find(presets[i].flags[k][0]);
            const int status =
                settings_set(s, flag, presets[i].flags[k][1], FROM_PRESET);
            if (status != 0) return status;
        }
        return 0;
    }
    const char *near = word_nearest(name, names);
    return misuse("--preset: expected d2l or quick, found '%.80s'%s%s%s", name,
                  near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
}

/* Take a preset's value back. */
static void drop(struct settings *s, const char *name)
{
    static struct settings fresh;
    const struct flag *flag = flag_find(name);
    if (s->source[flag - flags] != FROM_PRESET) return;
    settings_init(&fresh);
    const size_t size = flag->kind == FLAG_TEXT ? TEXT_SIZE : sizeof(uint64_t);
    memcpy((char *)s + flag->offset, (const char *)&fresh + flag->offset, size);
    s->source[flag - flags] = FROM_DEFAULT;
}

void settings_over_preset(struct settings *s)
{
    const bool arch = SOURCE(s, arch) == FROM_USER;
    const bool blocks = SOURCE(s, blocks) == FROM_USER;
    if (arch || blocks) drop(s, "ratio");
    if (arch) {
        drop(s, "blocks");
        drop(s, "hidden");
        drop(s, "dropout");
    }
    if (SOURCE(s, dataset) != FROM_USER) return;
    if (SOURCE(s, normalize) == FROM_PRESET && s->normalize != 0)
        settings_set(s, flag_find("normalize"),
                     has_pictures(s) ? "imagenet" : dataset_name(s), FROM_PRESET);
}

/* Pictures are larger than what a network sees: all their pixels are to count. */
void settings_for_pictures(struct settings *s)
{
    if (SOURCE(s, resize_rule) != FROM_USER)
        settings_set(s, flag_find("resize-rule"), "pillow", FROM_PRESET);
}

const char *dataset_name(const struct settings *s)
{
    return flag_find("dataset")->choices[s->dataset];
}

bool has_pictures(const struct settings *s)
{
    return strcmp(dataset_name(s), "folder") == 0;
}

int settings_transform(const struct settings *s, vgg_transform *out)
{
    *out = (vgg_transform)VGG_TRANSFORM_INIT;
    out->resize_height = s->resize.height;
    out->resize_width = s->resize.width;
    out->resize_rule = (uint32_t)s->resize_rule;
    out->crop_height = s->crop.height;
    out->crop_width = s->crop.width;
    out->shift = (uint32_t)s->shift;
    out->flip = (float)s->flip;
    out->erase = (float)s->erase;
    const char *name = flag_find("normalize")->choices[s->normalize];
    if (vgg_transform_normalize(out, name) != VGG_OK) return fail_vgg("--normalize");
    if (!has_pictures(s) || s->channels != 1 || strcmp(name, "imagenet") != 0) return 0;
    out->mean[0] = (out->mean[0] + out->mean[1] + out->mean[2]) / 3.0f; /* in gray */
    out->std[0] = (out->std[0] + out->std[1] + out->std[2]) / 3.0f;
    return 0;
}

int settings_optimizer(const struct settings *s, vgg_optimizer *out)
{
    *out = (vgg_optimizer)VGG_OPTIMIZER_INIT;
    out->kind = (uint32_t)s->optimizer;
    out->nesterov = (uint32_t)s->nesterov;
    out->momentum = s->momentum;
    out->weight_decay = s->weight_decay;
    if (s->optimizer != VGG_SGD &&
        (SOURCE(s, momentum) == FROM_USER || SOURCE(s, nesterov) == FROM_USER) &&
        (s->momentum != 0.0 || s->nesterov))
        return misuse(
            "--momentum and --nesterov are of --optimizer sgd; leave them out");
    if (s->nesterov && s->momentum == 0.0)
        return misuse("--nesterov needs a --momentum above 0");
    return 0;
}

/* "30,60,80" */
static int read_milestones(const char *text, vgg_schedule *out)
{
    const char *at = text;
    out->milestone_count = 0;
    while (*at) {
        char *end;
        const unsigned long epoch = strtoul(at, &end, 10);
        const uint32_t before =
            out->milestone_count ? out->milestones[out->milestone_count - 1] : 0;
        if (end == at || (*end != ',' && *end != '\0') || epoch <= before ||
            epoch > 1000000 || out->milestone_count == VGG_MAX_MILESTONES)
            return misuse("--milestones: expected at most %d rising epochs such as "
                          "30,60,80, found '%.80s'",
                          VGG_MAX_MILESTONES, text);
        out->milestones[out->milestone_count++] = (uint32_t)epoch;
        at = *end == ',' ? end + 1 : end;
    }
    return 0;
}

int settings_schedule(const struct settings *s, vgg_schedule *out)
{
    *out = (vgg_schedule)VGG_SCHEDULE_INIT;
    out->kind = (uint32_t)s->sched;
    out->step_epochs = (uint32_t)s->step_epochs;
    out->gamma = s->gamma;
    out->min_lr = s->min_lr;
    out->warmup_epochs = s->warmup_epochs;
    const int status = read_milestones(s->milestones, out);
    if (status == 0 && s->sched == VGG_SCHEDULE_MULTISTEP && out->milestone_count == 0)
        return misuse("--sched multistep needs --milestones");
    return status;
}

/* Refuse flags that the schedule has no use for, and those that can't be meant
 * together. A resumed run's are in args.json, said again or not, and were taken when it
 * began. */
static int check_schedule(const struct settings *s)
{
    static const struct {
        const char *flag, *names;
        unsigned kinds; /* 1 << kind, or-ed */
    } uses[] = {
        {"step-epochs", "step", 1 << VGG_SCHEDULE_STEP},
        {"gamma", "step or multistep",
         1 << VGG_SCHEDULE_STEP | 1 << VGG_SCHEDULE_MULTISTEP},
        {"milestones", "multistep", 1 << VGG_SCHEDULE_MULTISTEP},
        {"min-lr", "cosine", 1 << VGG_SCHEDULE_COSINE},
    };
    if (SOURCE(s, resume) == FROM_USER) return 0;
    for (unsigned i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        const struct flag *flag = flag_find(uses[i].flag);
        if (s->source[flag - flags] == FROM_USER && !(uses[i].kinds >> s->sched & 1))
            return misuse("--%s is of --sched %s, and the schedule is %s; leave it out",
                          flag->name, uses[i].names,
                          flag_find("sched")->choices[s->sched]);
    }
    if (s->warmup_epochs > (double)s->epochs)
        return misuse("--warmup-epochs %g is longer than --epochs %llu; take fewer",
                      s->warmup_epochs, (unsigned long long)s->epochs);
    if (s->sched == VGG_SCHEDULE_COSINE && s->min_lr > s->lr)
        return misuse("--min-lr %g is above --lr %g, and a cosine falls; take less",
                      s->min_lr, s->lr);
    return 0;
}

/* "1x64,1x128,2x256": convolutions x channels of each block; "3x256p1" has its last
 * convolution pointwise. */
static int read_blocks(const char *text, vgg_arch *arch)
{
    const char *at = text;
    arch->block_count = 0;
    while (*at) {
        unsigned convs = 0, channels = 0, pointwise = 0;
        int used = 0;
        const bool digit = *at >= '1' && *at <= '9';
        const bool pair =
            digit && sscanf(at, "%3ux%6u%n", &convs, &channels, &used) == 2 && used > 0;
        at += pair ? used : 0;
        if (pair && *at == 'p' && sscanf(at + 1, "%3u%n", &pointwise, &used) == 1)
            at += 1 + used;
        if (!pair || channels == 0 || pointwise > convs ||
            (*at != ',' && *at != '\0') || (*at == ',' && at[1] == '\0') ||
            arch->block_count == VGG_MAX_BLOCKS)
            return misuse(
                "--blocks: expected at most %d blocks such as 1x64,1x128,2x256 "
                "(convolutions x channels), found '%.80s'",
                VGG_MAX_BLOCKS, text);
        arch->blocks[arch->block_count++] = (vgg_block){convs, channels, pointwise};
        if (*at == ',') at++;
    }
    return 0;
}

int settings_check(const struct settings *s)
{
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_optimizer optimizer;
    vgg_schedule schedule;
    if (vgg_arch_preset(s->arch, &arch) != VGG_OK)
        return misuse("--arch: %s", vgg_last_error());
    if (s->new_head && !s->init_weights[0] && SOURCE(s, resume) != FROM_USER)
        return misuse(
            "--new-head needs --init-weights PATH, whose other layers it keeps");
    if (SOURCE(s, fit) == FROM_USER && !has_pictures(s) &&
        SOURCE(s, resume) != FROM_USER && strcmp(verb_name, "predict") != 0)
        return misuse("--fit is of pictures (--dataset folder), and the data set is "
                      "%s; leave it out",
                      dataset_name(s));
    int status = s->blocks[0] ? read_blocks(s->blocks, &arch) : 0;
    if (status == 0) status = settings_optimizer(s, &optimizer);
    if (status == 0) status = settings_schedule(s, &schedule);
    return status == 0 ? check_schedule(s) : status;
}

/* What is known of data sets that are not opened. */
static const struct {
    uint32_t channels, side, classes;
} known[] = {{1, 28, 10}, {1, 28, 10}, {3, 32, 10}, {3, 32, 100}};

struct extent dataset_extent(const struct settings *s)
{
    if (has_pictures(s)) return s->resize; /* as they are read */
    return (struct extent){known[s->dataset].side, known[s->dataset].side};
}

/* Image size and classes of a data set that is known but not opened. */
static void known_data(const struct settings *s, vgg_arch *arch)
{
    if (SOURCE(s, dataset) == FROM_DEFAULT) return;
    if (has_pictures(s)) {
        arch->channels = 3;
        return;
    }
    arch->channels = known[s->dataset].channels;
    arch->height = arch->width = known[s->dataset].side;
    arch->classes = known[s->dataset].classes;
}

/* What the user, args.json or a preset said wins over the named architecture, and the
 * named architecture over the table's default. */
static void merge_arch(struct settings *s, vgg_arch *arch)
{
    if (SOURCE(s, channels)) arch->channels = (uint32_t)s->channels;
    if (SOURCE(s, classes)) arch->classes = (uint32_t)s->classes;
    if (SOURCE(s, hidden)) arch->hidden = (uint32_t)s->hidden;
    if (SOURCE(s, dropout)) arch->dropout = (float)s->dropout;
    if (SOURCE(s, head)) arch->head = (uint32_t)s->head;
    if (SOURCE(s, pool)) arch->pool = (uint32_t)s->pool;
    if (SOURCE(s, bn)) arch->batch_norm = (uint32_t)s->bn;
    s->channels = arch->channels;
    s->classes = arch->classes;
    s->hidden = arch->hidden;
    if (!SOURCE(s, dropout)) s->dropout = arch->dropout;
    s->head = arch->head;
    s->pool = arch->pool;
    s->bn = arch->batch_norm;
}

int settings_arch(struct settings *s, const vgg_shape *sample, uint32_t classes,
                  vgg_arch *out)
{
    *out = (vgg_arch)VGG_ARCH_INIT;
    if (vgg_arch_preset(s->arch, out) != VGG_OK)
        return misuse("--arch: %s", vgg_last_error());
    if (s->blocks[0]) {
        const int status = read_blocks(s->blocks, out);
        if (status != 0) return status;
    }
    if (sample) {
        out->channels = sample->dim[0];
        out->height = sample->dim[1];
        out->width = sample->dim[2];
        out->classes = classes;
    } else {
        known_data(s, out);
        if (has_pictures(s) && s->resize.height == 0 && s->crop.height == 0)
            return misuse("pictures have many sizes: say with --resize N[xM] to which "
                          "one they are brought");
        const struct extent size = s->crop.height ? s->crop : s->resize;
        if (size.height) out->height = size.height;
        if (size.height) out->width = size.width;
    }
    merge_arch(s, out);
    if (sample && out->head == VGG_HEAD_NONE)
        return misuse("--head none has no classes to tell apart: take another one");
    if (SOURCE(s, hidden) == FROM_USER && out->hidden > 0 &&
        (out->head == VGG_HEAD_NONE || out->head == VGG_HEAD_GAP))
        return misuse(
            "--hidden %u has no meaning with --head %s: leave one of them out",
            (unsigned)out->hidden, flag_find("head")->choices[out->head]);
    if (sample && (out->channels != sample->dim[0] || out->classes < classes))
        return misuse(
            "--channels %u and --classes %u do not fit the data, which has %u "
            "and %u: leave both out, they follow it",
            (unsigned)out->channels, (unsigned)out->classes, (unsigned)sample->dim[0],
            (unsigned)classes);
    const vgg_status status = vgg_arch_check(out, (uint32_t)s->ratio);
    if (status == VGG_ESHAPE)
        return misuse("%s: try a larger --resize or fewer --blocks", vgg_last_error());
    if (status != VGG_OK) return misuse("%s", vgg_last_error());
    return 0;
}
