/* SPDX-License-Identifier: Apache-2.0 */
/* The library with the GPU engine as its plugin, on the simulated device, through the
 * public interface alone: every head, layers one by one, taps, gradients, optimisers,
 * training with the data set on the device, checkpoints that move. What comes out is
 * compared with the engine `cpu`. */
#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

/* fp32 is compared after many steps; tf32 and bf16 after one forward. */
static const struct {
    const char *name;
    uint32_t precision;
    double tolerance;
} precisions[] = {
    {"fp32", VGG_FP32, 1e-5}, {"tf32", VGG_TF32, 3e-3}, {"bf16", VGG_BF16, 3e-2}};
enum { PRECISIONS = sizeof precisions / sizeof *precisions };

enum { SIDE = 12, BATCH = 6, CLASSES = 3, SAMPLES = 20, TESTS = 9 };

static vgg_context *ctx;
static vgg_device *devices[2]; /* cpu, cuda:0 */

static void begin(void)
{
    setenv("VGG_CACHE_DIR", "", 1);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.plugin_dir = PLUGIN_DIR;
    opts.threads = 2;
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_ok(vgg_device_open(ctx, "cpu", &devices[0]));
    ck_ok(vgg_device_open(ctx, "cuda:0", &devices[1]));
}

/* A function of the plugin, which is loaded. */
static void *function_of_plugin(const char *name)
{
    void *plugin = dlopen(PLUGIN_DIR "/vgg-cudnn.so", RTLD_NOW | RTLD_NOLOAD);
    ck_assert_ptr_nonnull(plugin);
    void *function = dlsym(plugin, name);
    ck_assert_ptr_nonnull(function);
    dlclose(plugin);
    return function;
}

/* Everything given back, and no misuse on the way. */
static void end(void)
{
    for (int i = 0; i < 2; i++) vgg_device_free(devices[i]);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    const char *(*fault)(void);
    *(void **)&fault = function_of_plugin("simulated_fault");
    ck_assert_msg(fault() == NULL, "%s", fault());
}

START_TEST(listed)
{
    vgg_device_list *list;
    int found = 0;
    ck_ok(vgg_device_list_create(ctx, &list));
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++)
        found += strcmp(vgg_device_list_name(list, i), "cuda:0") == 0 &&
                 strcmp(vgg_device_list_engine(list, i), "cudnn") == 0 &&
                 strstr(vgg_device_list_text(list, i), "NVIDIA H200") != NULL;
    ck_assert_int_eq(found, 1);
    vgg_device_list_free(list);
    ck_assert_str_eq(vgg_device_engine(devices[1]), "cudnn");
    ck_assert_ptr_nonnull(strstr(vgg_device_text(devices[1]), "cuDNN"));
}
END_TEST

static char log_text[1024];

static void take_log(void *cookie, vgg_log_level level, const char *line)
{
    const size_t length = strlen(log_text);
    snprintf(log_text + length, sizeof log_text - length, "%d:%s\n", (int)level, line);
}

/* No room to open the GPU: by name that is an error, and no batch would help; else the
 * processor takes its place, and the log has the reason. */
START_TEST(full)
{
    static const char reason[] =
        "cuda:0: 64 MiB asked, 1 of 143771 MiB are free: no room to open it, whatever "
        "the batch: end what else uses it, or take another device";
    char line[256];
    void (*memory)(uint64_t);
    const vgg_logger logger = {NULL, take_log};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    vgg_context *other;
    vgg_device *device;
    vgg_device_free(devices[1]);
    devices[1] = NULL;
    *(void **)&memory = function_of_plugin("simulated_memory");
    memory(1 << 20);
    opts.logger = &logger;
    opts.plugin_dir = PLUGIN_DIR;
    ck_ok(vgg_context_create(&opts, &other));
    ck_fails(vgg_device_open(other, "cuda", &device), VGG_EDEVICE);
    ck_assert_str_eq(vgg_last_error(), reason);
    log_text[0] = '\0';
    ck_ok(vgg_device_open(other, "auto", &device));
    ck_assert_str_eq(vgg_device_name(device), "cpu");
    snprintf(line, sizeof line, "1:device auto: not cudnn: %s\n", reason);
    ck_assert_str_eq(log_text, line);
    vgg_device_free(device);
    vgg_context_free(other);
    memory(0);
}
END_TEST

