/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of contexts, tensors, models, devices and plans fails once. */
#include "injector.h"

static const vgg_shape input_shape = {4, {4, 1, 8, 8}}; /* [n][c][h][w] */

/* ---- Contexts, tensors ---------------------------------------------------------- */

static vgg_status create_context(struct world *world)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &world->allocator;
    vgg_context *ctx;
    const vgg_status status = vgg_context_create(&opts, &ctx);
    vgg_context_free(ctx);
    return status;
}

static vgg_status create_tensor(struct world *world)
{
    return vgg_tensor_create(world->ctx, VGG_F32, &input_shape, &world->input);
}

static vgg_status create_view(struct world *world)
{
    return vgg_tensor_view(world->input, 1, 2, &world->view);
}

static vgg_status wrap_tensor(struct world *world)
{
    static float data[256];
    return vgg_tensor_wrap(world->ctx, VGG_F32, &input_shape, data, NULL, NULL,
                           &world->output);
}

/* ---- Models --------------------------------------------------------------------- */

static vgg_status create_model(struct world *world)
{
    const vgg_arch arch = tiny_arch();
    return vgg_model_create(world->ctx, &arch, 1, NULL, &world->model);
}

static vgg_status add_layers(vgg_model *model)
{
    vgg_status status = vgg_model_add_conv(model, 4, 3, "first");
    if (status == VGG_OK) status = vgg_model_add_batch_norm(model, NULL);
    if (status == VGG_OK) status = vgg_model_add_relu(model, NULL);
    if (status == VGG_OK) status = vgg_model_add_pool(model, VGG_POOL_AVERAGE, NULL);
    if (status == VGG_OK) status = vgg_model_add_conv(model, 5, 1, NULL);
    if (status == VGG_OK) status = vgg_model_add_adaptive_pool(model, 2, 2, "shrink");
    if (status == VGG_OK) status = vgg_model_add_flatten(model, NULL);
    if (status == VGG_OK) status = vgg_model_add_dropout(model, 0.5f, NULL);
    if (status == VGG_OK) status = vgg_model_add_linear(model, 3, "last");
    if (status == VGG_OK) status = vgg_model_init(model, VGG_INIT_HE, 7);
    return status;
}

static vgg_status create_by_layers(struct world *world)
{
    const vgg_shape sample = {3, {1, 8, 8}}; /* [c][h][w] */
    vgg_model *model;
    vgg_status status = vgg_model_create_empty(world->ctx, &sample, &model);
    if (status == VGG_OK) status = add_layers(model);
    if (status == VGG_OK)
        world->model = model;
    else
        vgg_model_free(model);
    return status;
}

static vgg_status empty_model(struct world *world)
{
    const vgg_shape sample = {3, {1, 8, 8}}; /* [c][h][w] */
    return vgg_model_create_empty(world->ctx, &sample, &world->model);
}

/* A failed call leaves no half layer: the next one gets its place and name. */
static vgg_status add_one_layer(struct world *world)
{
    const uint32_t before = vgg_model_layer_count(world->model);
    const vgg_status status = vgg_model_add_conv(world->model, 4, 3, "first");
    const bool added = status == VGG_OK;
    ck_assert_uint_eq(vgg_model_layer_count(world->model), before + added);
    ck_assert_uint_eq(vgg_model_param_count(world->model), added ? 2 : 0);
    ck_assert_ptr_null(vgg_model_layer(world->model, before + added));
    ck_assert((vgg_model_find_layer(world->model, "first") != NULL) == added);
    ck_assert_uint_eq(vgg_model_output_shape(world->model)->dim[0], added ? 4 : 1);
    return status;
}

static uint64_t model_digest(struct world *world)
{
    return digest_model(world->model);
}

/* ---- Devices -------------------------------------------------------------------- */

static vgg_status list_devices(struct world *world)
{
    return vgg_device_list_create(world->ctx, &world->list);
}

static vgg_status open_ref(struct world *world)
{
    return vgg_device_open(world->ctx, "ref", &world->device);
}

static vgg_status open_cpu(struct world *world)
{
    return vgg_device_open(world->ctx, "cpu", &world->device);
}

/* ---- Plans ---------------------------------------------------------------------- */

static vgg_status model_on_ref(struct world *world)
{
    const vgg_status status = create_model(world);
    return status == VGG_OK ? open_ref(world) : status;
}

static vgg_status model_on_cpu(struct world *world)
{
    const vgg_status status = create_model(world);
    return status == VGG_OK ? open_cpu(world) : status;
}

static vgg_status create_plan(struct world *world, vgg_mode mode,
                              vgg_precision precision)
{
    static const char *const taps[] = {"conv1_1", "pool2"};
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = 4;
    opts.mode = mode;
    opts.precision = precision;
    opts.input_gradient = mode != VGG_MODE_INFER;
    opts.taps = taps;
    opts.tap_count = 2;
    opts.tap_gradients = opts.mode == VGG_MODE_GRAD;
    return vgg_plan_create(world->model, world->device, &opts, &world->plan);
}

