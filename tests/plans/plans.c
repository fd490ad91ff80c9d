/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's graph builder against the real cuDNN, for GPUs that are not there: which
 * products have plans that can be finalised, by device, precision and batch.
 *
 *   test-plans [DEVICE [BATCH]]     a device of devices/; all without
 *
 * What is compiled at run time takes seconds: all of the main job is compiled for the
 * H200 in bf16, which are its device and precision; of the rest one layer in one batch.
 * VGG_PLANS=all has everything. Every plan is printed. */
#include "driver.h"
#include "harness.h"
#include "products.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn/cudnn.h"

#define WIDE 16 /* input channels */

/* Sets of forms. */
#define BIT(form) (1u << (form))
#define PLAIN     (BIT(FORWARD) | BIT(DATA) | BIT(WEIGHTS) | BIT(BIAS_RELU))
#define COMPILED  (BIT(MASK) | BIT(SINGLE_OUT))

/* Which forms have plans: `wide` for layers of WIDE input channels and more, `narrow`
 * for first layers. What is not named has none, and that too is checked: it is what the
 * engine has kernels of its own for. `fast`: the best plans of wide layers use tensor
 * cores; TF32's that do would take too much work space on some GPUs. */
static const struct expectation {
    const char *device;
    uint32_t architecture; /* of the code that is compiled for it */
    enum precision precision;
    unsigned wide, narrow;
    bool fast;
} expectations[] = {
    {"h200", 90, STRICT, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"h200", 90, TF32, PLAIN | BIT(MASK), PLAIN | BIT(MASK), true},
    {"h200", 90, BF16, PLAIN | COMPILED, PLAIN, true},
    {"h100", 90, STRICT, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"h100", 90, TF32, PLAIN | BIT(MASK), PLAIN | BIT(MASK), true},
    {"h100", 90, BF16, PLAIN | COMPILED, PLAIN, true},
    {"a100", 80, STRICT, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"a100", 80, TF32, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"a100", 80, BF16, PLAIN | COMPILED, PLAIN, true},
    {"l4", 89, STRICT, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"l4", 89, TF32, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"l4", 89, BF16, PLAIN | COMPILED, PLAIN, true},
    {"b200", 100, STRICT, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
    {"b200", 100, TF32, PLAIN | BIT(MASK), PLAIN | BIT(MASK), true},
    {"b200", 100, BF16, PLAIN | COMPILED, PLAIN, true},
    {"t4", 75, STRICT, PLAIN | BIT(MASK), PLAIN | BIT(MASK), false},
};
#define EXPECTATIONS (sizeof expectations / sizeof *expectations)

/* Each expectation is looked at with these. */
static const struct {
    const struct network *network;
    uint32_t batch;
} runs[] = {{&main_job, 128}, {&main_job, 96}, {&vgg16, 64}};
#define RUNS (sizeof runs / sizeof *runs)

/* ---- One product ----------------------------------------------------------------- */

struct subject {
    const struct expectation *expectation;
    const struct layer *layer;
    uint32_t batch;
    enum form form;
};

/* Whether the engine would ask for it. */
static bool is_asked(const struct subject *s)
{
    return s->form != SINGLE_OUT || s->expectation->precision == BF16;
}

static bool wants_all(void)
{
    const char *wish = getenv("VGG_PLANS");
    return wish != NULL && strcmp(wish, "all") == 0;
}

/* Of those that are compiled the engine asks for two, which are much alike. */
static uint32_t most_plans(enum form form)
{
    return (BIT(form) & COMPILED) == 0 ? MOST_PLANS : wants_all() ? 2 : 1;
}

static bool is_tried(const struct subject *s, const struct network *network)
{
    const bool bf16 = s->expectation->precision == BF16;
    if (!is_asked(s)) return false;
    if ((BIT(s->form) & COMPILED) == 0) return true;
    if (wants_all()) return true;
    if (bf16 && s->layer->ic < WIDE) return true; /* refused without compiling */
    if (bf16 && strcmp(s->expectation->device, "h200") == 0)
        return network == &main_job || s->layer->sample;
    return s->layer->sample && s->batch == 128;
}

/* What is wrong with a plan, or NULL. */
static const char *judge_plan(const struct subject *s, const struct vgg__dnn_plan *plan,
                              bool first, uint32_t loads)
{
    if (plan->plan == NULL) return "no plan";
    const struct driver_seen seen = driver_seen();
    const struct device_notes notes = device_notes(plan);
    const struct expectation *e = s->expectation;
    if (notes.varies) return "not deterministic";
    if (notes.cuts) return "keeps less than was asked for";
    if (e->precision == STRICT && (notes.tensor_cores || notes.transforms))
        return "not strict";
    if (first && e->fast && s->layer->ic >= WIDE && !notes.tensor_cores)
        return "no tensor cores";
    if (plan->workspace > VGG__WORKSPACE) return "too much work space";
    if (notes.compiled && seen.loads == loads) return "compiled, but loaded no code";
    if (notes.compiled && seen.architecture != e->architecture)
        return "compiled for another GPU";
    return NULL;
}

/* Makes the plans of a product, prints them and returns what is wrong, or NULL. */
static const char *try_product(const struct device *device, const struct subject *s)
{
    const struct expectation *e = s->expectation;
    const bool expected =
        ((s->layer->ic >= WIDE ? e->wide : e->narrow) & BIT(s->form)) != 0;
    const struct vgg__dnn_problem problem =
        product(s->layer, s->batch, e->precision, s->form);
    struct vgg__dnn_plan plans[MOST_PLANS];
    uint32_t refused = 0;
    const uint32_t loads = driver_seen().loads;
    const uint32_t count =
        vgg__dnn_plans(&device->target, &problem, plans, most_plans(s->form), &refused);
    const char *wrong = NULL;
    if ((count > 0) != expected) wrong = expected ? "expected a plan" : "expected none";
    printf("%s %s n %u %u->%u@%u %s: %u plans, %u not deterministic", e->device,
           precision_names[e->precision], s->batch, s->layer->ic, s->layer->oc,
           s->layer->size, form_names[s->form], count, refused);
    for (uint32_t i = 0; i < count; i++) {
        printf("; %s, %zu KiB", plans[i].text, plans[i].workspace >> 10);
        if (wrong == NULL) wrong = judge_plan(s, &plans[i], i == 0, loads);
        vgg__dnn_plan_free(&device->api, &plans[i]);
    }
    if (wrong == NULL && device_calls.alive != 0) wrong = "descriptors are left";
    printf("%s%s\n", wrong != NULL ? " <- " : "", wrong != NULL ? wrong : "");
    return wrong;
}

/* ---- Cases ----------------------------------------------------------------------- */

START_TEST(test_plans)
{
    const struct expectation *e = &expectations[(size_t)_i % EXPECTATIONS];
    const struct network *network = runs[(size_t)_i / EXPECTATIONS].network;
    struct device device;
    uint32_t tried = 0, bad = 0;
    device_open(&device, e->device);
    for (uint32_t l = 0; l < network->count; l++)
        for (enum form form = 0; form < FORMS; form++) {
            const struct subject s = {e, &network->layers[l],
                                      runs[(size_t)_i / EXPECTATIONS].batch, form};
            if (!is_tried(&s, network)) continue;
            tried++;
            bad += try_product(&device, &s) != NULL;
        }
    device_close(&device);
    fflush(stdout);
    ck_assert_msg(bad == 0, "%s %s, %s: %u of %u products are not as expected",
                  e->device, precision_names[e->precision], network->name, bad, tried);
}
END_TEST

/* A test case of the device's name has its precisions in one run. */
static void add_case(Suite *suite, size_t first, size_t end, size_t run)
{
    TCase *tc = tcase_create(expectations[first].device);
    tcase_set_timeout(tc, 1800);
    tcase_add_loop_test(tc, test_plans, (int)(run * EXPECTATIONS + first),
                        (int)(run * EXPECTATIONS + end));
    suite_add_tcase(suite, tc);
}

/* NULL and 0: all. Returns how many cases there are. */
static int add_cases(Suite *suite, const char *device, uint32_t batch)
{
    int added = 0;
    for (size_t first = 0, end; first < EXPECTATIONS; first = end) {
        for (end = first; end < EXPECTATIONS; end++)
            if (strcmp(expectations[end].device, expectations[first].device) != 0)
                break;
        if (device != NULL && strcmp(device, expectations[first].device) != 0) continue;
        for (size_t run = 0; run < RUNS; run++) {
            if (batch != 0 && runs[run].batch != batch) continue;
            add_case(suite, first, end, run);
            added++;
        }
    }
    return added;
}

int main(int argc, char **argv)
{
    Suite *const suite = suite_create("plans");
    const char *device = argc > 1 ? argv[1] : NULL;
    if (add_cases(suite, device, argc > 2 ? (uint32_t)atoi(argv[2]) : 0) == 0) {
        fprintf(stderr, "test-plans: expected a device of devices/ and a batch of "
                        "128, 96 or 64\n");
        return EXIT_FAILURE;
    }
    return harness_main(&suite, 1);
}