/* ---- Comparing ------------------------------------------------------------------- */

static vgg_tensor *new_tensor(vgg_shape shape)
{
    vgg_tensor *made;
    ck_ok(vgg_tensor_create(ctx, VGG_F32, &shape, &made));
    return made;
}

/* A batch of a layer's shape. */
static vgg_tensor *new_batch(const vgg_shape *sample)
{
    vgg_shape shape = {sample->rank + 1, {BATCH}};
    memcpy(shape.dim + 1, sample->dim, sample->rank * sizeof *sample->dim);
    return new_tensor(shape);
}

static vgg_tensor *random_batch(const vgg_shape *sample)
{
    vgg_tensor *batch = new_batch(sample);
    float *at = vgg_tensor_data(batch);
    uint32_t state = 12345;
    for (uint64_t i = 0; i < vgg_tensor_bytes(batch) / sizeof *at; i++) {
        state = state * 1664525 + 1013904223;
        at[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return batch;
}

/* |got - want| over |want|, as vectors. */
static void compare(const char *what, vgg_tensor *got, vgg_tensor *want,
                    double tolerance)
{
    const float *g = vgg_tensor_data(got), *w = vgg_tensor_data(want);
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < vgg_tensor_bytes(want) / sizeof *w; i++) {
        error += ((double)g[i] - w[i]) * ((double)g[i] - w[i]);
        norm += (double)w[i] * w[i];
    }
    ck_assert_msg(sqrt(error) <= tolerance * sqrt(norm),
                  "%s: relative error %.3g of %.3g", what, sqrt(error / norm),
                  tolerance);
}

static vgg_plan *new_plan(vgg_model *model, int device, uint32_t mode,
                          uint32_t precision)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_plan *plan;
    opts.batch = BATCH;
    opts.mode = mode;
    opts.precision = device == 1 ? precision : VGG_FP32;
    opts.input_gradient = mode == VGG_MODE_GRAD;
    ck_ok(vgg_plan_create(model, devices[device], &opts, &plan));
    return plan;
}

/* Forward in every precision; in fp32 all gradients, by a gradient handed in. */
static void compare_model(const char *name, vgg_model *model)
{
    vgg_tensor *input = random_batch(vgg_model_input_shape(model)), *outputs[2], *dx[2];
    vgg_tensor *dy = random_batch(vgg_model_output_shape(model));
    char what[96];
    for (int p = 0; p < PRECISIONS; p++) {
        vgg_plan *plans[2];
        const bool exact = precisions[p].precision == VGG_FP32;
        for (int d = 0; d < 2; d++) {
            plans[d] = new_plan(model, d, VGG_MODE_GRAD, precisions[p].precision);
            outputs[d] = new_batch(vgg_model_output_shape(model));
            dx[d] = new_batch(vgg_model_input_shape(model));
            ck_ok(vgg_plan_zero_gradients(plans[d]));
            ck_ok(vgg_plan_forward(plans[d], input, outputs[d]));
            ck_ok(vgg_plan_set_output_gradient(plans[d], dy));
            ck_ok(vgg_plan_backward(plans[d]));
            ck_ok(vgg_plan_input_gradient(plans[d], dx[d]));
        }
        snprintf(what, sizeof what, "%s, %s: output", name, precisions[p].name);
        compare(what, outputs[1], outputs[0], precisions[p].tolerance);
        snprintf(what, sizeof what, "%s: input gradient", name);
        if (exact) compare(what, dx[1], dx[0], 1e-4);
        for (uint32_t i = 0; exact && i < vgg_model_param_count(model); i++) {
            vgg_param *param = vgg_model_param(model, i);
            vgg_tensor *g[2];
            if (vgg_param_is_buffer(param)) continue;
            for (int d = 0; d < 2; d++) {
                g[d] = new_tensor(*vgg_param_shape(param));
                ck_ok(vgg_plan_param_gradient(plans[d], param, g[d]));
            }
            snprintf(what, sizeof what, "%s: %s", name, vgg_param_name(param));
            compare(what, g[1], g[0], 1e-4);
            for (int d = 0; d < 2; d++) vgg_tensor_free(g[d]);
        }
        for (int d = 0; d < 2; d++) {
            vgg_plan_free(plans[d]);
            vgg_tensor_free(outputs[d]);
            vgg_tensor_free(dx[d]);
        }
    }
    vgg_tensor_free(input);
    vgg_tensor_free(dy);
}

