/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of a classifier, as scikit-learn 1.x defines them: see metrics.h.
 *
 * A confusion matrix [truth][predicted] and a histogram of the true class's rank are
 * kept up to date; the softmax scores [sample][class] are kept whole for the ROC AUC.
 * All arithmetic is in double, sums run in the order of the samples. */
#include <vgg/metrics.h>

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "core/sort.h"

#include <math.h>
#include <string.h>

struct vgg_metrics {
    vgg_context *ctx;
    uint32_t classes;
    uint64_t count;
    double loss_sum;
    uint64_t *confusion; /* [truth][predicted] */
    uint64_t *ranks;     /* [r]: samples whose class has the r-th largest logit */
    double *scores;      /* [sample][class], room for `capacity` samples */
    uint32_t *labels;    /* [sample] */
    size_t capacity;
};

vgg_status vgg_metrics_create(vgg_context *ctx, uint32_t classes, vgg_metrics **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(classes >= 1);
    vgg_metrics *metrics = vgg__calloc(ctx, 1, sizeof *metrics);
    if (metrics == NULL) return VGG_ENOMEM;
    metrics->ctx = vgg__context_ref(ctx);
    metrics->classes = classes;
    metrics->confusion = vgg__calloc(ctx, (size_t)classes * classes, sizeof(uint64_t));
    metrics->ranks = vgg__calloc(ctx, classes, sizeof(uint64_t));
    if (metrics->confusion == NULL || metrics->ranks == NULL) {
        vgg_metrics_free(metrics);
        return VGG_ENOMEM;
    }
    *out = metrics;
    return VGG_OK;
}

void vgg_metrics_free(vgg_metrics *metrics)
{
    if (metrics == NULL) return;
    vgg_context *ctx = metrics->ctx;
    vgg__free(metrics->confusion);
    vgg__free(metrics->ranks);
    vgg__free(metrics->scores);
    vgg__free(metrics->labels);
    vgg__free(metrics);
    vgg__context_unref(ctx);
}

void vgg_metrics_reset(vgg_metrics *metrics)
{
    if (metrics == NULL) return;
    const size_t classes = metrics->classes;
    metrics->count = 0;
    metrics->loss_sum = 0.0;
    memset(metrics->confusion, 0, classes * classes * sizeof(uint64_t));
    memset(metrics->ranks, 0, classes * sizeof(uint64_t));
}

/* Room for `more` samples; on failure nothing is changed. */
static vgg_status reserve(vgg_metrics *metrics, size_t more)
{
    size_t needed, scores, bytes;
    if (!vgg__add((size_t)metrics->count, more, &needed) || needed > SIZE_MAX / 4)
        return vgg__fail(VGG_ENOMEM, "too many samples");
    if (needed <= metrics->capacity) return VGG_OK;
    const size_t capacity =
        needed < 2 * metrics->capacity ? 2 * metrics->capacity : needed;
    if (!vgg__mul(capacity, metrics->classes, &scores) ||
        !vgg__mul(scores, sizeof(double), &bytes))
        return vgg__fail(VGG_ENOMEM, "too many samples");
    double *new_scores = vgg__alloc(metrics->ctx, bytes);
    uint32_t *new_labels = vgg__alloc(metrics->ctx, capacity * sizeof(uint32_t));
    if (new_scores == NULL || new_labels == NULL) {
        vgg__free(new_scores);
        vgg__free(new_labels);
        return VGG_ENOMEM;
    }
    if (metrics->count > 0) {
        const size_t count = (size_t)metrics->count;
        memcpy(new_scores, metrics->scores, count * metrics->classes * sizeof(double));
        memcpy(new_labels, metrics->labels, count * sizeof(uint32_t));
    }
    vgg__free(metrics->scores);
    vgg__free(metrics->labels);
    metrics->scores = new_scores;
    metrics->labels = new_labels;
    metrics->capacity = capacity;
    return VGG_OK;
}

static double element(const vgg_tensor *tensor, size_t index)
{
    const void *data = vgg_tensor_data_const(tensor);
    return vgg_tensor_dtype(tensor) == VGG_F64 ? ((const double *)data)[index]
                                               : (double)((const float *)data)[index];
}

