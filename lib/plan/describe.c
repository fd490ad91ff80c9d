/* SPDX-License-Identifier: Apache-2.0 */
/* A plan as text: a line about the device, a line a stage, a line about memory. */
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "plan/lower.h"
#include "plan/plan.h"

#define LINE 512

static const char *const mode_names[] = {
    [VGG_MODE_INFER] = "infer", [VGG_MODE_TRAIN] = "train", [VGG_MODE_GRAD] = "grad"};
static const char *const precision_names[] = {
    [VGG_FP32] = "fp32", [VGG_FP64] = "fp64", [VGG_TF32] = "tf32", [VGG_BF16] = "bf16"};

char *vgg__plan_text(vgg_plan *plan)
{
    const vgg_program_desc *desc = &plan->lowered->desc;
    const size_t size = (desc->stage_count + 3) * (size_t)(2 * LINE);
    char *text = vgg__alloc(plan->ctx, size);
    if (text == NULL) return NULL;

    int at = snprintf(text, size, "device %s: %s\nbatch %u, %s%s, %s%s%s\n",
                      plan->device->desc.name, plan->device->desc.text, desc->batch,
                      mode_names[desc->mode], desc->step ? " and update" : "",
                      precision_names[desc->precision],
                      desc->weights == VGG_BF16 ? ", linear weights in bf16" : "",
                      desc->deterministic ? ", deterministic" : "");
    for (uint32_t i = 0; i < desc->stage_count; i++) {
        char line[LINE] = "";
        plan->device->engine->describe(plan->program, i, line, sizeof line);
        at += snprintf(text + at, size - (size_t)at, "%s\n", line);
    }
    snprintf(text + at, size - (size_t)at, "plan: %llu MiB\n",
             (unsigned long long)((plan->bytes + (1 << 20) - 1) >> 20));
    return text;
}
