/* SPDX-License-Identifier: Apache-2.0 */
/* From an operation graph to plans that run; see dnn.h. */
#include "cudnn/dnn.h"

#include <stdio.h>

#define MOST_CONFIGS 64
#define MOST_NOTES   16

/* ---- Small calls ----------------------------------------------------------------- */

static void destroy(const struct vgg__api *api, cudnnBackendDescriptor_t descriptor)
{
    if (descriptor != NULL) api->dnnDestroyDescriptor(descriptor);
}

static bool set_one(const struct vgg__api *api, cudnnBackendDescriptor_t descriptor,
                    cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    const void *value)
{
    return api->dnnSetAttribute(descriptor, name, type, 1, value) ==
           CUDNN_STATUS_SUCCESS;
}

/* ---- Configurations -------------------------------------------------------------- */

/* What a configuration's engine says of itself. */
struct engine_notes {
    int64_t number;
    bool tensor_cores, cuts, varies, transforms, keeps_nan, compiles;
};

static bool read_notes(const struct vgg__api *api, cudnnBackendDescriptor_t config,
                       struct engine_notes *out)
{
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t numerical[MOST_NOTES];
    cudnnBackendBehaviorNote_t behavior[MOST_NOTES];
    int64_t count = 0;
    *out = (struct engine_notes){.number = -1};
    if (api->dnnCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) !=
        CUDNN_STATUS_SUCCESS)
        return false;
    bool known = api->dnnGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                      &engine) == CUDNN_STATUS_SUCCESS;
    if (known)
        known = api->dnnGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                     CUDNN_TYPE_NUMERICAL_NOTE, MOST_NOTES, &count,
                                     numerical) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; known && i < count && i < MOST_NOTES; i++) {
        out->tensor_cores |= numerical[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        out->cuts |= numerical[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                     numerical[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
        out->varies |= numerical[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        out->transforms |= numerical[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD ||
                           numerical[i] == CUDNN_NUMERICAL_NOTE_FFT;
        out->keeps_nan |= numerical[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
    }
    count = 0;
    if (known && api->dnnGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                      CUDNN_TYPE_BEHAVIOR_NOTE, MOST_NOTES, &count,
                                      behavior) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < count && i < MOST_NOTES; i++)
            out->compiles |= behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    count = 0;
    if (known)
        api->dnnGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64,
                             1, &count, &out->number);
    destroy(api, engine);
    return known;
}

/* The configurations that one mode of the heuristics lists, best first. */
static uint32_t list_configs(const struct vgg__dnn_target *target,
                             cudnnBackendDescriptor_t graph,
                             cudnnBackendHeurMode_t mode,
                             cudnnBackendDescriptor_t configs[MOST_CONFIGS])
{
    const struct vgg__api *api = target->api;
    cudnnBackendDescriptor_t heuristics = NULL;
    int64_t count = 0, got = 0;
    uint32_t made = 0;
    if (api->dnnCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics) !=
        CUDNN_STATUS_SUCCESS)
        return 0;
    bool known = set_one(api, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                         CUDNN_TYPE_BACKEND_DESCRIPTOR, &graph) &&
                 set_one(api, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE,
                         CUDNN_TYPE_HEUR_MODE, &mode);
    if (known && target->properties != NULL)
        known = set_one(api, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP,
                        CUDNN_TYPE_BACKEND_DESCRIPTOR, &target->properties);
    known = known && api->dnnFinalize(heuristics) == CUDNN_STATUS_SUCCESS &&
            api->dnnGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                 NULL) == CUDNN_STATUS_SUCCESS;
    while (known && made < count && made < MOST_CONFIGS &&
           api->dnnCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                    &configs[made]) == CUDNN_STATUS_SUCCESS)
        made++;
    if (made > 0 && api->dnnGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &got,
                                         configs) != CUDNN_STATUS_SUCCESS)
        got = 0;
    while (made > (got < 0 ? 0 : (uint32_t)got)) destroy(api, configs[--made]);
    destroy(api, heuristics);
    return made;
}

/* ---- Plans ----------------------------------------------------------------------- */

static bool make_plan(const struct vgg__dnn_target *target,
                      cudnnBackendDescriptor_t config, const struct engine_notes *notes,
                      struct vgg__dnn_plan *out)
{
    const struct vgg__api *api = target->api;
    int64_t count = 0, workspace = 0;
    *out = (struct vgg__dnn_plan){0};
    if (api->dnnCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &out->plan) !=
        CUDNN_STATUS_SUCCESS)
        return false;
    bool made = set_one(api, out->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                        CUDNN_TYPE_BACKEND_DESCRIPTOR, &config);
    if (made && target->handle != NULL)
        made = set_one(api, out->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                       CUDNN_TYPE_HANDLE, &target->handle);
    if (made && target->properties != NULL)
        made = set_one(api, out->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                       CUDNN_TYPE_BACKEND_DESCRIPTOR, &target->properties);
    made = made && api->dnnFinalize(out->plan) == CUDNN_STATUS_SUCCESS &&
           api->dnnGetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                CUDNN_TYPE_INT64, 1, &count,
                                &workspace) == CUDNN_STATUS_SUCCESS &&
           workspace >= 0 && (size_t)workspace <= target->most_workspace;
    if (!made) {
        vgg__dnn_plan_free(api, out);
        return false;
    }
    out->workspace = (size_t)workspace;
    snprintf(out->text, sizeof out->text, "cuDNN engine %lld%s%s",
             (long long)notes->number, notes->compiles ? ", compiled" : "",
             notes->tensor_cores ? "" : ", no TC");
    return true;
}

void vgg__dnn_plan_free(const struct vgg__api *api, struct vgg__dnn_plan *plan)
{
    destroy(api, plan->plan);
    *plan = (struct vgg__dnn_plan){0};
}