static vgg_status check_batch(const vgg_metrics *metrics, const vgg_tensor *logits,
                              const uint32_t *labels)
{
    const vgg_shape *shape = vgg_tensor_shape(logits);
    const uint32_t classes = metrics->classes;
    const vgg_dtype dtype = vgg_tensor_dtype(logits);
    if (dtype != VGG_F32 && dtype != VGG_F64)
        return vgg__fail(VGG_EINVAL, "logits are %s, needs f32 or f64",
                         vgg_dtype_name(dtype));
    if (shape->rank != 2 || shape->dim[1] != classes) {
        char text[96];
        vgg_shape_text(shape, text, sizeof text);
        return vgg__fail(VGG_ESHAPE, "logits are %s, needs Nx%u", text, classes);
    }
    for (uint32_t i = 0; i < shape->dim[0]; i++) {
        if (labels[i] >= classes)
            return vgg__fail(VGG_EINVAL, "label %u is %u, there are %u classes", i,
                             labels[i], classes);
        for (uint32_t c = 0; c < classes; c++)
            if (!isfinite(element(logits, (size_t)i * classes + c)))
                return vgg__fail(VGG_ENONFINITE, "logit of sample %u, class %u: %s", i,
                                 c, vgg_status_text(VGG_ENONFINITE));
    }
    return VGG_OK;
}

/* Turn a row of logits into its softmax in place; returns the cross-entropy. */
static double softmax(double *row, uint32_t classes, uint32_t label, double largest)
{
    double sum = 0.0;
    const double own = row[label] - largest;
    for (uint32_t c = 0; c < classes; c++) sum += row[c] = exp(row[c] - largest);
    for (uint32_t c = 0; c < classes; c++) row[c] /= sum;
    return log(sum) - own;
}

static void add_sample(vgg_metrics *metrics, const vgg_tensor *logits, uint32_t index,
                       uint32_t label)
{
    const uint32_t classes = metrics->classes;
    double *row = metrics->scores + (size_t)metrics->count * classes;
    uint32_t best = 0, rank = 0;
    for (uint32_t c = 0; c < classes; c++) {
        row[c] = element(logits, (size_t)index * classes + c);
        if (row[c] > row[best]) best = c;
    }
    for (uint32_t c = 0; c < classes; c++)
        rank += row[c] > row[label] || (row[c] == row[label] && c < label);
    metrics->confusion[(size_t)label * classes + best]++;
    metrics->ranks[rank]++;
    metrics->labels[metrics->count++] = label;
    metrics->loss_sum += softmax(row, classes, label, row[best]);
}

vgg_status vgg_metrics_add(vgg_metrics *metrics, const vgg_tensor *logits,
                           const uint32_t *labels)
{
    VGG_REQUIRE(metrics != NULL);
    VGG_REQUIRE(logits != NULL);
    VGG_REQUIRE(labels != NULL);
    VGG_TRY(check_batch(metrics, logits, labels));
    const uint32_t n = vgg_tensor_shape(logits)->dim[0];
    VGG_TRY(reserve(metrics, n));
    const uint64_t mode = vgg__fpmode_enter();
    for (uint32_t i = 0; i < n; i++) add_sample(metrics, logits, i, labels[i]);
    vgg__fpmode_leave(mode);
    return VGG_OK;
}

uint64_t vgg_metrics_count(const vgg_metrics *metrics)
{
    return metrics != NULL ? metrics->count : 0;
}

/* a / b rounded to nearest, whatever the caller's mode is. */
static double quotient(double a, double b)
{
    const uint64_t mode = vgg__fpmode_enter();
    const double result = a / b;
    vgg__fpmode_leave(mode);
    return result;
}

double vgg_metrics_loss(const vgg_metrics *metrics)
{
    if (metrics == NULL || metrics->count == 0) return 0.0;
    return quotient(metrics->loss_sum, (double)metrics->count);
}

double vgg_metrics_top_k(const vgg_metrics *metrics, uint32_t k)
{
    if (metrics == NULL || metrics->count == 0) return 0.0;
    uint64_t right = 0;
    for (uint32_t r = 0; r < k && r < metrics->classes; r++) right += metrics->ranks[r];
    return quotient((double)right, (double)metrics->count);
}

uint64_t vgg_metrics_confusion(const vgg_metrics *metrics, uint32_t truth,
                               uint32_t predicted)
{
    if (metrics == NULL || truth >= metrics->classes || predicted >= metrics->classes)
        return 0;
    return metrics->confusion[(size_t)truth * metrics->classes + predicted];
}

/* a / b, and 0 for 0 / 0. */
static double ratio(uint64_t a, uint64_t b)
{
    return b > 0 ? quotient((double)a, (double)b) : 0.0;
}

