/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to gradients between backward and the next step: norm, scale, update,
 * zero; and reading any slot of a parameter. */
#include <float.h>
#include <math.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/options.h"
#include "plan/lower.h"
#include "plan/plan.h"
#include "tensor/tensor.h"

vgg_status vgg__plan_check_trains(const vgg_plan *plan)
{
    if (plan->opts.mode == VGG_MODE_INFER)
        return vgg__fail(VGG_ESTATE, "an inference plan has no gradients");
    if (plan->step)
        return vgg__fail(VGG_ESTATE,
                         "this plan updates as it goes back, and keeps no gradients");
    return VGG_OK;
}

bool vgg__plan_trains(const vgg_plan *plan, uint32_t param)
{
    return plan->lowered->params[param].trainable != 0;
}

vgg_status vgg_plan_zero_gradients(vgg_plan *plan)
{
    VGG_REQUIRE(plan != NULL);
    VGG_TRY(vgg__plan_check_trains(plan));
    const double begin = vgg__seconds();
    const vgg_status status =
        plan->device->engine->store_zero_gradients(plan->store->handle);
    plan->spent.update += vgg__seconds() - begin;
    return status;
}

vgg_status vgg_plan_gradient_norm(vgg_plan *plan, double *norm)
{
    VGG_REQUIRE(norm != NULL);
    *norm = 0.0;
    VGG_REQUIRE(plan != NULL);
    VGG_TRY(vgg__plan_check_trains(plan));
    double norm2 = 0.0;
    const double begin = vgg__seconds();
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status =
        plan->device->engine->store_gradient_norm2(plan->store->handle, &norm2);
    if (status == VGG_OK) *norm = sqrt(norm2);
    vgg__fpmode_leave(mode);
    plan->spent.update += vgg__seconds() - begin;
    return status;
}

vgg_status vgg_plan_scale_gradients(vgg_plan *plan, double factor)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(fabs(factor) <= (double)FLT_MAX);
    VGG_TRY(vgg__plan_check_trains(plan));
    const double begin = vgg__seconds();
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status =
        plan->device->engine->store_scale_gradients(plan->store->handle, factor);
    vgg__fpmode_leave(mode);
    plan->spent.update += vgg__seconds() - begin;
    return status;
}

/* Conditions are written so that NaN fails them. */
static vgg_status check_optimizer(const vgg_optimizer *opt)
{
    if (opt->kind > VGG_ADAMW)
        return vgg__fail(VGG_EINVAL, "optimizer kind is %u; expected 0 to 2",
                         opt->kind);
    if (opt->nesterov > 1 || (opt->nesterov && !(opt->momentum > 0.0)))
        return vgg__fail(VGG_EINVAL,
                         "nesterov must be 0 or 1, and 1 needs momentum > 0");
    if (!(opt->momentum >= 0.0 && opt->momentum < 1.0))
        return vgg__fail(VGG_EINVAL, "momentum is %g; expected 0 <= momentum < 1",
                         opt->momentum);
    if (!(opt->weight_decay >= 0.0 && opt->weight_decay <= (double)FLT_MAX))
        return vgg__fail(VGG_EINVAL,
                         "weight_decay is %g; expected a number >= 0 that "
                         "a float can hold",
                         opt->weight_decay);
    if (!(opt->beta1 >= 0.0 && opt->beta1 < 1.0 && opt->beta2 >= 0.0 &&
          opt->beta2 < 1.0))
        return vgg__fail(VGG_EINVAL, "beta1, beta2 are %g, %g; expected 0 <= beta < 1",
                         opt->beta1, opt->beta2);
    if (!(opt->epsilon > 0.0 && isfinite(opt->epsilon)))
        return vgg__fail(VGG_EINVAL, "epsilon is %g; expected a number > 0",
                         opt->epsilon);
    return VGG_OK;
}

vgg_status vgg__optimizer_read(const vgg_optimizer *given, vgg_optimizer *out)
{
    *out = (vgg_optimizer)VGG_OPTIMIZER_INIT;
    VGG_TRY(vgg__options_read("vgg_optimizer", given, sizeof *out, out, sizeof *out));
    return check_optimizer(out);
}

