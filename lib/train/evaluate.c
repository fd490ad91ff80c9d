/* SPDX-License-Identifier: Apache-2.0 */
/* A model over one epoch of a loader, into metrics. */
#include "train/evaluate.h"

#include "core/error.h"
#include "core/memory.h"
#include "data/loader.h"
#include "model/model.h"
#include "tensor/tensor.h"

vgg_status vgg__check_loader(const vgg_model *model, const char *what,
                             const vgg_loader *loader)
{
    const vgg_shape *in = vgg_model_input_shape(model), *is = vgg_loader_shape(loader);
    if (!vgg__shape_equal(in, is)) {
        char found[64], expected[64];
        vgg_shape_text(is, found, sizeof found);
        vgg_shape_text(in, expected, sizeof expected);
        return vgg__fail(VGG_ESHAPE, "%s gives samples of %s; the model takes %s", what,
                         found, expected);
    }
    const vgg_shape *out = vgg_model_output_shape(model);
    const uint32_t classes = vgg_dataset_classes(vgg_loader_dataset(loader));
    if (out->rank != 1 || classes > out->dim[0])
        return vgg__fail(VGG_ESHAPE, "%s has %u classes; the model has %u outputs",
                         what, classes, out->rank == 1 ? out->dim[0] : 0);
    return vgg__loader_check_free(loader);
}

static vgg_status run_batches(vgg_plan *plan, struct vgg__feed *feed,
                              vgg_metrics *metrics, vgg_tensor *logits,
                              const atomic_int *cancel)
{
    for (;;) {
        struct vgg__fed fed;
        VGG_TRY(vgg__feed_next(feed, &fed));
        if (fed.batch.count == 0) return VGG_OK;
        if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed))
            return vgg__fail(VGG_ECANCELED, "canceled during an evaluation");
        vgg_tensor *rows = NULL;
        VGG_TRY(vgg_tensor_view(logits, 0, fed.batch.count, &rows));
        vgg_status status = vgg__fed_forward(&fed, plan, rows);
        if (status == VGG_OK) status = vgg_metrics_add(metrics, rows, fed.batch.labels);
        vgg_tensor_free(rows);
        if (status != VGG_OK) return status;
    }
}

vgg_status vgg__evaluate(vgg_plan *plan, struct vgg__feed *feed, vgg_metrics *metrics,
                         const atomic_int *cancel)
{
    VGG_TRY(vgg__loader_seek(feed->loader, 0, 0));
    const vgg_shape *out = vgg_model_output_shape(plan->model);
    const vgg_shape shape = {2, {vgg_loader_batch_size(feed->loader), out->dim[0]}};
    vgg_tensor *logits = NULL;
    VGG_TRY(vgg_tensor_create(plan->ctx, VGG_F32, &shape, &logits));
    const vgg_status status = run_batches(plan, feed, metrics, logits, cancel);
    vgg_tensor_free(logits);
    return status;
}

static vgg_status evaluate_with(vgg_plan *plan, vgg_loader *loader,
                                vgg_metrics *metrics)
{
    struct vgg__feed feed;
    vgg_status status = vgg__feed_open(&feed, plan->device, loader);
    if (status == VGG_OK) status = vgg__evaluate(plan, &feed, metrics, NULL);
    vgg__feed_close(&feed);
    return status;
}

vgg_status vgg_evaluate(vgg_model *model, vgg_device *device, vgg_loader *loader,
                        vgg_metrics *metrics)
{
    VGG_REQUIRE(model != NULL);
    VGG_REQUIRE(device != NULL);
    VGG_REQUIRE(loader != NULL);
    VGG_REQUIRE(metrics != NULL);
    VGG_TRY(vgg__check_loader(model, "the loader", loader));
    vgg_plan *plan = NULL;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = vgg_loader_batch_size(loader);
    VGG_TRY(vgg_plan_create(model, device, &opts, &plan));
    const vgg_status status = evaluate_with(plan, loader, metrics);
    vgg_plan_free(plan);
    return status;
}

vgg_status vgg_plan_evaluate(vgg_plan *plan, vgg_loader *loader, vgg_metrics *metrics)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(loader != NULL);
    VGG_REQUIRE(metrics != NULL);
    VGG_TRY(vgg__check_loader(plan->model, "the loader", loader));
    if (plan->opts.mode == VGG_MODE_TRAIN)
        return vgg__fail(VGG_ESTATE, "a training plan can't evaluate: it drops out and "
                                     "uses the batch's statistics");
    if (vgg_loader_batch_size(loader) > plan->opts.batch)
        return vgg__fail(VGG_ESHAPE,
                         "the loader gives batches of %u; the plan takes %u",
                         vgg_loader_batch_size(loader), plan->opts.batch);
    return evaluate_with(plan, loader, metrics);
}
