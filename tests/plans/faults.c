/* SPDX-License-Identifier: Apache-2.0 */
/* That the test of plans sees what is wrong: graphs with one wrong number have no
 * plan, code that cannot be loaded makes no plan, and whatever call fails, nothing is
 * left. */
#include "driver.h"
#include "harness.h"
#include "products.h"

#include <stdio.h>
#include <string.h>

#define DEVICE "h200"
static const struct layer layer = {.ic = 64, .oc = 64, .size = 56};

static uint32_t count_plans(const struct device *device, enum precision precision,
                            enum form form, uint32_t most)
{
    const struct vgg__dnn_problem problem = product(&layer, 128, precision, form);
    struct vgg__dnn_plan plans[MOST_PLANS];
    uint32_t refused = 0;
    const uint32_t count =
        vgg__dnn_plans(&device->target, &problem, plans, most, &refused);
    for (uint32_t i = 0; i < count; i++) vgg__dnn_plan_free(&device->api, &plans[i]);
    ck_assert_int_eq(device_calls.alive, 0);
    return count;
}

/* ---- Graphs with a wrong number -------------------------------------------------- */

/* Adds to one value of an attribute, of the tensor with that number if there is one. */
struct wrong {
    const char *what;
    enum form form;
    int64_t uid; /* 0: not a tensor */
    cudnnBackendAttributeName_t attribute;
    int64_t index, add;
    cudnnBackendDescriptor_t tensor; /* that had the number */
    uint32_t done;
};

static void spoil(void *context, cudnnBackendDescriptor_t descriptor,
                  cudnnBackendAttributeName_t name, int64_t count, void *values)
{
    struct wrong *wrong = context;
    int64_t *numbers = values;
    if (name == CUDNN_ATTR_TENSOR_UNIQUE_ID && numbers[0] == wrong->uid)
        wrong->tensor = descriptor;
    if (name != wrong->attribute || wrong->index >= count) return;
    if (wrong->uid != 0 && descriptor != wrong->tensor) return;
    numbers[wrong->index] += wrong->add;
    wrong->done++;
}

static const struct wrong wrongs[] = {
    {"output one row higher", FORWARD, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_DIMENSIONS, 2,
     1},
    {"output one column narrower", FORWARD, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_DIMENSIONS,
     3, -1},
    {"output of more channels", FORWARD, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_DIMENSIONS, 1,
     8},
    {"output of another batch", DATA, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_DIMENSIONS, 0, 1},
    {"input of more channels", FORWARD, VGG__DNN_X, CUDNN_ATTR_TENSOR_DIMENSIONS, 1, 8},
    {"weights of another size", WEIGHTS, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_DIMENSIONS, 2,
     1},
    {"output's channels apart", FORWARD, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_STRIDES, 1, 1},
    {"output's rows overlapping", DATA, VGG__DNN_OUT, CUDNN_ATTR_TENSOR_STRIDES, 2, -1},
    {"input's columns overlapping", WEIGHTS, VGG__DNN_X, CUDNN_ATTR_TENSOR_STRIDES, 3,
     -1},
    {"padding too small", FORWARD, 0, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 0, -1},
    {"step of two", DATA, 0, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1, 1},
};

START_TEST(test_wrong_number)
{
    struct wrong wrong = wrongs[_i];
    struct device device;
    device_open(&device, DEVICE);
    ck_assert_uint_ge(count_plans(&device, BF16, wrong.form, 1), 1);
    device_calls.spoil = spoil;
    device_calls.context = &wrong;
    const uint32_t count = count_plans(&device, BF16, wrong.form, MOST_PLANS);
    ck_assert_msg(wrong.done > 0, "%s: it was not planted", wrong.what);
    ck_assert_msg(count == 0, "%s: %u plans", wrong.what, count);
    device_close(&device);
}
END_TEST

/* ---- What is compiled ------------------------------------------------------------ */

/* The heuristics answer, the code is made, and still there is no plan. */
START_TEST(test_code_that_cannot_be_loaded)
{
    struct device device;
    device_open(&device, DEVICE);
    ck_assert_uint_eq(count_plans(&device, STRICT, MASK, 1), 1);
    const uint32_t loads = driver_seen().loads;
    driver_refuse(true);
    ck_assert_uint_eq(count_plans(&device, STRICT, MASK, 1), 0);
    ck_assert_uint_gt(driver_seen().loads, loads);
    driver_refuse(false);
    ck_assert_uint_eq(count_plans(&device, STRICT, MASK, 1), 1);
    device_close(&device);
}
END_TEST

/* Memory that a plan may not take. */
START_TEST(test_workspace_is_limited)
{
    struct device device;
    device_open(&device, DEVICE);
    const struct layer first = {.ic = 3, .oc = 64, .size = 224};
    const struct vgg__dnn_problem problem = product(&first, 64, BF16, BIAS_RELU);
    struct vgg__dnn_plan plan;
    uint32_t refused = 0,
             count = vgg__dnn_plans(&device.target, &problem, &plan, 1, &refused);
    ck_assert_uint_eq(count, 1);
    const size_t most = plan.workspace;
    ck_assert_uint_gt(most, 0);
    ck_assert_uint_le(most, device.target.most_workspace);
    vgg__dnn_plan_free(&device.api, &plan);
    device.target.most_workspace = most - 1;
    count = vgg__dnn_plans(&device.target, &problem, &plan, 1, &refused);
    ck_assert(count == 0 || plan.workspace < most);
    if (count > 0) vgg__dnn_plan_free(&device.api, &plan);
    ck_assert_int_eq(device_calls.alive, 0);
    device_close(&device);
}
END_TEST

/* ---- Calls that fail ------------------------------------------------------------- */

static const enum form failing_forms[] = {FORWARD, DATA, WEIGHTS, BIAS_RELU};

/* Each call on the way to a plan in turn; count_plans looks for what is left. */
START_TEST(test_call_that_fails)
{
    const enum form form = failing_forms[_i];
    struct device device;
    device_open(&device, DEVICE);
    ck_assert_uint_eq(count_plans(&device, BF16, form, 1), 1);
    const uint32_t calls = device_calls.count;
    uint32_t without = 0;
    ck_assert_uint_gt(calls, 40);
    for (uint32_t call = 1; call <= calls; call++) {
        device_calls.count = 0;
        device_calls.failing = call;
        without += count_plans(&device, BF16, form, 1) == 0;
    }
    /* A configuration that fails has others behind it, a graph has not. */
    ck_assert_uint_gt(without, calls / 4);
    ck_assert_uint_lt(without, calls);
    device_close(&device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plans-faults");
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, test_wrong_number, 0, sizeof wrongs / sizeof *wrongs);
    tcase_add_test(tc, test_code_that_cannot_be_loaded);
    tcase_add_test(tc, test_workspace_is_limited);
    tcase_add_loop_test(tc, test_call_that_fails, 0,
                        sizeof failing_forms / sizeof *failing_forms);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
