/* SPDX-License-Identifier: Apache-2.0 */
/* Execution plans of the simulated cuDNN: made of a configuration or of text, and run
 * with pointers.
 *
 * A run takes two steps. In the first it fills its work space with a number of its own
 * and computes from its inputs, in the second it finds that number again and writes its
 * outputs; so work in other streams that shares memory with it is found out. */
#include "dnn.h"

struct plan {
    struct dnn_config config;
    int device;
    char name[64]; /* of a device, from text; empty: any */
};

/* ---- Making ---------------------------------------------------------------------- */

cudnnStatus_t dnn_plan_finalize(struct dnn_object *object)
{
    struct plan *plan = object->info;
    const struct dnn_object *config =
        dnn_child(object, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 0);
    if (!plan && !config)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                              "cudnnBackendFinalize: a plan of no configuration");
    if (!plan) {
        object->info = plan = sim_new(sizeof *plan);
        memcpy(&plan->config, config->info, sizeof plan->config);
        object->about = dnn_hold(config->about);
    }
    plan->device = dnn_device(object);
    const struct cudaDeviceProp *device = sim_properties(plan->device);
    if (!device)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                              "cudnnBackendFinalize: a plan for no device");
    if (plan->name[0] != '\0' && strcmp(plan->name, device->name) != 0)
        return CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH;
    if (plan->config.refusal) return plan->config.refusal;
    dnn_put(object, dnn_field(object->type, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE),
            1, &plan->config.workspace);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Text ------------------------------------------------------------------------ */

/* What the text holds in hexadecimal. */
struct content {
    struct dnn_config config;
    struct dnn_graph graph;
};

static const char head[] =
    "{\"cudnnVersion\":%zu,\"deviceName\":\"%s\",\"sum\":\"%016llx\","
    "\"plan\":\"";

static uint64_t sum_of(const struct content *content)
{
    return sim_hash_bytes(0, content, sizeof *content);
}