static vgg_status create_infer_plan(struct world *world)
{
    return create_plan(world, VGG_MODE_INFER, VGG_FP32);
}

static vgg_status create_train_plan(struct world *world)
{
    return create_plan(world, VGG_MODE_TRAIN, VGG_FP32);
}

static vgg_status create_grad_plan(struct world *world)
{
    return create_plan(world, VGG_MODE_GRAD, VGG_FP64);
}

static vgg_status measure_plan(struct world *world)
{
    uint64_t plan_bytes, shared_bytes;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_TRAIN;
    return vgg_plan_measure(world->model, world->device, &opts, &plan_bytes,
                            &shared_bytes);
}

/* An inference plan beside a training plan: the store has to grow by gradients. */
static vgg_status model_with_infer_plan(struct world *world)
{
    const vgg_status status = model_on_ref(world);
    return status == VGG_OK ? create_infer_plan(world) : status;
}

static vgg_status second_plan(struct world *world)
{
    vgg_plan *plan;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_TRAIN;
    const vgg_status status =
        vgg_plan_create(world->model, world->device, &opts, &plan);
    vgg_plan_free(plan);
    return status;
}

/* ---- Runs ----------------------------------------------------------------------- */

/* Up to the gradients; an update is what may still allocate. */
static vgg_status gradients_made(struct world *world,
                                 vgg_status (*place)(struct world *))
{
    static const uint32_t labels[4] = {0, 1, 2, 1};
    vgg_status status = place(world);
    if (status == VGG_OK) status = create_train_plan(world);
    if (status == VGG_OK) status = create_tensor(world);
    if (status != VGG_OK) return status;
    float *input = vgg_tensor_data(world->input);
    for (int i = 0; i < 256; i++) input[i] = (float)(i * 37 % 64) / 64.0f;
    status = vgg_plan_set_step(world->plan, 1, 2, 0);
    if (status == VGG_OK) status = vgg_plan_forward(world->plan, world->input, NULL);
    if (status == VGG_OK)
        status = vgg_plan_loss(world->plan, labels, 0.1f, 1.0f, NULL, NULL);
    if (status == VGG_OK) status = vgg_plan_backward(world->plan);
    return status;
}

static vgg_status gradients_on_ref(struct world *world)
{
    return gradients_made(world, model_on_ref);
}

static vgg_status gradients_on_cpu(struct world *world)
{
    return gradients_made(world, model_on_cpu);
}

static vgg_status update(struct world *world, vgg_optimizer_kind kind, double momentum)
{
    vgg_optimizer optimizer = VGG_OPTIMIZER_INIT;
    optimizer.kind = kind;
    optimizer.momentum = momentum;
    return vgg_plan_update(world->plan, &optimizer, 0.1, 1);
}

static vgg_status update_with_momentum(struct world *world)
{
    return update(world, VGG_SGD, 0.9);
}

static vgg_status update_by_adam(struct world *world)
{
    return update(world, VGG_ADAM, 0.0);
}

static const struct scenario scenarios[] = {
    {"context", NULL, create_context},
    {"tensor", NULL, create_tensor},
    {"view", create_tensor, create_view},
    {"wrap", NULL, wrap_tensor},
    {"model", NULL, create_model, model_digest},
    {"model by layers", NULL, create_by_layers, model_digest},
    {"one layer", empty_model, add_one_layer, NULL, .keeps = true},
    {"device list", NULL, list_devices},
    {"ref", NULL, open_ref},
    {"cpu", NULL, open_cpu, .threads = 3},
    {"infer plan on ref", model_on_ref, create_infer_plan, model_digest},
    {"train plan on ref", model_on_ref, create_train_plan, model_digest},
    {"fp64 plan on ref", model_on_ref, create_grad_plan, model_digest},
    {"infer plan on cpu", model_on_cpu, create_infer_plan, model_digest, .threads = 2},
    {"train plan on cpu", model_on_cpu, create_train_plan, model_digest, .threads = 2},
    {"measure on ref", model_on_ref, measure_plan},
    {"measure on cpu", model_on_cpu, measure_plan},
    {"second plan", model_with_infer_plan, second_plan, model_digest, .keeps = true},
    {"momentum on ref", gradients_on_ref, update_with_momentum, model_digest,
     .keeps = true},
    {"adam on ref", gradients_on_ref, update_by_adam, model_digest, .keeps = true},
    {"adam on cpu", gradients_on_cpu, update_by_adam, model_digest, .threads = 2,
     .keeps = true},
};

int main(void)
{
    return injector_main("fault/build", scenarios,
                         sizeof scenarios / sizeof *scenarios);
}
