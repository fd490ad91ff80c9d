/* SPDX-License-Identifier: Apache-2.0 */
/* What stages are and where the time goes. Operations and bytes follow from shapes
 * alone; algorithms and times are the engine's, but for the store's functions, which
 * gradients.c times. */
#include "core/error.h"
#include "plan/lower.h"
#include "plan/plan.h"

static const char *const kind_names[] = {
    [VGG_STAGE_CONV] = "conv",
    [VGG_STAGE_BATCH_NORM] = "batch_norm",
    [VGG_STAGE_RELU] = "relu",
    [VGG_STAGE_POOL] = "pool",
    [VGG_STAGE_ADAPTIVE_POOL] = "adaptive_pool",
    [VGG_STAGE_FLATTEN] = "flatten",
    [VGG_STAGE_LINEAR] = "linear",
    [VGG_STAGE_DROPOUT] = "dropout",
    [VGG_STAGE_TAP] = "tap",
    [VGG_STAGE_LOSS] = "loss",
};

static uint64_t count_of(vgg_extent extent)
{
    return (uint64_t)extent.c * extent.h * extent.w;
}

/* Shapes before a stage's first layer and after its last. */
static void find_shapes(const vgg_plan *plan, uint32_t index, vgg_stage_info *info)
{
    const vgg_model *model = plan->model;
    info->in = info->out = *vgg_model_output_shape(model); /* the loss has no layer */
    bool first = true;
    const bool tap = plan->lowered->stages[index].kind == VGG_STAGE_TAP;
    if (tap) index--; /* as what comes out of the stage that it stands behind */
    for (uint32_t i = 0; i < model->layer_count; i++) {
        if (plan->lowered->stage_of_layer[i] != index) continue;
        if (first) info->in = model->layers[i]->in;
        info->out = model->layers[i]->out;
        first = false;
    }
    if (tap) info->in = info->out;
}

/* Multiply-accumulates of one sample. */
static double macs(const vgg_stage *stage)
{
    if (stage->kind == VGG_STAGE_CONV)
        return (double)count_of(stage->mid) * stage->in.c * stage->kernel *
               stage->kernel;
    if (stage->kind == VGG_STAGE_LINEAR)
        return (double)count_of(stage->in) * stage->out.c;
    return 0.0;
}

/* Elements of a stage's parameters, running statistics too, and of their gradients. */
struct elements {
    uint64_t weight, all, gradients;
};

static struct elements elements_of(const vgg_program_desc *desc, const vgg_stage *stage)
{
    const int32_t slots[] = {stage->weight, stage->bias, stage->gamma,
                             stage->beta,   stage->mean, stage->var};
    struct elements found = {0, 0, 0};
    for (unsigned i = 0; i < sizeof slots / sizeof *slots; i++) {
        if (slots[i] < 0) continue;
        const vgg_param_desc *param = &desc->params[slots[i]];
        found.all += param->count;
        if (param->trainable) found.gradients += param->count;
    }
    if (stage->weight >= 0) found.weight = desc->params[stage->weight].count;
    return found;
}

/* Does a stage before this one, a tap, or the caller need its input's gradient? */
static bool wants_dx(const vgg_program_desc *desc, uint32_t index)
{
    if (desc->input_gradient) return true;
    for (uint32_t i = 0; i < index; i++)
        if (elements_of(desc, &desc->stages[i]).gradients > 0 ||
            desc->stages[i].kind == VGG_STAGE_TAP)
            return true;
    return desc->stages[index].kind == VGG_STAGE_TAP;
}

static uint64_t element_bytes(uint32_t precision)
{
    return precision == VGG_FP64 ? 8 : precision == VGG_BF16 ? 2 : 4;
}

static void count_forward(const vgg_program_desc *desc, const vgg_stage *stage,
                          vgg_stage_info *info)
{
    const uint64_t element = element_bytes(desc->precision);
    const uint64_t param = desc->precision == VGG_FP64 ? 8 : 4;
    const bool loss = stage->kind == VGG_STAGE_LOSS;
    const uint64_t out = loss ? 0 : count_of(stage->out);
    info->forward_flops = 2.0 * macs(stage) * desc->batch;
    info->forward_bytes = (count_of(stage->in) + out) * element * desc->batch +
                          elements_of(desc, stage).all * param;
    if (desc->weights == VGG_BF16 && stage->kind == VGG_STAGE_LINEAR)
        info->forward_bytes -= elements_of(desc, stage).weight * (param - 2);
}

