/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated cuBLASLt's calls: objects, heuristics, products. */
#include "lt.h"

enum what { HANDLE, DESC, LAYOUT, PREFERENCE };
static const char *const names[] = {"handle", "product description", "matrix layout",
                                    "preference"};

struct preference {
    uint64_t workspace;
    uint32_t schemes, align[4];
};

struct object {
    struct object *next;
    enum what what;
    int device;
    struct lt_desc desc;
    struct lt_layout layout;
    struct preference preference;
};

static struct object *objects;
static const uint64_t magic = 0x6c742d616c676f31;

/* ---- Objects --------------------------------------------------------------------- */

static struct object *find(const void *pointer, enum what what)
{
    for (struct object *o = objects; o; o = o->next)
        if (o == pointer && o->what == what) return o;
    return NULL;
}

static struct object *add(enum what what)
{
    struct object *object = sim_new(sizeof *object);
    object->next = objects;
    object->what = what;
    object->device = sim_device();
    objects = object;
    return object;
}

static cublasStatus_t destroy(const char *name, const void *pointer, enum what what)
{
    const cublasStatus_t status = sim_lt_enter(name, true);
    struct object *object = find(pointer, what);
    if (!object)
        return sim_lt_leave(
            sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: no %s", name, names[what]));
    struct object **link = &objects;
    while (*link != object) link = &(*link)->next;
    *link = object->next;
    free(object);
    return sim_lt_leave(status);
}

static cublasStatus_t create(cublasLtHandle_t *handle)
{
    *handle = NULL;
    cublasStatus_t status = sim_lt_enter("ltCreate", false);
    if (!status && !sim_properties(sim_device()))
        status = CUBLAS_STATUS_NOT_INITIALIZED;
    if (!status) *handle = (cublasLtHandle_t)add(HANDLE);
    return sim_lt_leave(status);
}

static cublasStatus_t destroy_handle(cublasLtHandle_t handle)
{
    return destroy("ltDestroy", handle, HANDLE);
}

static cublasStatus_t desc_create(cublasLtMatmulDesc_t *desc,
                                  cublasComputeType_t compute, cudaDataType_t scale)
{
    *desc = NULL;
    const cublasStatus_t status = sim_lt_enter("ltMatmulDescCreate", true);
    if (!status) {
        struct object *object = add(DESC);
        object->desc = (struct lt_desc){.compute = compute, .scale = scale};
        *desc = (cublasLtMatmulDesc_t)object;
    }
    return sim_lt_leave(status);
}

static cublasStatus_t desc_destroy(cublasLtMatmulDesc_t desc)
{
    return destroy("ltMatmulDescDestroy", desc, DESC);
}

/* Where an attribute of a description or preference goes. */
struct place {
    int name;
    size_t at, size;
};

static const struct place desc_places[] = {
    {CUBLASLT_MATMUL_DESC_TRANSA, offsetof(struct lt_desc, across), 4},
    {CUBLASLT_MATMUL_DESC_TRANSB, offsetof(struct lt_desc, across) + 4, 4},
};

static const struct place preference_places[] = {
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, offsetof(struct preference, workspace),
     8},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, offsetof(struct preference, schemes),
     4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, offsetof(struct preference, align), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, offsetof(struct preference, align) + 4,
     4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, offsetof(struct preference, align) + 8,
     4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
     offsetof(struct preference, align) + 12, 4},
};

static cublasStatus_t set(const struct place *places, size_t count, void *to, int name,
                          const void *value, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        if (places[i].name != name) continue;
        if (!value || size != places[i].size)
            return sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                                 "cuBLASLt: attribute %d has %zu bytes, not %zu", name,
                                 places[i].size, size);
        memcpy((char *)to + places[i].at, value, size);
        return CUBLAS_STATUS_SUCCESS;
    }
    return sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                         "cuBLASLt: attribute %d is not simulated", name);
}

static cublasStatus_t desc_set(cublasLtMatmulDesc_t desc,
                               cublasLtMatmulDescAttributes_t name, const void *value,
                               size_t size)
{
    cublasStatus_t status = sim_lt_enter("ltMatmulDescSetAttribute", true);
    struct object *object = find(desc, DESC);
    if (!status && !object)
        status = sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                               "cublasLtMatmulDescSetAttribute: no description");
    if (!status)
        status = set(desc_places, sizeof desc_places / sizeof *desc_places,
                     &object->desc, name, value, size);
    return sim_lt_leave(status);
}