static vgg_model *build(uint32_t head, uint32_t pool, uint32_t batch_norm)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.blocks[1] = (vgg_block){2, 128, 1};
    arch.height = arch.width = SIDE;
    arch.hidden = 16;
    arch.classes = CLASSES;
    arch.head = head;
    arch.pool = pool;
    arch.batch_norm = batch_norm;
    vgg_model *model;
    ck_ok(vgg_model_create(ctx, &arch, 8, NULL, &model));
    return model;
}

START_TEST(heads)
{
    static const char *const names[] = {"flatten", "adaptive", "global average",
                                        "none"};
    for (uint32_t variant = 0; variant < 4; variant++) {
        char name[64];
        snprintf(name, sizeof name, "%s head, pool %u, batch norm %u", names[_i],
                 variant % 2, variant / 2);
        vgg_model *model = build((uint32_t)_i, variant % 2, variant / 2);
        compare_model(name, model);
        vgg_model_free(model);
    }
}
END_TEST

/* An order of layers that no VGG has. */
START_TEST(layer_by_layer)
{
    const vgg_shape input = {3, {3, 9, 11}};
    vgg_model *model;
    ck_ok(vgg_model_create_empty(ctx, &input, &model));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_conv(model, 5, 1, NULL));
    ck_ok(vgg_model_add_batch_norm(model, NULL));
    ck_ok(vgg_model_add_conv(model, 6, 3, "middle"));
    ck_ok(vgg_model_add_pool(model, VGG_POOL_AVERAGE, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_dropout(model, 0.5f, NULL));
    ck_ok(vgg_model_add_adaptive_pool(model, 3, 2, NULL));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_linear(model, 7, NULL));
    ck_ok(vgg_model_add_linear(model, 4, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_init(model, VGG_INIT_HE, 3));
    compare_model("by layers", model);
    vgg_model_free(model);
}
END_TEST

/* A plan tells each product's way as a whole, with its time, whatever its layer is
 * called; and what was left out because its results vary. */
START_TEST(described)
{
    const vgg_shape input = {3, {8, 8, 8}};
    const char *const parts[] = {"forward cuDNN engine", "; data cuDNN engine",
                                 "; weights cuDNN engine",
                                 " us; 1 refused: results "
                                 "vary\n"};
    char name[64];
    vgg_model *model;
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    ck_ok(vgg_model_create_empty(ctx, &input, &model));
    ck_ok(vgg_model_add_conv(model, 8, 3, name));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_linear(model, 4, "last"));
    vgg_plan *plan = new_plan(model, 1, VGG_MODE_GRAD, VGG_FP32);
    const char *at = strstr(vgg_plan_describe(plan), name);
    for (int i = 0; i < 4; i++) {
        ck_assert_msg(at != NULL && strstr(at, parts[i]) != NULL, "no \"%s\" in %s",
                      parts[i], vgg_plan_describe(plan));
        at = strstr(at, parts[i]);
    }
    vgg_plan_free(plan);
    vgg_model_free(model);
}
END_TEST