vgg_update vgg__optimizer_update(const vgg_optimizer *optimizer, double lr, uint64_t t)
{
    return (vgg_update){.kind = optimizer->kind,
                        .nesterov = optimizer->nesterov,
                        .lr = lr,
                        .momentum = optimizer->momentum,
                        .weight_decay = optimizer->weight_decay,
                        .beta1 = optimizer->beta1,
                        .beta2 = optimizer->beta2,
                        .epsilon = optimizer->epsilon,
                        .t = t};
}

vgg_status vgg_plan_update(vgg_plan *plan, const vgg_optimizer *optimizer, double lr,
                           uint64_t t)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(lr >= 0.0 && lr <= (double)FLT_MAX);
    VGG_REQUIRE(t >= 1);
    VGG_TRY(vgg__plan_check_trains(plan));
    vgg_optimizer opt;
    VGG_TRY(vgg__optimizer_read(optimizer, &opt));
    const vgg_update update = vgg__optimizer_update(&opt, lr, t);
    const uint64_t mode = vgg__fpmode_enter();
    vgg_status status = vgg__store_refresh(plan->store);
    const double begin = vgg__seconds();
    if (status == VGG_OK)
        status = plan->device->engine->store_update(plan->store->handle, &update);
    plan->spent.update += vgg__seconds() - begin;
    plan->spent.updates += status == VGG_OK;
    vgg__fpmode_leave(mode);
    if (status == VGG_OK) vgg__store_touched(plan->store);
    return status;
}

static vgg_status read_slot(vgg_plan *plan, uint32_t param, vgg_slot slot, void *out,
                            vgg_dtype dtype)
{
    const uint64_t mode = vgg__fpmode_enter(); /* f64 values are rounded */
    const vgg_status status =
        plan->device->engine->store_read(plan->store->handle, param, slot, out, dtype);
    vgg__fpmode_leave(mode);
    return status;
}

vgg_status vgg_plan_param_gradient(vgg_plan *plan, const vgg_param *param,
                                   vgg_tensor *out)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(param != NULL);
    if (param->model != plan->model)
        return vgg__fail(VGG_EINVAL, "%s is of another model than the plan's",
                         param->name);
    VGG_REQUIRE(out != NULL);
    if (!vgg__is_real(out))
        return vgg__fail(VGG_EINVAL,
                         "gradient of %s: tensor is %s; expected f32 or f64",
                         param->name, vgg_dtype_name(vgg_tensor_dtype(out)));
    VGG_TRY(vgg__plan_check_trains(plan));
    const vgg_shape *shape = vgg_tensor_shape(out);
    if (!vgg__shape_equal(shape, &param->shape)) {
        char found[64], expected[64];
        vgg_shape_text(shape, found, sizeof found);
        vgg_shape_text(&param->shape, expected, sizeof expected);
        return vgg__fail(VGG_ESHAPE, "gradient of %s: tensor is %s; expected %s",
                         param->name, found, expected);
    }
    if (!vgg__plan_trains(plan, param->index))
        return vgg__fail(VGG_ESTATE, "%s has no gradient: it is %s", param->name,
                         vgg_param_is_buffer(param) ? "a buffer" : "frozen");
    return read_slot(plan, param->index, VGG_SLOT_GRADIENT, vgg_tensor_data(out),
                     vgg_tensor_dtype(out));
}

vgg_status vgg__plan_slot_read(vgg_plan *plan, uint32_t param, vgg_slot slot,
                               float *out)
{
    return read_slot(plan, param, slot, out, VGG_F32);
}

vgg_status vgg__plan_slot_write(vgg_plan *plan, uint32_t param, vgg_slot slot,
                                const float *in)
{
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = plan->device->engine->store_write(
        plan->store->handle, param, slot, in, VGG_F32);
    vgg__fpmode_leave(mode);
    return status;
}