static cublasStatus_t layout_create(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                    uint64_t rows, uint64_t cols, int64_t ld)
{
    *layout = NULL;
    cublasStatus_t status = sim_lt_enter("ltMatrixLayoutCreate", true);
    if (!status &&
        (rows == 0 || cols == 0 || ld < (int64_t)rows || lt_element(type) == 0))
        status = sim_lt_refuse(
            CUBLAS_STATUS_INVALID_VALUE,
            "cublasLtMatrixLayoutCreate: %llux%llu, leading dimension "
            "%lld, type %d",
            (unsigned long long)rows, (unsigned long long)cols, (long long)ld, type);
    if (!status) {
        struct object *object = add(LAYOUT);
        object->layout = (struct lt_layout){type, (int64_t)rows, (int64_t)cols, ld};
        *layout = (cublasLtMatrixLayout_t)object;
    }
    return sim_lt_leave(status);
}

static cublasStatus_t layout_destroy(cublasLtMatrixLayout_t layout)
{
    return destroy("ltMatrixLayoutDestroy", layout, LAYOUT);
}

static cublasStatus_t preference_create(cublasLtMatmulPreference_t *preference)
{
    *preference = NULL;
    const cublasStatus_t status = sim_lt_enter("ltMatmulPreferenceCreate", true);
    if (!status) {
        struct object *object = add(PREFERENCE);
        object->preference = (struct preference){
            .schemes = CUBLASLT_REDUCTION_SCHEME_MASK, .align = {256, 256, 256, 256}};
        *preference = (cublasLtMatmulPreference_t)object;
    }
    return sim_lt_leave(status);
}

static cublasStatus_t preference_destroy(cublasLtMatmulPreference_t preference)
{
    return destroy("ltMatmulPreferenceDestroy", preference, PREFERENCE);
}

static cublasStatus_t preference_set(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t name,
                                     const void *value, size_t size)
{
    cublasStatus_t status = sim_lt_enter("ltMatmulPreferenceSetAttribute", true);
    struct object *object = find(preference, PREFERENCE);
    if (!status && !object)
        status = sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                               "cublasLtMatmulPreferenceSetAttribute: no preference");
    if (!status)
        status =
            set(preference_places, sizeof preference_places / sizeof *preference_places,
                &object->preference, name, value, size);
    return sim_lt_leave(status);
}

/* ---- Problems -------------------------------------------------------------------- */

size_t lt_element(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 0;
}

size_t lt_extent(const struct lt_layout *layout)
{
    return (size_t)((layout->cols - 1) * layout->ld + layout->rows) *
           lt_element(layout->type);
}

int64_t lt_rows(const struct lt_layout *layout, int32_t across)
{
    return across ? layout->cols : layout->rows;
}

int64_t lt_cols(const struct lt_layout *layout, int32_t across)
{
    return across ? layout->rows : layout->cols;
}

/* The four layouts; false: one is none. */
static bool find_layouts(const cublasLtMatrixLayout_t handles[4],
                         struct lt_layout layouts[4])
{
    for (int i = 0; i < 4; i++) {
        const struct object *object = find(handles[i], LAYOUT);
        if (!object) return false;
        layouts[i] = object->layout;
    }
    return true;
}

static bool is_simulated(const struct lt_desc *desc, const struct lt_layout l[4])
{
    const bool single = l[0].type == CUDA_R_32F;
    const bool computes = desc->compute == CUBLAS_COMPUTE_32F ||
                          (single && desc->compute == CUBLAS_COMPUTE_32F_FAST_TF32);
    return computes && desc->scale == CUDA_R_32F && l[1].type == l[0].type &&
           l[3].type == l[2].type && (l[2].type == CUDA_R_32F || !single);
}

static cublasStatus_t check_shapes(const struct lt_desc *desc,
                                   const struct lt_layout l[4])
{
    const int32_t a = desc->across[0], b = desc->across[1];
    if ((a != CUBLAS_OP_N && a != CUBLAS_OP_T) ||
        (b != CUBLAS_OP_N && b != CUBLAS_OP_T))
        return lt_wrong("a transposition that is neither N nor T");
    if (lt_cols(&l[0], a) != lt_rows(&l[1], b)) return lt_wrong("a and b do not fit");
    if (lt_rows(&l[0], a) != l[3].rows || lt_cols(&l[1], b) != l[3].cols)
        return lt_wrong("a and b do not fit d");
    if (l[2].rows != l[3].rows || l[2].cols != l[3].cols)
        return lt_wrong("c does not fit d");
    return CUBLAS_STATUS_SUCCESS;
}