START_TEST(taps)
{
    const char *const names[] = {"conv1_1", "relu2_1", "pool2"};
    vgg_model *model = build(VGG_HEAD_FLATTEN, VGG_POOL_MAX, 0);
    vgg_tensor *input = random_batch(vgg_model_input_shape(model)), *values[2][3];
    for (int d = 0; d < 2; d++) {
        vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
        vgg_plan *plan;
        opts.batch = BATCH;
        opts.taps = names;
        opts.tap_count = 3;
        ck_ok(vgg_plan_create(model, devices[d], &opts, &plan));
        for (int round = 0; round < 3; round++)
            ck_ok(vgg_plan_forward(plan, input, NULL));
        for (int t = 0; t < 3; t++) {
            const vgg_layer *layer = vgg_model_find_layer(model, names[t]);
            values[d][t] = new_batch(vgg_layer_out_shape(layer));
            ck_ok(vgg_plan_tap(plan, names[t], values[d][t]));
        }
        vgg_plan_free(plan);
    }
    for (int t = 0; t < 3; t++) {
        compare(names[t], values[1][t], values[0][t], 1e-5);
        for (int d = 0; d < 2; d++) vgg_tensor_free(values[d][t]);
    }
    vgg_tensor_free(input);
    vgg_model_free(model);
}
END_TEST

/* ---- Training -------------------------------------------------------------------- */

static int read_bar(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    (void)cookie;
    *label = (uint32_t)(index * 7 % CLASSES);
    for (int i = 0; i < SIDE * SIDE; i++)
        image[i] = (uint8_t)((i / SIDE / 4 == (int)*label ? 200 : 20) +
                             (index * 31 + (uint64_t)i * 17) % 40);
    return 0;
}

static vgg_loader *new_loader(vgg_dataset *data, uint32_t train)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = transform.resize_width = SIDE + 3;
    transform.crop_height = transform.crop_width = SIDE;
    transform.shift = 1;
    transform.flip = transform.erase = 0.5f;
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.transform = &transform;
    opts.batch = BATCH; /* 20 samples: the last has 2 */
    opts.train = train;
    opts.seed = 5;
    vgg_loader *loader;
    ck_ok(vgg_loader_create(data, &opts, &loader));
    return loader;
}

enum { PLAIN, MOMENTUM, ADAM, ADAMW, CLIPPED, ACCUMULATED, RECIPES };

static vgg_optimizer optimizer;

static vgg_trainer_options recipe(int number)
{
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    optimizer = (vgg_optimizer)VGG_OPTIMIZER_INIT;
    optimizer.weight_decay = 0.01;
    opts.optimizer = &optimizer;
    opts.lr = 0.02;
    opts.epochs = 2;
    opts.batch = BATCH;
    opts.label_smoothing = 0.1f;
    opts.seed = 3;
    if (number == MOMENTUM) optimizer.momentum = 0.9;
    if (number == MOMENTUM) optimizer.nesterov = 1;
    if (number == ADAM || number == ADAMW) opts.lr = 1e-3;
    if (number == ADAM) optimizer.kind = VGG_ADAM;
    if (number == ADAMW) optimizer.kind = VGG_ADAMW;
    if (number == ADAM || number == ADAMW) optimizer.epsilon = 1e-3;
    if (number == CLIPPED) opts.clip_norm = 0.5;
    if (number == ACCUMULATED) opts.accumulate = 2;
    return opts;
}

/* One training, of which device `moved` takes over after the first epoch (its own
 * number: none does). */
