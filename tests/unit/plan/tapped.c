/* SPDX-License-Identifier: Apache-2.0 */
/* The network that taps are tested on, its plan with all of them, and numbers. */
#include "tapped.h"

#include <string.h>

const struct tap taps[TAPS] = {{"conv", 1}, {"relu", 3},  {"relu2", 5}, {"drop", 6},
                               {"pool", 7}, {"conv3", 8}, {"flat", 10}, {"fc", 11}};

vgg_device *device;

void add_layers(vgg_model *m, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++) switch (i) {
        case 0:
            ck_ok(vgg_model_add_conv(m, 4, 3, "conv"));
            break;
        case 1:
            ck_ok(vgg_model_add_batch_norm(m, "bn"));
            break;
        case 2:
            ck_ok(vgg_model_add_relu(m, "relu"));
            break;
        case 3:
            ck_ok(vgg_model_add_conv(m, 8, 3, "conv2"));
            break;
        case 4:
            ck_ok(vgg_model_add_relu(m, "relu2"));
            break;
        case 5:
            ck_ok(vgg_model_add_dropout(m, 0.5f, "drop"));
            break;
        case 6:
            ck_ok(vgg_model_add_pool(m, VGG_POOL_MAX, "pool"));
            break;
        case 7:
            ck_ok(vgg_model_add_conv(m, 5, 1, "conv3"));
            break;
        case 8:
            ck_ok(vgg_model_add_relu(m, "relu3"));
            break;
        case 9:
            ck_ok(vgg_model_add_flatten(m, "flat"));
            break;
        case 10:
            ck_ok(vgg_model_add_linear(m, 7, "fc"));
            break;
        case 11:
            ck_ok(vgg_model_add_relu(m, "relu4"));
            break;
        default:
            ck_ok(vgg_model_add_linear(m, 3, "fc2"));
            break;
        }
}

vgg_model *make_model(uint32_t count)
{
    static const vgg_shape sample = {3, {2, 9, 8}};
    vgg_model *m;
    ck_ok(vgg_model_create_empty(NULL, &sample, &m));
    add_layers(m, 0, count);
    ck_ok(vgg_model_init(m, VGG_INIT_HE, 5));
    return m;
}

vgg_tensor *tensor(vgg_dtype dtype, const vgg_shape *sample, uint32_t count)
{
    vgg_shape shape = {sample->rank + 1, {count}};
    vgg_tensor *made;
    memcpy(shape.dim + 1, sample->dim, sample->rank * sizeof *sample->dim);
    ck_ok(vgg_tensor_create(NULL, dtype, &shape, &made));
    return made;
}

vgg_tensor *numbers(const vgg_shape *sample, uint32_t salt)
{
    vgg_tensor *const made = tensor(VGG_F32, sample, BATCH);
    float *const at = vgg_tensor_data(made);
    uint32_t state = 12345 + salt;
    for (uint64_t i = 0; i < vgg_tensor_bytes(made) / sizeof *at; i++) {
        state = state * 1664525 + 1013904223;
        at[i] = (float)(int32_t)state / 0x1p31f;
    }
    return made;
}

const char *const tap_names[TAPS + 1] = {"conv",  "relu", "relu2", "drop", "pool",
                                         "conv3", "flat", "fc",    "fc2"};

void begin(struct whole *w, const struct subject *of)
{
    ck_ok(vgg_device_open(NULL, of->engine, &device));
    w->model = make_model(LAYERS);
    w->images = numbers(vgg_model_input_shape(w->model), 0);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = BATCH + 1;
    opts.mode = of->mode;
    opts.precision = of->precision;
    opts.input_gradient = opts.tap_gradients = 1;
    opts.taps = tap_names;
    opts.tap_count = TAPS + 1;
    ck_ok(vgg_plan_create(w->model, device, &opts, &w->plan));
    ck_ok(vgg_plan_forward(w->plan, w->images, NULL));
}

void end(struct whole *w)
{
    vgg_tensor_free(w->images);
    vgg_plan_free(w->plan);
    vgg_model_free(w->model);
    vgg_device_free(device);
}