static uint64_t problem_of(const struct lt_desc *desc, const struct lt_layout l[4])
{
    uint64_t sum = 0xcbf29ce484222325;
    const int64_t own[] = {desc->compute, desc->across[0], desc->across[1]};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sum = (sum ^ (uint64_t)own[i]) * 0x100000001b3;
    for (int i = 0; i < 4; i++) {
        const int64_t part[] = {l[i].type, l[i].rows, l[i].cols, l[i].ld};
        for (int k = 0; k < 4; k++) sum = (sum ^ (uint64_t)part[k]) * 0x100000001b3;
    }
    return sum;
}

/* ---- Heuristics ------------------------------------------------------------------ */

static void put_algo(const struct lt_algo *algo, float waves,
                     cublasLtMatmulHeuristicResult_t *result)
{
    _Static_assert(sizeof *algo <= sizeof result->algo, "an algorithm has 64 bytes");
    *result = (cublasLtMatmulHeuristicResult_t){.workspaceSize = algo->workspace,
                                                .state = CUBLAS_STATUS_SUCCESS,
                                                .wavesCount = waves};
    memcpy(&result->algo, algo, sizeof *algo);
}

/* Split sums first, where they are allowed and there is room; then one without; then,
 * in a place that a careful reader skips, one that can't be used. */
static int list_algos(const struct preference *p, uint64_t problem,
                      const struct lt_layout *d, int requested,
                      cublasLtMatmulHeuristicResult_t *results)
{
    static const uint32_t schemes[] = {
        CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE, CUBLASLT_REDUCTION_SCHEME_INPLACE,
        CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_NONE};
    int count = 0;
    for (int i = 0; i < 4 && count < requested; i++) {
        const uint64_t need = schemes[i] ? (uint64_t)(d->rows * d->cols) * 4 + 256 : 0;
        if ((p->schemes & schemes[i]) != schemes[i] || need > p->workspace) continue;
        const struct lt_algo algo = {
            magic,
            problem,
            need,
            schemes[i],
            {p->align[0], p->align[1], p->align[2], p->align[3]}};
        put_algo(&algo, 1, &results[count++]);
    }
    if (count < requested)
        results[count++] =
            (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_NOT_SUPPORTED};
    return count;
}

static cublasStatus_t
lt_get_heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                 cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                 cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                 cublasLtMatmulPreference_t preference, int requested,
                 cublasLtMatmulHeuristicResult_t results[], int *count)
{
    *count = 0;
    cublasStatus_t status = sim_lt_enter("ltMatmulAlgoGetHeuristic", true);
    const cublasLtMatrixLayout_t handles[4] = {a, b, c, d};
    struct lt_layout layouts[4];
    const struct object *what = find(desc, DESC), *how = find(preference, PREFERENCE);
    if (!status && (!find(handle, HANDLE) || !what || !how ||
                    !find_layouts(handles, layouts) || requested < 1))
        status = sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                               "cublasLtMatmulAlgoGetHeuristic: an object is missing");
    if (!status) status = check_shapes(&what->desc, layouts);
    const struct cudaDeviceProp *device = sim_properties(sim_device());
    if (!status && (!is_simulated(&what->desc, layouts) ||
                    (layouts[0].type == CUDA_R_16BF && device->major < 8)))
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!status)
        *count = list_algos(&how->preference, problem_of(&what->desc, layouts),
                            &layouts[3], requested, results);
    return sim_lt_leave(status);
}

/* Whether an algorithm, which may come from anywhere, is one for this product; that it
 * is not is an answer and no misuse. */
static cublasStatus_t lt_algo_check(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                    const cublasLtMatmulAlgo_t *algo,
                                    cublasLtMatmulHeuristicResult_t *result)
{
    cublasStatus_t status = sim_lt_enter("ltMatmulAlgoCheck", true);
    const cublasLtMatrixLayout_t handles[4] = {a, b, c, d};
    struct lt_layout layouts[4];
    const struct object *what = find(desc, DESC);
    if (!status && (!find(handle, HANDLE) || !what || !algo || !result ||
                    !find_layouts(handles, layouts)))
        status = sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                               "cublasLtMatmulAlgoCheck: an object is missing");
    if (status) return sim_lt_leave(status);
    struct lt_algo known;
    memcpy(&known, algo, sizeof known);
    if (known.magic != magic || known.problem != problem_of(&what->desc, layouts))
        return sim_lt_leave(CUBLAS_STATUS_INVALID_VALUE);
    result->workspaceSize = known.workspace; /* the algorithm's own place stays */
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1;
    return sim_lt_leave(status);
}

