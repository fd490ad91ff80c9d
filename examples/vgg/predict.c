/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg predict`: what trained weights see in pictures. */
#include "files.h"
#include "json.h"
#include "listing.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MOST = 32 };

/* A class and how likely it is. */
struct guess {
    uint32_t index;
    double probability;
};

struct prediction {
    struct session it;
    struct settings *s;
    vgg_transform transform;
    struct look look;
    struct names files, classes; /* classes: their names; there may be too few */
    uint32_t outputs, top, batch;
    vgg_plan *plan;
    vgg_tensor *images, *logits; /* f32 [batch][c][h][w], [batch][outputs] */
    vgg_tensor *seen;            /* u8 [c][h][w]: one of them before its transform */
    struct guess *guesses;       /* [file][top], the likeliest first */
    char **why;                  /* of a file that could not be read, else NULL */
    struct guess *order;         /* [outputs]: of one picture, to be sorted */
    int file_width, class_width; /* columns */
    bool failed;                 /* there was such a file */
};

/* ---- Weights --------------------------------------------------------------------- */

/* Weights that say what the network is and what it was shown. */
static int open_saved(struct prediction *p)
{
    char folder[TEXT_SIZE];
    int status = session_weights(&p->it, p->s->path, folder);
    if (status == 0) status = session_names(&p->it, p->s);
    if (status == 0) status = card_read(&p->it, p->s, &p->transform);
    /* A picture that is larger than the data set's images is made smaller as pictures
     * are; those that training read so were, by the rule that it used. */
    if (status == 0 && !has_pictures(p->s)) p->s->resize_rule = VGG_RESIZE_PILLOW;
    return status;
}

/* Weights of a network that the command line names, which was shown pictures: their
 * size is --resize, or else the network's own and nothing is cut off. */
static int open_named(struct prediction *p)
{
    struct session *const it = &p->it;
    struct settings *const s = p->s;
    char folder[TEXT_SIZE];
    int status = session_find_weights(s->path, it->weights, folder);
    if (status == 0) status = session_check(it->ctx, it->weights);
    if (status == 0) status = session_names(it, s);
    if (status == 0) status = settings_transform(s, &p->transform);
    if (status == 0) status = session_model(it, s, NULL);
    if (status == 0) status = session_named_weights(it);
    if (status != 0) return status;
    const vgg_shape *const in = vgg_model_input_shape(it->model);
    s->image = s->resize;
    if (s->resize.height > 0) return 0;
    s->image = (struct extent){in->dim[1], in->dim[2]};
    p->transform.crop_height = p->transform.crop_width = 0;
    return 0;
}

/* What comes out of the transform must be what the network takes. */
static int check_size(const struct prediction *p)
{
    const vgg_shape *const in = vgg_model_input_shape(p->it.model);
    const vgg_transform *const t = &p->transform;
    uint32_t height = p->s->image.height, width = p->s->image.width;
    if (t->resize_height > 0) height = t->resize_height, width = t->resize_width;
    if (t->crop_height > 0) height = t->crop_height, width = t->crop_width;
    if (height == in->dim[1] && width == in->dim[2]) return 0;
    return fail("%s: resize and crop give images of %ux%u, and the network takes %ux%u",
                p->it.weights, (unsigned)height, (unsigned)width, (unsigned)in->dim[1],
                (unsigned)in->dim[2]);
}

/* A picture is brought to the size of the data set's images, and then goes the way that
 * they went. */
static int choose_look(struct prediction *p)
{
    struct settings *const s = p->s;
    const vgg_shape *const in = vgg_model_input_shape(p->it.model);
    const vgg_shape *const out = vgg_model_output_shape(p->it.model);
    if (in->dim[0] != 1 && in->dim[0] != 3)
        return fail(
            "%s: the network takes images of %u channels, and pictures are gray "
            "(1) or in colour (3)",
            p->it.weights, (unsigned)in->dim[0]);
    if (out->rank != 1)
        return fail("%s: the network has no classes to tell apart", p->it.weights);
    s->channels = in->dim[0];
    p->look = session_look(&p->it, s);
    p->look.height = s->image.height;
    p->look.width = s->image.width;
    p->outputs = out->dim[0];
    p->top = s->top < p->outputs ? (uint32_t)s->top : p->outputs;
    return check_size(p);
}

/* ---- Names of classes ------------------------------------------------------------ */

static int name_classes(struct prediction *p)
{
    const char *const saved = vgg_metadata_get(p->it.metadata, "app.classes");
    const char *const text = p->it.names ? p->it.names : saved ? saved : "";
    if (!names_add_lines(&p->classes, text))
        return fail("out of memory for the names of classes");
    if (!p->it.names || p->classes.count == p->outputs) return 0;
    return fail("--names %s: %s names, and the network has %s classes", p->s->names,
                grouped(p->classes.count), grouped(p->outputs));
}

/* A class's name, else its number. */
static const char *class_name(const struct prediction *p, uint32_t index)
{
    static char number[16];
    if (index < p->classes.count) return p->classes.at[index];
    snprintf(number, sizeof number, "%u", (unsigned)index);
    return number;
}

/* ---- Pictures -------------------------------------------------------------------- */

/* A file, or all pictures of a folder. */
static int add_operand(struct prediction *p, const char *path)
{
    char inside[4096];
    struct names found = {NULL, 0, 0};
    if (!is_folder(path))
        return names_add(&p->files, path) ? 0 : fail("out of memory for file names");
    uint64_t others = 0;
    int status = list_pictures(path, &found, &others);
    if (status == 0 && found.count == 0)
        status =
            fail("%s: no pictures in it (%s by their names' ends)%s", path,
                 picture_kinds(), others ? "; folders within it are not entered" : "");
    const size_t length = strlen(path);
    const int kept = (int)(length > 1 && path[length - 1] == '/' ? length - 1 : length);
    for (size_t i = 0; status == 0 && i < found.count; i++) {
        const int size =
            snprintf(inside, sizeof inside, "%.*s/%s", kept, path, found.at[i]);
        if (size >= (int)sizeof inside || !names_add(&p->files, inside))
            status = fail("out of memory for file names");
    }
    names_free(&found);
    return status;
}

static int find_files(struct prediction *p)
{
    int status = 0;
    for (unsigned i = 0; status == 0 && i < p->s->picture_count; i++)
        status = add_operand(p, p->s->pictures[i]);
    return status;
}

/* ---- Computing ------------------------------------------------------------------- */

static int open_plan(struct prediction *p)
{
    const struct settings *const s = p->s;
    const vgg_shape *const in = vgg_model_input_shape(p->it.model);
    const struct look *const look = &p->look;
    const size_t files = p->files.count;
    p->batch = files < BATCH_MOST ? (uint32_t)files : BATCH_MOST;
    const vgg_shape seen = {3, {look->channels, look->height, look->width}};
    const vgg_shape images = {4, {p->batch, in->dim[0], in->dim[1], in->dim[2]}};
    const vgg_shape logits = {2, {p->batch, p->outputs}};
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = p->batch;
    opts.precision = session_precision(s);
    opts.weights = session_weight_kind(s);
    opts.deterministic = (uint32_t)s->deterministic;
    if (vgg_plan_create(p->it.model, p->it.device, &opts, &p->plan) != VGG_OK ||
        vgg_tensor_create(p->it.ctx, VGG_U8, &seen, &p->seen) != VGG_OK ||
        vgg_tensor_create(p->it.ctx, VGG_F32, &images, &p->images) != VGG_OK ||
        vgg_tensor_create(p->it.ctx, VGG_F32, &logits, &p->logits) != VGG_OK)
        return fail_vgg("prediction");
    p->guesses = calloc(files * p->top, sizeof *p->guesses);
    p->why = calloc(files, sizeof *p->why);
    p->order = calloc(p->outputs, sizeof *p->order);
    return p->guesses && p->why && p->order ? 0 : fail("out of memory for the results");
}

/* Of this file; the others go on. */
static int give_up(struct prediction *p, size_t file, const char *why)
{
    p->failed = true;
    p->why[file] = strdup(why);
    fail("%s: %s", p->files.at[file], why);
    return p->why[file] ? 0 : fail("out of memory for the results");
}

/* One picture into its row of the batch. A file that can't be read is told, and leaves
 * the row as it was. */
static int read_picture(struct prediction *p, size_t file, uint32_t row)
{
    char why[PICTURE_WHY];
    const char *const path = p->files.at[file];
    vgg_tensor *image = NULL;
    if (look_at(&p->look, path, vgg_tensor_data(p->seen), why) != 0)
        return give_up(p, file, why);
    const vgg_shape *const in = vgg_model_input_shape(p->it.model);
    float *const at = (float *)vgg_tensor_data(p->images) +
                      (size_t)row * in->dim[0] * in->dim[1] * in->dim[2];
    vgg_status status = vgg_tensor_wrap(p->it.ctx, VGG_F32, in, at, NULL, NULL, &image);
    if (status == VGG_OK)
        status = vgg_transform_apply(&p->transform, p->seen, 0, 0, 0, 0, image);
    vgg_tensor_free(image);
    return status == VGG_OK ? 0 : fail_vgg("prediction");
}

/* The likeliest first; of equal ones that with the lower number. */
static int by_probability(const void *a, const void *b)
{
    const struct guess *const x = a, *const y = b;
    if (x->probability != y->probability)
        return x->probability < y->probability ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

/* Softmax of one row of logits, in double; the top of it is kept. */
static int take_guesses(struct prediction *p, const float *logits, size_t file)
{
    double most = -INFINITY, sum = 0.0;
    for (uint32_t i = 0; i < p->outputs; i++) {
        if (!isfinite(logits[i]))
            return give_up(p, file, "an output is not a finite number");
        if (logits[i] > most) most = logits[i];
    }
    for (uint32_t i = 0; i < p->outputs; i++) {
        p->order[i] = (struct guess){i, exp(logits[i] - most)};
        sum += p->order[i].probability;
    }
    for (uint32_t i = 0; i < p->outputs; i++) p->order[i].probability /= sum;
    qsort(p->order, p->outputs, sizeof *p->order, by_probability);
    memcpy(p->guesses + file * p->top, p->order, p->top * sizeof *p->order);
    return 0;
}

/* Files `first` to `first + count - 1`. */
static int run_batch(struct prediction *p, size_t first, uint32_t count)
{
    vgg_tensor *in = NULL, *out = NULL;
    int status = 0;
    for (uint32_t i = 0; i < count && status == 0; i++)
        status = read_picture(p, first + i, i);
    if (status != 0) return status;
    if (vgg_tensor_view(p->images, 0, count, &in) != VGG_OK ||
        vgg_tensor_view(p->logits, 0, count, &out) != VGG_OK ||
        vgg_plan_forward(p->plan, in, out) != VGG_OK)
        status = fail_vgg("prediction");
    const float *const logits = vgg_tensor_data_const(p->logits);
    for (uint32_t i = 0; i < count && status == 0; i++)
        if (!p->why[first + i])
            status = take_guesses(p, logits + (size_t)i * p->outputs, first + i);
    vgg_tensor_free(in);
    vgg_tensor_free(out);
    return status;
}

/* ---- Telling --------------------------------------------------------------------- */

/* Columns of the widest name, within reason. */
static int width_of(const struct names *names, size_t most)
{
    char shown[256];
    size_t width = 0;
    for (size_t i = 0; i < names->count; i++) {
        const size_t length = strlen(printable(names->at[i], shown, sizeof shown));
        if (length > width) width = length;
    }
    return (int)(width < most ? width : most);
}

/* A line a picture, as soon as there is one. */
static void tell_text(const struct prediction *p, size_t first, size_t count)
{
    char file[1024], class[64];
    for (size_t i = first; i < first + count; i++) {
        if (p->why[i]) continue;
        printf("%-*s", p->file_width, printable(p->files.at[i], file, sizeof file));
        for (uint32_t k = 0; k < p->top; k++) {
            const struct guess *const guess = &p->guesses[i * p->top + k];
            printf("  %-*s %.4f", p->class_width,
                   printable(class_name(p, guess->index), class, 32),
                   guess->probability);
        }
        putchar('\n');
    }
    fflush(stdout);
}

static void tell_picture(struct json *j, const struct prediction *p, size_t file)
{
    json_object(j, NULL);
    json_text(j, "file", p->files.at[file]);
    if (p->why[file]) json_text(j, "error", p->why[file]);
    json_array(j, "classes");
    for (uint32_t k = 0; k < p->top && !p->why[file]; k++) {
        const struct guess *const guess = &p->guesses[file * p->top + k];
        json_object(j, NULL);
        json_count(j, "index", guess->index);
        json_text(j, "name", class_name(p, guess->index));
        json_real(j, "probability", guess->probability);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

static void tell_json(const struct prediction *p)
{
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_text(&j, "weights", p->it.weights);
    json_array(&j, "pictures");
    for (size_t i = 0; i < p->files.count; i++) tell_picture(&j, p, i);
    json_end(&j);
    json_text(&j, "device", vgg_device_name(p->it.device));
    json_text(&j, "precision", flag_find("precision")->choices[p->s->precision]);
    json_text(&j, "linear_weights", flag_find("weights")->choices[p->s->weights]);
    json_end(&j);
}

/* ---- The verb -------------------------------------------------------------------- */

static int predict(struct prediction *p)
{
    struct settings *const s = p->s;
    const bool text = s->format == FORMAT_TEXT;
    int status = session_open(&p->it, s);
    if (status == 0) status = settings_name_network(s) ? open_named(p) : open_saved(p);
    if (status == 0) status = choose_look(p);
    if (status == 0) status = name_classes(p);
    if (status == 0) status = find_files(p);
    if (status == 0) status = open_plan(p);
    p->file_width = width_of(&p->files, 40);
    p->class_width = width_of(&p->classes, 20);
    for (size_t i = 0; status == 0 && i < p->files.count; i += p->batch) {
        const size_t left = p->files.count - i;
        const uint32_t count = left < p->batch ? (uint32_t)left : p->batch;
        status = run_batch(p, i, count);
        if (status == 0 && text) tell_text(p, i, count);
    }
    if (status != 0) return status;
    if (!text) tell_json(p);
    return p->failed ? STATUS_RUN : 0;
}

int predict_main(struct settings *s)
{
    struct prediction p = {.s = s};
    if (!s->path[0] || s->picture_count == 0)
        return misuse("expected weights (a run directory, a checkpoint or a file) and "
                      "then pictures, or folders of them");
    const int status = predict(&p);
    for (size_t i = 0; p.why && i < p.files.count; i++) free(p.why[i]);
    names_free(&p.files);
    names_free(&p.classes);
    free(p.guesses);
    free(p.order);
    free(p.why);
    vgg_tensor_free(p.seen);
    vgg_tensor_free(p.images);
    vgg_tensor_free(p.logits);
    vgg_plan_free(p.plan);
    session_close(&p.it);
    return status;
}
