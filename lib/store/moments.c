/* SPDX-License-Identifier: Apache-2.0 */
/* An optimiser's state: see moments.h. */
#include "store/moments.h"

#include "core/error.h"
#include "core/memory.h"
#include "plan/plan.h"
#include "store/staged.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE (VGG_PARAM_NAME_SIZE + 8)

static uint32_t count_slots(const vgg_optimizer *optimizer)
{
    if (optimizer->kind != VGG_SGD) return 2;
    return optimizer->momentum > 0.0 ? 1 : 0;
}

static void write_name(const vgg_param *param, uint32_t slot, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%s.state%u", param->alias, slot);
}

/* Zeros for every state that the trainer can have. */
static vgg_status begin(struct vgg__moments *moments, vgg_trainer *trainer)
{
    const vgg_model *model = trainer->model;
    *moments = (struct vgg__moments){.trainer = trainer,
                                     .slots = count_slots(&trainer->optimizer)};
    moments->values =
        vgg__calloc(trainer->ctx, (size_t)model->param_count * VGG_MOMENTS,
                    sizeof *moments->values);
    if (moments->values == NULL) return VGG_ENOMEM;
    for (uint32_t i = 0; i < model->param_count; i++)
        for (uint32_t s = 0; s < moments->slots && vgg__plan_trains(trainer->plan, i);
             s++) {
            float *values =
                vgg__calloc(trainer->ctx, model->params[i]->count, sizeof *values);
            if (values == NULL) return VGG_ENOMEM;
            moments->values[i * VGG_MOMENTS + s] = values;
        }
    return VGG_OK;
}

vgg_status vgg__moments_take(struct vgg__moments *moments, vgg_trainer *trainer)
{
    VGG_TRY(begin(moments, trainer));
    for (uint32_t i = 0; i < trainer->model->param_count; i++)
        for (uint32_t s = 0; s < VGG_MOMENTS; s++) {
            float *values = moments->values[i * VGG_MOMENTS + s];
            if (values == NULL) continue;
            const vgg_status status = vgg__plan_slot_read(
                trainer->plan, i, (vgg_slot)(VGG_SLOT_STATE0 + s), values);
            if (status == VGG_ESTATE) continue; /* no step was made: zero */
            if (status != VGG_OK) return status;
            moments->present = true;
        }
    return VGG_OK;
}

/* Adam's second moment is a mean of squares. */
static vgg_status check_moment(const struct vgg__moments *moments,
                               const struct vgg__safetensors *st, const char *name,
                               const float *values, uint64_t count)
{
    if (moments->slots < 2) return VGG_OK;
    for (uint64_t i = 0; i < count; i++)
        if (values[i] < 0.0f)
            return vgg__fail(VGG_EFORMAT,
                             "%s: %s: element %" PRIu64
                             " is %g, a mean of squares is not "
                             "negative",
                             st->input->shown, name, i, (double)values[i]);
    return VGG_OK;
}

static vgg_status read_one(const struct vgg__moments *moments,
                           const struct vgg__safetensors *st, uint32_t index,
                           uint32_t slot)
{
    const vgg_param *param = moments->trainer->model->params[index];
    float *values = moments->values[index * VGG_MOMENTS + slot];
    char name[NAME_SIZE];
    write_name(param, slot, name);
    const struct vgg__st_tensor *tensor = vgg__safetensors_find(st, name);
    if (tensor == NULL)
        return vgg__fail(VGG_EMISMATCH, "%s: lacks %s", st->input->shown, name);
    VGG_TRY(vgg__staged_check_shape(st, tensor, param));
    if (strcmp(tensor->dtype, "F32") != 0)
        return vgg__fail(VGG_EMISMATCH, "%s: %s: file has %s, expected F32",
                         st->input->shown, name, tensor->dtype);
    VGG_TRY(vgg__safetensors_read_f32(st, tensor, true, values));
    return slot == 1 ? check_moment(moments, st, name, values, param->count) : VGG_OK;
}

vgg_status vgg__moments_read(struct vgg__moments *moments, vgg_trainer *trainer,
                             const struct vgg__safetensors *st)
{
    VGG_TRY(begin(moments, trainer));
    if (st == NULL) return VGG_OK;
    moments->present = true;
    uint32_t count = 0;
    for (uint32_t i = 0; i < trainer->model->param_count; i++)
        for (uint32_t s = 0; s < VGG_MOMENTS; s++) {
            if (moments->values[i * VGG_MOMENTS + s] == NULL) continue;
            VGG_TRY(read_one(moments, st, i, s));
            count++;
        }
    if (count != st->count)
        return vgg__fail(VGG_EMISMATCH, "%s: has %u tensors, the optimiser %u",
                         st->input->shown, st->count, count);
    return VGG_OK;
}

/* Does the device have this state? */
static bool exists(const struct vgg__moments *moments, uint32_t index, uint32_t slot,
                   float *scratch)
{
    return vgg__plan_slot_read(moments->trainer->plan, index,
                               (vgg_slot)(VGG_SLOT_STATE0 + slot), scratch) == VGG_OK;
}

vgg_status vgg__moments_apply(const struct vgg__moments *moments)
{
    const vgg_trainer *trainer = moments->trainer;
    for (uint32_t i = 0; i < trainer->model->param_count; i++)
        for (uint32_t s = 0; s < VGG_MOMENTS; s++) {
            float *values = moments->values[i * VGG_MOMENTS + s];
            if (values == NULL) continue;
            if (!moments->present) {
                /* Zero where there is something, and nothing is made where there
                 * isn't. */
                if (!exists(moments, i, s, values)) continue;
                memset(values, 0, trainer->model->params[i]->count * sizeof *values);
            }
            VGG_TRY(vgg__plan_slot_write(trainer->plan, i,
                                         (vgg_slot)(VGG_SLOT_STATE0 + s), values));
        }
    return VGG_OK;
}

/* The items of a file; `names` has room for each. */
static uint32_t list_items(const struct vgg__moments *moments,
                           struct vgg__st_item *items, char (*names)[NAME_SIZE])
{
    const vgg_model *model = moments->trainer->model;
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->param_count; i++)
        for (uint32_t s = 0; s < VGG_MOMENTS; s++) {
            const vgg_param *param = model->params[i];
            const float *values = moments->values[i * VGG_MOMENTS + s];
            if (values == NULL) continue;
            write_name(param, s, names[count]);
            items[count] = (struct vgg__st_item){names[count], &param->shape,
                                                 param->count, values};
            count++;
        }
    return count;
}

vgg_status vgg__moments_write(const struct vgg__moments *moments, struct vgg__out *out)
{
    vgg_context *ctx = moments->trainer->ctx;
    const size_t most = (size_t)moments->trainer->model->param_count * VGG_MOMENTS;
    struct vgg__st_item *items = vgg__calloc(ctx, most, sizeof *items);
    char(*names)[NAME_SIZE] = vgg__calloc(ctx, most, sizeof *names);
    vgg_status status = items == NULL || names == NULL ? VGG_ENOMEM : VGG_OK;
    if (status == VGG_OK)
        status = vgg__safetensors_write(out, ctx, items,
                                        list_items(moments, items, names), NULL);
    vgg__free(items);
    vgg__free(names);
    return status;
}

void vgg__moments_free(struct vgg__moments *moments)
{
    if (moments->values == NULL) return;
    const uint32_t count = moments->trainer->model->param_count * VGG_MOMENTS;
    for (uint32_t i = 0; i < count; i++) vgg__free(moments->values[i]);
    vgg__free(moments->values);
    moments->values = NULL;
}