static void train(int number, int device, int moved, vgg_model **model,
                  vgg_progress *progress)
{
    const vgg_source source = {.count = SAMPLES,
                               .channels = 1,
                               .height = SIDE,
                               .width = SIDE,
                               .classes = CLASSES,
                               .read = read_bar};
    vgg_dataset *data;
    vgg_trainer *trainer;
    ck_ok(vgg_dataset_from_source(ctx, &source, &data));
    vgg_trainer_options opts = recipe(number);
    char folder[64], checkpoint[80];
    harness_mkdtemp(folder);
    snprintf(checkpoint, sizeof checkpoint, "%s/last", folder);
    *model = build(VGG_HEAD_FLATTEN, VGG_POOL_MAX, 1);
    for (int half = moved == device ? 1 : 0; half < 2; half++) {
        vgg_loader *train = new_loader(data, 1), *test = new_loader(data, 0);
        opts.epochs = half == 0 ? 1 : 2;
        opts.steps_per_epoch = 4;
        ck_ok(vgg_trainer_create(*model, devices[half == 0 ? device : moved], &opts,
                                 &trainer));
        if (half == 1 && moved != device)
            ck_ok(vgg_checkpoint_load(trainer, checkpoint, NULL));
        ck_ok(vgg_trainer_fit(trainer, train, test, NULL));
        if (half == 0) ck_ok(vgg_checkpoint_save(trainer, checkpoint, NULL));
        *progress = *vgg_trainer_progress(trainer);
        vgg_trainer_free(trainer);
        vgg_loader_free(train);
        vgg_loader_free(test);
    }
    vgg_dataset_free(data);
    harness_rmdir(folder);
}

/* But for biases that batch normalisation takes away again: their gradients are
 * rounding and nothing else, which Adam makes as large as any. */
static void compare_weights(const char *name, vgg_model *got, vgg_model *want)
{
    for (uint32_t i = 0; i < vgg_model_param_count(want); i++) {
        vgg_param *params[2] = {vgg_model_param(want, i), vgg_model_param(got, i)};
        vgg_tensor *values[2];
        char what[96];
        const char *param = vgg_param_name(params[0]);
        if (strncmp(param, "conv", 4) == 0 && strstr(param, ".bias") != NULL) continue;
        for (int k = 0; k < 2; k++) {
            values[k] = new_tensor(*vgg_param_shape(params[k]));
            ck_ok(vgg_param_read(params[k], values[k]));
        }
        snprintf(what, sizeof what, "%s: %s", name, param);
        compare(what, values[1], values[0], 1e-3);
        for (int k = 0; k < 2; k++) vgg_tensor_free(values[k]);
    }
}

/* The same training here and there, or moved in the middle: the same losses, but for
 * rounding that 8 steps have let grow. */
static void compare_trainings(const char *name, int number, int device, int moved)
{
    vgg_model *models[2];
    vgg_progress progress[2];
    train(number, 0, 0, &models[0], &progress[0]);
    train(number, device, moved, &models[1], &progress[1]);
    ck_assert_uint_eq(progress[1].step, progress[0].step);
    ck_assert_msg(fabs(progress[1].test_loss - progress[0].test_loss) < 1e-3,
                  "%s: test loss %.6f, expected %.6f", name, progress[1].test_loss,
                  progress[0].test_loss);
    compare_weights(name, models[1], models[0]);
    for (int k = 0; k < 2; k++) vgg_model_free(models[k]);
}

START_TEST(recipes)
{
    static const char *const names[RECIPES] = {"SGD",   "momentum", "Adam",
                                               "AdamW", "clipped",  "accumulated"};
    compare_trainings(names[_i], _i, 1, 1);
}
END_TEST

START_TEST(moves)
{
    compare_trainings("from GPU to CPU", _i == 0 ? MOMENTUM : ADAM, 1, 0);
    compare_trainings("from CPU to GPU", _i == 0 ? MOMENTUM : ADAM, 0, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("public");
    TCase *tcase = tcase_create("plugin");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, listed);
    tcase_add_test(tcase, full);
    tcase_add_loop_test(tcase, heads, 0, 4);
    tcase_add_test(tcase, layer_by_layer);
    tcase_add_test(tcase, described);
    tcase_add_test(tcase, taps);
    tcase_add_loop_test(tcase, recipes, 0, RECIPES);
    tcase_add_loop_test(tcase, moves, 0, 2);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