/* Figures of a class; returns how often it was predicted. */
static uint64_t class_figures(const vgg_metrics *metrics, uint32_t index,
                              vgg_class_metrics *out)
{
    const uint64_t right = vgg_metrics_confusion(metrics, index, index);
    uint64_t truth = 0, predicted = 0;
    for (uint32_t c = 0; c < metrics->classes; c++) {
        truth += vgg_metrics_confusion(metrics, index, c);
        predicted += vgg_metrics_confusion(metrics, c, index);
    }
    out->precision = ratio(right, predicted);
    out->recall = ratio(right, truth);
    out->f1 = ratio(2 * right, truth + predicted);
    out->support = truth;
    return predicted;
}

vgg_status vgg_metrics_class(const vgg_metrics *metrics, uint32_t index,
                             vgg_class_metrics *out)
{
    VGG_REQUIRE(out != NULL);
    memset(out, 0, sizeof *out);
    VGG_REQUIRE(metrics != NULL);
    VGG_REQUIRE(index < metrics->classes);
    class_figures(metrics, index, out);
    return VGG_OK;
}

vgg_status vgg_metrics_mean(const vgg_metrics *metrics, vgg_average average,
                            vgg_class_metrics *out)
{
    VGG_REQUIRE(out != NULL);
    memset(out, 0, sizeof *out);
    VGG_REQUIRE(metrics != NULL);
    VGG_REQUIRE(average == VGG_AVERAGE_MACRO || average == VGG_AVERAGE_WEIGHTED);
    const uint64_t mode = vgg__fpmode_enter();
    vgg_class_metrics sum = {0};
    double weights = 0.0;
    for (uint32_t c = 0; c < metrics->classes; c++) {
        vgg_class_metrics one;
        const uint64_t predicted = class_figures(metrics, c, &one);
        if (one.support + predicted == 0) continue;
        const double weight = average == VGG_AVERAGE_MACRO ? 1.0 : (double)one.support;
        sum.precision += weight * one.precision;
        sum.recall += weight * one.recall;
        sum.f1 += weight * one.f1;
        weights += weight;
    }
    out->support = metrics->count;
    if (weights > 0.0) {
        out->precision = sum.precision / weights;
        out->recall = sum.recall / weights;
        out->f1 = sum.f1 / weights;
    }
    vgg__fpmode_leave(mode);
    return VGG_OK;
}

/* A sample's score for a class, and whether it is of that class. */
struct scored {
    double score;
    uint32_t positive;
};

static int compare_scores(const void *a, const void *b)
{
    const double x = ((const struct scored *)a)->score;
    const double y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

/* Mann-Whitney's U over the number of pairs: how often a sample of the class has a
 * higher score than one that is not, equal ones counting half. */
static double one_versus_rest(struct scored *samples, size_t count, uint64_t positives)
{
    const uint64_t negatives = count - positives;
    uint64_t twice_u = 0, below = 0; /* negatives with a lower score */
    vgg__sort(samples, count, sizeof *samples, compare_scores);
    for (size_t i = 0; i < count;) {
        uint64_t tied[2] = {0, 0}; /* negatives, positives with this score */
        const double score = samples[i].score;
        for (; i < count && samples[i].score == score; i++) tied[samples[i].positive]++;
        twice_u += tied[1] * (2 * below + tied[0]);
        below += tied[0];
    }
    return (double)twice_u / (2.0 * (double)positives * (double)negatives);
}

vgg_status vgg_metrics_auc(const vgg_metrics *metrics, double *out)
{
    VGG_REQUIRE(out != NULL);
    *out = 0.0;
    VGG_REQUIRE(metrics != NULL);
    const size_t count = (size_t)metrics->count;
    const uint32_t classes = metrics->classes;
    for (uint32_t c = 0; c < classes; c++) {
        vgg_class_metrics one;
        class_figures(metrics, c, &one);
        if (one.support == 0 || one.support == count)
            return vgg__fail(VGG_ESTATE, "ROC AUC: class %u has %llu of %zu samples", c,
                             (unsigned long long)one.support, count);
    }
    struct scored *samples = vgg__calloc(metrics->ctx, count, sizeof *samples);
    if (samples == NULL) return VGG_ENOMEM;
    const uint64_t mode = vgg__fpmode_enter();
    double sum = 0.0;
    for (uint32_t c = 0; c < classes; c++) {
        uint64_t positives = 0;
        for (size_t i = 0; i < count; i++) {
            samples[i].score = metrics->scores[i * classes + c];
            samples[i].positive = metrics->labels[i] == c;
            positives += samples[i].positive;
        }
        sum += one_versus_rest(samples, count, positives);
    }
    *out = sum / classes;
    vgg__fpmode_leave(mode);
    vgg__free(samples);
    return VGG_OK;
}
