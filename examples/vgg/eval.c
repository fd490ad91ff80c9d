/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg eval`: saved weights on the data set that they were trained for. */
#include "args.h"
#include "files.h"
#include "report.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>

/* The folder that a run's args.json names; never another one in its place. */
static int data_of_run(struct settings *s, const char *args)
{
    struct settings *of_run = malloc(sizeof *of_run);
    if (!of_run) return fail("out of memory");
    settings_init(of_run);
    mute(true); /* what is wrong with the file does not matter here */
    int status = args_load(of_run, args, false);
    mute(false);
    const char *reason =
        status == 0 && of_run->data[0] ? why_no_folder(of_run->data) : NULL;
    if (status != 0)
        status = fail("%s is damaged, and would say where the data is: say it with "
                      "--data DIR",
                      args);
    else if (reason)
        status = fail("the run was trained with the data in %s (%s): say with --data "
                      "DIR where it is now",
                      of_run->data, reason);
    else
        memcpy(s->data, of_run->data, sizeof s->data);
    free(of_run);
    return status;
}

/* The folder of the data: --data, else the run's, else (of weights that belong to none)
 * the default. */
static int find_data(struct settings *s, const char *folder)
{
    char path[2 * TEXT_SIZE];
    if (s->data[0] || !folder[0]) return 0;
    if (!path_join(path, sizeof path, folder, "args.json")) return 0;
    return is_file(path) ? data_of_run(s, path) : 0;
}

/* Refuse data that the network can't have been trained for. */
static int check_fit(const struct session *it, const vgg_loader *loader)
{
    char net[64], data[64];
    const vgg_shape *in = vgg_model_input_shape(it->model);
    const vgg_shape *out = vgg_model_output_shape(it->model);
    const vgg_shape *sample = vgg_loader_shape(loader);
    vgg_shape_text(in, net, sizeof net);
    vgg_shape_text(sample, data, sizeof data);
    if (strcmp(net, data) != 0)
        return fail("the network takes %s images and this data gives %s", net, data);
    const uint32_t classes = vgg_dataset_classes(vgg_loader_dataset(loader));
    if (out->rank != 1 || out->dim[0] < classes)
        return fail("the network has %u outputs and this data has %u classes",
                    (unsigned)out->dim[0], (unsigned)classes);
    return 0;
}

/* One pass over the loader, into `metrics`. */
static int run_plan(struct session *it, const struct settings *s, vgg_metrics *metrics)
{
    vgg_plan *plan = NULL;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = vgg_loader_batch_size(it->test_loader);
    opts.precision = session_precision(s);
    opts.weights = session_weight_kind(s);
    opts.deterministic = (uint32_t)s->deterministic;
    vgg_status status = vgg_plan_create(it->model, it->device, &opts, &plan);
    if (status == VGG_OK) status = vgg_plan_evaluate(plan, it->test_loader, metrics);
    vgg_plan_free(plan);
    return status == VGG_OK ? 0 : fail_vgg("evaluation");
}

static int open_data(struct session *it, const struct settings *s,
                     const vgg_transform *transform)
{
    const char *split = flag_find("split")->choices[s->split];
    const int status = session_data(it, s, split, &it->test);
    return status != 0
               ? status
               : session_loader(s, transform, it->test, false, &it->test_loader);
}

/* Weights that say what the network is and what it was shown. */
static int open_saved(struct session *it, struct settings *s)
{
    vgg_transform transform;
    char folder[TEXT_SIZE];
    int status = session_weights(it, s->path, folder);
    if (status == 0) status = find_data(s, folder);
    if (status == 0) status = session_names(it, s); /* which have names: a refusal */
    if (status == 0) status = card_read(it, s, &transform);
    if (status == 0) status = open_data(it, s, &transform);
    return status == 0 ? check_fit(it, it->test_loader) : status;
}

/* Folders alone do not say which output a class is, where there are more outputs. */
static int check_classes(const struct session *it, const struct settings *s)
{
    const uint32_t outputs = vgg_model_output_shape(it->model)->dim[0];
    const uint32_t classes = vgg_dataset_classes(it->test);
    if (!has_pictures(s) || it->names || classes == outputs) return 0;
    return fail("the network has %u outputs, and %s folders of %u classes: say with "
                "--names FILE which output is which, a name a line",
                (unsigned)outputs, s->data, (unsigned)classes);
}

/* Weights of a network that the command line names. */
static int open_named(struct session *it, struct settings *s)
{
    vgg_transform transform;
    char folder[TEXT_SIZE];
    int status = session_find_weights(s->path, it->weights, folder);
    if (status == 0) status = session_check(it->ctx, it->weights);
    if (status == 0) status = find_data(s, folder);
    if (status == 0) status = settings_transform(s, &transform);
    if (status == 0) status = session_names(it, s);
    if (status == 0) status = open_data(it, s, &transform);
    if (status == 0) status = session_model(it, s, it->test_loader);
    if (status == 0) status = check_classes(it, s);
    return status == 0 ? session_named_weights(it) : status;
}

static int evaluate(struct session *it, const struct settings *s)
{
    vgg_metrics *metrics = NULL;
    const uint32_t classes = vgg_model_output_shape(it->model)->dim[0];
    char place[128];
    session_place(it, s, place, sizeof place);
    const double start = now_seconds();
    if (vgg_metrics_create(it->ctx, classes, &metrics) != VGG_OK)
        return fail_vgg("evaluation");
    const int status = run_plan(it, s, metrics);
    if (status != 0) {
        vgg_metrics_free(metrics);
        return status;
    }
    const struct report report = {
        .metrics = metrics,
        .data = it->test,
        .split = flag_find("split")->choices[s->split],
        .dataset = dataset_name(s),
        .folder = session_folder(s),
        .device = vgg_device_name(it->device),
        .precision = flag_find("precision")->choices[s->precision],
        .linear_weights = flag_find("weights")->choices[s->weights],
        .weights = it->weights,
        .epochs = vgg_metadata_get(it->metadata, "app.epochs"),
        .place = place,
        .classes = classes,
        .seconds = now_seconds() - start,
    };
    if (s->format == FORMAT_JSON)
        report_json(&report);
    else
        report_text(&report);
    vgg_metrics_free(metrics);
    return 0;
}

int eval_main(struct settings *s)
{
    struct session it = {0};
    if (!s->path[0])
        return misuse(
            "what is to be evaluated? Give a run directory, a checkpoint or a "
            "weights file");
    int status = session_open(&it, s);
    if (status == 0)
        status = settings_name_network(s) ? open_named(&it, s) : open_saved(&it, s);
    if (status == 0) status = evaluate(&it, s);
    session_close(&it);
    return status;
}