/* The output's gradient is read, with the input for gradients of weights, and with the
 * weights for the input's. */
static void count_backward(const vgg_program_desc *desc, uint32_t index,
                           vgg_stage_info *info)
{
    const vgg_stage *stage = &desc->stages[index];
    const struct elements params = elements_of(desc, stage);
    const bool dx = wants_dx(desc, index);
    const bool trains_weight =
        stage->weight >= 0 && desc->params[stage->weight].trainable;
    if (desc->mode == VGG_MODE_INFER || stage->kind == VGG_STAGE_LOSS) return;
    if (!dx && params.gradients == 0) return;
    const uint64_t element = element_bytes(desc->precision);
    const uint64_t param = desc->precision == VGG_FP64 ? 8 : 4;
    const uint64_t in = count_of(stage->in) * element * desc->batch;
    info->backward_flops = 2.0 * macs(stage) * desc->batch * (dx + trains_weight);
    info->backward_bytes = count_of(stage->out) * element * desc->batch;
    if (dx) info->backward_bytes += in + params.weight * param;
    if (trains_weight || stage->gamma >= 0) info->backward_bytes += in;
    info->backward_bytes += params.gradients * param;
}

uint32_t vgg_plan_stage_count(const vgg_plan *plan)
{
    return plan != NULL ? plan->lowered->desc.stage_count : 0;
}

static vgg_report report_of(const vgg_plan *plan, uint32_t stage)
{
    vgg_report report = {.algorithm = ""};
    if (plan->device->engine->report != NULL)
        plan->device->engine->report(plan->program, stage, &report);
    return report;
}

vgg_status vgg_plan_stage(const vgg_plan *plan, uint32_t index, vgg_stage_info *out)
{
    VGG_REQUIRE(out != NULL);
    *out = (vgg_stage_info){0};
    VGG_REQUIRE(plan != NULL);
    const vgg_program_desc *desc = &plan->lowered->desc;
    if (index >= desc->stage_count)
        return vgg__fail(VGG_EINVAL, "stage %u; expected below %u", index,
                         desc->stage_count);
    const vgg_stage *stage = &desc->stages[index];
    const vgg_report report = report_of(plan, index);
    *out = (vgg_stage_info){
        .name = stage->name,
        .kind = kind_names[stage->kind],
        .algorithm = report.algorithm,
        .kept_bytes = report.kept,
        .scratch_bytes = report.scratch,
    };
    find_shapes(plan, index, out);
    count_forward(desc, stage, out);
    count_backward(desc, index, out);
    return VGG_OK;
}

static void add_stage(vgg_plan_time *total, const vgg_stage *stage,
                      const vgg_report *report)
{
    if (stage->kind == VGG_STAGE_LOSS)
        total->loss += report->forward;
    else
        total->forward += report->forward;
    total->backward += report->backward;
    total->prepare += report->prepare;
    total->update += report->update;
}

vgg_status vgg_plan_times(const vgg_plan *plan, vgg_plan_time *total,
                          vgg_stage_time *stages)
{
    const uint32_t count = vgg_plan_stage_count(plan);
    if (total != NULL) *total = (vgg_plan_time){0};
    for (uint32_t i = 0; stages != NULL && i < count; i++)
        stages[i] = (vgg_stage_time){0};
    VGG_REQUIRE(plan != NULL);
    if (plan->device->engine->report == NULL)
        return vgg__fail(VGG_EUNSUPPORTED, "the engine %s does not time its stages",
                         plan->device->engine->name);
    vgg_plan_time sum = plan->spent;
    for (uint32_t i = 0; i < count; i++) {
        const vgg_report report = report_of(plan, i);
        add_stage(&sum, &plan->lowered->desc.stages[i], &report);
        if (stages != NULL)
            stages[i] =
                (vgg_stage_time){report.forward, report.backward, report.prepare};
    }
    const vgg_report rest = report_of(plan, count);
    sum.input = rest.forward + rest.backward;
    sum.update += rest.update;
    if (total != NULL) *total = sum;
    return VGG_OK;
}