static cublasStatus_t lt_algo_get(const cublasLtMatmulAlgo_t *algo,
                                  cublasLtMatmulAlgoConfigAttributes_t name,
                                  void *value, size_t size, size_t *written)
{
    cublasStatus_t status = sim_lt_enter("ltMatmulAlgoConfigGetAttribute", true);
    struct lt_algo known = {0};
    if (algo) memcpy(&known, algo, sizeof known);
    if (!status && (known.magic != magic || !value || size != 4))
        status = sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                               "cublasLtMatmulAlgoConfigGetAttribute: no algorithm, or "
                               "%zu bytes, not 4",
                               size);
    const int32_t all[] = {[CUBLASLT_ALGO_CONFIG_ID] = 66,
                           [CUBLASLT_ALGO_CONFIG_TILE_ID] = CUBLASLT_MATMUL_TILE_64x64,
                           [CUBLASLT_ALGO_CONFIG_SPLITK_NUM] = lt_parts(&known)};
    if (!status && (size_t)name >= sizeof all / sizeof *all)
        status = sim_lt_refuse(
            CUBLAS_STATUS_INVALID_VALUE,
            "cuBLASLt: attribute %d of an algorithm is not simulated", name);
    if (!status) memcpy(value, &all[name], sizeof *all);
    if (!status && written) *written = sizeof *all;
    return sim_lt_leave(status);
}

/* ---- Products -------------------------------------------------------------------- */

static cublasStatus_t lt_matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                const void *alpha, const void *a,
                                cublasLtMatrixLayout_t a_layout, const void *b,
                                cublasLtMatrixLayout_t b_layout, const void *beta,
                                const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                                cublasLtMatrixLayout_t d_layout,
                                const cublasLtMatmulAlgo_t *algo, void *workspace,
                                size_t workspace_size, cudaStream_t stream)
{
    cublasStatus_t status = sim_lt_enter("ltMatmul", true);
    const cublasLtMatrixLayout_t handles[4] = {a_layout, b_layout, c_layout, d_layout};
    const struct object *lt = find(handle, HANDLE), *what = find(desc, DESC);
    struct lt_call call = {.matrices = {a, b, c, d}, .workspace = workspace};
    if (!status && (!lt || !what || !alpha || !beta || !algo ||
                    !find_layouts(handles, call.layouts)))
        status = lt_wrong("an object is missing, or no algorithm is named");
    if (!status && lt->device != sim_device())
        status = lt_wrong("another device's handle");
    if (!status && sim_stream_check(stream, "cublasLtMatmul"))
        status = CUBLAS_STATUS_INVALID_VALUE;
    if (status) return sim_lt_leave(status);
    call.desc = what->desc;
    memcpy(&call.algo, algo, sizeof call.algo);
    if (call.algo.magic != magic ||
        call.algo.problem != problem_of(&call.desc, call.layouts))
        return sim_lt_leave(
            lt_wrong("the algorithm is another product's, or was marked as "
                     "not supported"));
    call.alpha = *(const float *)alpha;
    call.beta = *(const float *)beta;
    status = lt_check(&call, workspace_size);
    if (!status) status = lt_queue(&call, stream);
    return sim_lt_leave(status);
}

/* ---- The end --------------------------------------------------------------------- */

static size_t get_version(void)
{
    return vgg__simulated.lt_version;
}

bool sim_lt_leak(char *text, size_t room)
{
    if (objects) snprintf(text, room, "a cuBLASLt object (%s)", names[objects->what]);
    return objects != NULL;
}

void sim_lt_reset(void)
{
    while (objects) {
        struct object *next = objects->next;
        free(objects);
        objects = next;
    }
}

static const char *get_status_name(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
        return "CUBLAS_STATUS of the simulated device";
    }
}

void sim_lt_table(struct vgg__api *api)
{
    api->ltGetVersion = get_version;
    api->ltGetStatusName = get_status_name;
    api->ltCreate = create;
    api->ltDestroy = destroy_handle;
    api->ltMatmulDescCreate = desc_create;
    api->ltMatmulDescDestroy = desc_destroy;
    api->ltMatmulDescSetAttribute = desc_set;
    api->ltMatrixLayoutCreate = layout_create;
    api->ltMatrixLayoutDestroy = layout_destroy;
    api->ltMatmulPreferenceCreate = preference_create;
    api->ltMatmulPreferenceDestroy = preference_destroy;
    api->ltMatmulPreferenceSetAttribute = preference_set;
    api->ltMatmulAlgoGetHeuristic = lt_get_heuristic;
    api->ltMatmulAlgoCheck = lt_algo_check;
    api->ltMatmulAlgoConfigGetAttribute = lt_algo_get;
    api->ltMatmul = lt_matmul;
}