cudnnStatus_t dnn_plan_json(struct dnn_object *object, int64_t room, int64_t *count,
                            char *text)
{
    const struct plan *plan = object->info;
    struct content *content = sim_new(sizeof *content);
    memcpy(&content->config, &plan->config, sizeof content->config);
    memcpy(&content->graph, object->about->info, sizeof content->graph);
    char begin[256];
    const int length = snprintf(begin, sizeof begin, head, vgg__simulated.dnn_version,
                                sim_properties(plan->device)->name,
                                (unsigned long long)sum_of(content));
    *count = length + 2 * (int64_t)sizeof *content + 2;
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (room > 0 && room < *count) status = CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    if (room > 0 && !status) {
        memcpy(text, begin, (size_t)length);
        text += length;
        for (size_t i = 0; i < sizeof *content; i++) {
            const unsigned char byte = ((const unsigned char *)content)[i];
            *text++ = "0123456789abcdef"[byte >> 4];
            *text++ = "0123456789abcdef"[byte & 15];
        }
        memcpy(text, "\"}", 2);
    }
    free(content);
    return status;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_content(const char *text, struct content *content)
{
    for (size_t i = 0; i < sizeof *content; i++) {
        const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        ((unsigned char *)content)[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* Text that is damaged or of another version is no misuse: files are like that. */
cudnnStatus_t dnn_plan_load(struct dnn_object *object, int64_t count, const char *text)
{
    struct content *content = sim_new(sizeof *content);
    struct plan plan = {0};
    size_t version = 0;
    unsigned long long sum = 0;
    int length = 0;
    char copy[256] = "";
    memcpy(copy, text, count < 255 ? (size_t)count : 255);
    const int found =
        sscanf(copy,
               "{\"cudnnVersion\":%zu,\"deviceName\":\"%63[^\"]\",\"sum\":"
               "\"%16llx\",\"plan\":\"%n",
               &version, plan.name, &sum, &length);
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (found != 3 || length == 0 ||
        count != length + 2 * (int64_t)sizeof *content + 2 ||
        !read_content(text + length, content) || sum_of(content) != sum)
        status = CUDNN_STATUS_BAD_PARAM;
    else if (version != vgg__simulated.dnn_version)
        status = CUDNN_STATUS_SERIALIZATION_VERSION_MISMATCH;
    if (!status) {
        memcpy(&plan.config, &content->config, sizeof plan.config);
        struct dnn_object *graph = dnn_new(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        graph->info = sim_new(sizeof content->graph);
        memcpy(graph->info, &content->graph, sizeof content->graph);
        graph->final = true;
        dnn_drop(object->about);
        free(object->info);
        object->about = graph;
        object->info = sim_new(sizeof plan);
        memcpy(object->info, &plan, sizeof plan);
    }
    free(content);
    return status;
}

/* ---- Running --------------------------------------------------------------------- */

struct run {
    struct sim_op op;
    struct dnn_object *about;
    struct dnn_config config;
    void *pointers[DNN_TENSORS]; /* of what is in memory */
    uint8_t *workspace;
};

/* Between the steps. */
struct between {
    uint64_t token;
    double outputs[];
};

static const struct dnn_graph *graph_of(const struct run *run)
{
    return run->about->info;
}

static void fill_token(uint8_t *at, int64_t size, uint64_t token)
{
    for (int64_t i = 0; i < size; i++) at[i] = (uint8_t)(token >> 8 * (i & 7));
}

static bool has_token(const uint8_t *at, int64_t size, uint64_t token)
{
    for (int64_t i = 0; i < size; i++)
        if (at[i] != (uint8_t)(token >> 8 * (i & 7))) return false;
    return true;
}

/* Memory may have been released since the run was queued. */
static bool still_there(const struct run *run)
{
    const struct dnn_graph *graph = graph_of(run);
    char why[160];
    for (int i = 0; i < graph->tensor_count; i++)
        if (run->pointers[i] &&
            !sim_device_range(run->pointers[i], dnn_extent(&graph->tensors[i]), why,
                              sizeof why)) {
            sim_violate("cudnnBackendExecute, when carried out: tensor %lld: %s",
                        (long long)graph->tensors[i].uid, why);
            return false;
        }
    if (run->config.workspace > 0 &&
        !sim_device_range(run->workspace, (size_t)run->config.workspace, why,
                          sizeof why)) {
        sim_violate("cudnnBackendExecute, when carried out: work space: %s", why);
        return false;
    }
    return true;
}

static void begin_run(const struct run *run, struct between **between)
{
    const struct dnn_graph *graph = graph_of(run);
    struct dnn_value values[DNN_TENSORS] = {{NULL}};
    int64_t total = 0;
    for (int i = 0; i < graph->tensor_count; i++) {
        const struct dnn_tensor *tensor = &graph->tensors[i];
        if (tensor->is_virtual) continue;
        if (!dnn_is_input(graph, i)) {
            total += dnn_elements(tensor);
            continue;
        }
        values[i].at = sim_new((size_t)dnn_elements(tensor) * sizeof(double));
        dnn_read(tensor, run->pointers[i], values[i].at);
    }
    dnn_compute(graph, &run->config, values);
    *between = sim_new(sizeof **between + (size_t)total * sizeof(double));
    (*between)->token = sim_random(UINT64_MAX);
    double *out = (*between)->outputs;
    for (int i = 0; i < graph->tensor_count; i++) {
        const int64_t count = dnn_elements(&graph->tensors[i]);
        if (!graph->tensors[i].is_virtual && !dnn_is_input(graph, i)) {
            memcpy(out, values[i].at, (size_t)count * sizeof *out);
            out += count;
        }
        free(values[i].at);
    }
    fill_token(run->workspace, run->config.workspace, (*between)->token);
}

static void end_run(const struct run *run, const struct between *between)
{
    const struct dnn_graph *graph = graph_of(run);
    if (!has_token(run->workspace, run->config.workspace, between->token)) {
        sim_violate("cudnnBackendExecute: its work space was written by other work at "
                    "the same time");
        return;
    }
    const double *out = between->outputs;
    for (int i = 0; i < graph->tensor_count; i++) {
        if (graph->tensors[i].is_virtual || dnn_is_input(graph, i)) continue;
        dnn_write(&graph->tensors[i], run->pointers[i], out);
        out += dnn_elements(&graph->tensors[i]);
    }
}

static void run_plan(struct sim_op *op, uint32_t step, void **state)
{
    const struct run *run = (const struct run *)op;
    if (!still_there(run)) return;
    if (step == 0) {
        begin_run(run, (struct between **)state);
        return;
    }
    end_run(run, *state);
    free(*state);
    *state = NULL;
}

static void drop_run(struct sim_op *op)
{
    dnn_drop(((struct run *)op)->about);
}

/* ---- Binding --------------------------------------------------------------------- */

static bool overlap(const void *a, size_t a_size, const void *b, size_t b_size)
{
    return (const uint8_t *)a < (const uint8_t *)b + b_size &&
           (const uint8_t *)b < (const uint8_t *)a + a_size;
}

/* May output `out` lie exactly where `in` does? Only what is read an element at a time,
 * where the output's element goes. */
static bool in_place(const struct dnn_graph *graph, int in, int out)
{
    const struct dnn_tensor *a = &graph->tensors[in], *b = &graph->tensors[out];
    if (a->type != b->type || memcmp(a->dims, b->dims, sizeof a->dims) != 0 ||
        memcmp(a->strides, b->strides, sizeof a->strides) != 0)
        return false;
    for (int i = 0; i < graph->op_count; i++)
        for (int k = 0; k < 2; k++)
            if (graph->ops[i].in[k] == in && graph->ops[i].kind != DNN_POINTWISE)
                return false;
    return true;
}

static cudnnStatus_t check_overlaps(const struct run *run)
{
    const struct dnn_graph *graph = graph_of(run);
    for (int o = 0; o < graph->tensor_count; o++) {
        if (!run->pointers[o]) continue;
        const size_t size = dnn_extent(&graph->tensors[o]);
        if (overlap(run->pointers[o], size, run->workspace,
                    (size_t)run->config.workspace))
            return sim_dnn_refuse(
                CUDNN_STATUS_BAD_PARAM,
                "cudnnBackendExecute: tensor %lld lies in the work space",
                (long long)graph->tensors[o].uid);
        if (dnn_is_input(graph, o)) continue;
        for (int i = 0; i < graph->tensor_count; i++) {
            if (i == o || !run->pointers[i] ||
                !overlap(run->pointers[o], size, run->pointers[i],
                         dnn_extent(&graph->tensors[i])) ||
                (run->pointers[i] == run->pointers[o] && dnn_is_input(graph, i) &&
                 in_place(graph, i, o)))
                continue;
            return sim_dnn_refuse(
                CUDNN_STATUS_BAD_PARAM,
                "cudnnBackendExecute: output %lld overlaps tensor %lld",
                (long long)graph->tensors[o].uid, (long long)graph->tensors[i].uid);
        }
    }
    return CUDNN_STATUS_SUCCESS;
}

/* The pointer to one tensor that is in memory. */
static cudnnStatus_t bind(const struct dnn_tensor *tensor,
                          const struct dnn_object *pack, void **out)
{
    const struct dnn_attribute *ids =
        dnn_find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const struct dnn_attribute *all =
        dnn_find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    const long long uid = tensor->uid;
    char why[160];
    *out = NULL;
    for (int64_t i = 0; i < ids->count; i++)
        if (((const int64_t *)ids->values)[i] == tensor->uid)
            *out = ((void *const *)all->values)[i];
    if (!*out)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
                              "cudnnBackendExecute: tensor %lld has no pointer", uid);
    if ((uintptr_t)*out % (uintptr_t)tensor->align != 0)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                              "cudnnBackendExecute: tensor %lld is not aligned to %lld "
                              "bytes",
                              uid, (long long)tensor->align);
    if (!sim_device_range(*out, dnn_extent(tensor), why, sizeof why))
        return sim_dnn_refuse(CUDNN_STATUS_EXECUTION_FAILED,
                              "cudnnBackendExecute: tensor %lld: %s", uid, why);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_extra(const struct dnn_graph *graph,
                                 const struct dnn_object *pack)
{
    const struct dnn_attribute *ids =
        dnn_find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    for (int64_t i = 0; i < ids->count; i++) {
        const int64_t uid = ((const int64_t *)ids->values)[i];
        bool known = false;
        for (int t = 0; t < graph->tensor_count; t++)
            known = known ||
                    (graph->tensors[t].uid == uid && !graph->tensors[t].is_virtual);
        if (!known)
            return sim_dnn_refuse(
                CUDNN_STATUS_BAD_PARAM,
                "cudnnBackendExecute: the graph has no tensor %lld in "
                "memory",
                (long long)uid);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t bind_all(struct run *run, const struct dnn_object *pack)
{
    const struct dnn_graph *graph = graph_of(run);
    const struct dnn_attribute *space =
        dnn_find(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    cudnnStatus_t status = check_extra(graph, pack);
    for (int i = 0; !status && i < graph->tensor_count; i++)
        if (!graph->tensors[i].is_virtual)
            status = bind(&graph->tensors[i], pack, &run->pointers[i]);
    char why[160] = "none";
    run->workspace = space ? *(void *const *)space->values : NULL;
    if (!status && run->config.workspace > 0 &&
        (!run->workspace || (uintptr_t)run->workspace % 16 != 0 ||
         !sim_device_range(run->workspace, (size_t)run->config.workspace, why,
                           sizeof why)))
        status =
            sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                           "cudnnBackendExecute: the plan wants %lld bytes of work "
                           "space, aligned to 16: %s",
                           (long long)run->config.workspace, why);
    return status ? status : check_overlaps(run);
}

cudnnStatus_t dnn_execute(cudnnHandle_t handle, struct dnn_object *object,
                          struct dnn_object *pack)
{
    const struct plan *plan = object->info;
    if (dnn_handle_device(handle) < 0)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM, "cudnnBackendExecute: no handle");
    if (dnn_handle_device(handle) != plan->device)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                              "cudnnBackendExecute: the plan is another device's");
    const cudaStream_t stream = dnn_stream(handle);
    if (sim_stream_check(stream, "cudnnBackendExecute"))
        return CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH;
    struct run *run = sim_op_new(sizeof *run, "cudnnBackendExecute", run_plan);
    run->op.steps = 2;
    run->op.drop = drop_run;
    run->about = dnn_hold(object->about);
    run->config = plan->config;
    run->op.cost =
        5000 + sim_hash(graph_of(run)->sum ^ (uint64_t)plan->config.number) % 5000;
    const cudnnStatus_t status = bind_all(run, pack);
    if (status) {
        sim_op_drop(&run->op);
        return status;
    }
    if (!plan->config.varies)
        run->op.identity =
            sim_hash_bytes(run->op.cost, run->pointers, sizeof run->pointers);
    return sim_queue(stream, &run->op) ? CUDNN_STATUS_EXECUTION_FAILED_CUDART
                                       : CUDNN_STATUS_SUCCESS;
}
