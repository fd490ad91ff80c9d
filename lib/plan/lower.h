/* SPDX-License-Identifier: Apache-2.0 */
/* Lowering: from layers to the stages of one engine. */
#ifndef VGG_LIB_LOWER_H
#define VGG_LIB_LOWER_H

#include "backend.h"
#include "device/device.h"
#include "model/model.h"

struct vgg__lowered {
    vgg_program_desc desc; /* of the fields below */
    vgg_stage *stages;
    vgg_param_desc *params;
    /* Stage whose output is the layer's; only the last of fused layers has one. A stage
     * of a tap is none's: it stands behind that of its layer. */
    uint32_t *stage_of_layer;
    uint32_t *tap_number;                 /* of opts->taps[i]: index for VGG_VIEW_TAP */
    const vgg_layer **tap_layer;          /* of opts->taps[i] */
    char (*names)[VGG_NAME_SIZE * 2 + 2]; /* of stages: "conv1_1..pool1" */
};

/* Lower a model for a device. Fails when a tap is unknown or the engine can't run a
 * stage even by itself. */
vgg_status vgg__lower(vgg_model *model, vgg_device *device,
                      const vgg_plan_options *opts, struct vgg__lowered **out);

void vgg__lowered_free(struct vgg__lowered *lowered);

#endif