bool vgg__dnn_plan_write(const struct vgg__dnn_target *target, const vgg_host *host,
                         const struct vgg__dnn_plan *plan, char **text, size_t *length)
{
    const struct vgg__api *api = target->api;
    int64_t count = 0, got = 0;
    *text = NULL;
    if (api->dnnGetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                             CUDNN_TYPE_CHAR, 0, &count,
                             NULL) != CUDNN_STATUS_SUCCESS ||
        count <= 0)
        return false;
    *text = host->alloc(host->ctx, (size_t)count);
    if (*text == NULL) return false;
    if (api->dnnGetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                             CUDNN_TYPE_CHAR, count, &got,
                             *text) != CUDNN_STATUS_SUCCESS) {
        host->release(*text);
        *text = NULL;
        return false;
    }
    *length = (size_t)got;
    return true;
}

bool vgg__dnn_plan_read(const struct vgg__dnn_target *target, const char *text,
                        size_t length, struct vgg__dnn_plan *out)
{
    const struct vgg__api *api = target->api;
    int64_t count = 0, workspace = 0;
    *out = (struct vgg__dnn_plan){0};
    if (api->dnnCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &out->plan) !=
        CUDNN_STATUS_SUCCESS)
        return false;
    const bool made =
        set_one(api, out->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                &target->handle) &&
        api->dnnSetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                             CUDNN_TYPE_CHAR, (int64_t)length,
                             text) == CUDNN_STATUS_SUCCESS &&
        api->dnnFinalize(out->plan) == CUDNN_STATUS_SUCCESS &&
        api->dnnGetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                             CUDNN_TYPE_INT64, 1, &count,
                             &workspace) == CUDNN_STATUS_SUCCESS &&
        workspace >= 0 && (size_t)workspace <= target->most_workspace;
    if (!made) vgg__dnn_plan_free(api, out);
    out->workspace = (size_t)workspace;
    return made;
}

/* Looking for plans. */
struct search {
    const struct vgg__dnn_target *target;
    const struct vgg__dnn_problem *problem;
    struct vgg__dnn_plan *plans;
    uint32_t most, made, refused;
};

/* Whether an engine computes what was asked for.
 *
 * Some make products of f32 from parts with fewer bits and have no note for it:
 * gradients of weights, an H200, cuDNN 9.14. None that keeps NaN as IEEE does is one of
 * them, and every GPU that tests/plans knows has such an engine. */
static bool is_exact(const struct search *s, const struct engine_notes *notes)
{
    if (notes->cuts) return false;
    if (!s->problem->strict) return true;
    if (s->problem->what == VGG__DNN_WEIGHTS && !notes->keeps_nan) return false;
    return !notes->tensor_cores && !notes->transforms;
}

static void search_list(struct search *s, const cudnnBackendDescriptor_t *configs,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count && s->made < s->most; i++) {
        struct engine_notes notes;
        if (!read_notes(s->target->api, configs[i], &notes)) continue;
        if (!is_exact(s, &notes)) continue;
        if (notes.varies)
            s->refused++;
        else if (make_plan(s->target, configs[i], &notes, &s->plans[s->made]))
            s->made++;
    }
}

uint32_t vgg__dnn_plans(const struct vgg__dnn_target *target,
                        const struct vgg__dnn_problem *problem,
                        struct vgg__dnn_plan *plans, uint32_t most, uint32_t *refused)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    struct search search = {target, problem, plans, most, 0, 0};
    *refused = 0;
    cudnnBackendDescriptor_t graph = vgg__dnn_graph(target, problem);
    if (graph == NULL) return 0;
    /* The fallback list is what works when the best do not: looked at only then. */
    for (size_t m = 0; m < sizeof modes / sizeof *modes && search.made == 0; m++) {
        cudnnBackendDescriptor_t configs[MOST_CONFIGS];
        const uint32_t count = list_configs(target, graph, modes[m], configs);
        search_list(&search, configs, count);
        for (uint32_t i = 0; i < count; i++) destroy(target->api, configs[i]);
    }
    destroy(target->api, graph);
    *refused = search.refused;
    return search.made;
}

/* ---- Running --------------------------------------------------------------------- */

cudnnStatus_t vgg__dnn_run(const struct vgg__dnn_target *target,
                           const struct vgg__dnn_plan *plan,
                           const struct vgg__dnn_pointers *p)
{
    const struct vgg__api *api = target->api;
    const struct {
        int64_t uid;
        const void *pointer;
    } all[] = {{VGG__DNN_X, p->x},       {VGG__DNN_W, p->w},
               {VGG__DNN_DY, p->dy},     {VGG__DNN_BIAS, p->bias},
               {VGG__DNN_MASK, p->mask}, {VGG__DNN_OUT, p->out}};
    int64_t uids[sizeof all / sizeof *all];
    const void *pointers[sizeof all / sizeof *all];
    int64_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].pointer == NULL) continue;
        uids[count] = all[i].uid;
        pointers[count++] = all[i].pointer;
    }
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t status =
        api->dnnCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status == CUDNN_STATUS_SUCCESS)
        status = api->dnnSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                      CUDNN_TYPE_INT64, count, uids);
    if (status == CUDNN_STATUS_SUCCESS)
        status = api->dnnSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                      CUDNN_TYPE_VOID_PTR, count, pointers);
    if (status == CUDNN_STATUS_SUCCESS)
        status = api->dnnSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                      CUDNN_TYPE_VOID_PTR, 1, &p->workspace);
    if (status == CUDNN_STATUS_SUCCESS) status = api->dnnFinalize(pack);
    if (status == CUDNN_STATUS_SUCCESS)
        status = api->dnnExecute(target->handle, plan->plan, pack);
    destroy(api, pack);
    return status;
}
