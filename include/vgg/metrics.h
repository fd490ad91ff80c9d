/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file metrics.h
 * @brief How good a classifier is, as scikit-learn defines it.
 *
 * Precision of a class is its true positives over all predicted as it, recall over all
 * that are it, F1 their harmonic mean; 0 / 0 counts as 0. A macro mean runs over the
 * classes that occur in truth or prediction, a weighted one over the truth's counts.
 */
#ifndef VGG_METRICS_H
#define VGG_METRICS_H

#include <vgg/tensor.h>

VGG_BEGIN_DECLS

/** Collects predictions. Thread-safety: one thread at a time. */
typedef struct vgg_metrics vgg_metrics;

/** Figures of one class, or their mean. Frozen layout. */
typedef struct vgg_class_metrics {
    double precision; /**< 0 to 1 */
    double recall;    /**< 0 to 1 */
    double f1;        /**< 0 to 1 */
    uint64_t support; /**< samples that truly are of the class; all of them in a mean */
} vgg_class_metrics;

/** Ways to take a mean over classes. */
typedef enum vgg_average {
    VGG_AVERAGE_MACRO = 0,   /**< every class counts the same */
    VGG_AVERAGE_WEIGHTED = 1 /**< by support */
} vgg_average;

/**
 * Start collecting. Counts of every pair of classes are kept: 8 bytes times the square
 * of `classes`.
 *
 * @param classes at least 1.
 * @return VGG_OK, VGG_EINVAL, VGG_ENOMEM.
 */
VGG_API vgg_status vgg_metrics_create(vgg_context *ctx, uint32_t classes,
                                      vgg_metrics **out);

/** Give it back. */
VGG_API void vgg_metrics_free(vgg_metrics *metrics);

/** Forget everything collected. */
VGG_API void vgg_metrics_reset(vgg_metrics *metrics);

/**
 * Add samples. Their softmax is kept for the ROC AUC (8 bytes a class and sample).
 *
 * @param logits f32 or f64 [n][classes].
 * @param labels n classes.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ENONFINITE (a logit is not finite;
 *         nothing is added), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_metrics_add(vgg_metrics *metrics, const vgg_tensor *logits,
                                   const uint32_t *labels);

/** Number of samples. */
VGG_API uint64_t vgg_metrics_count(const vgg_metrics *metrics);

/** Mean cross-entropy, natural logarithm; 0 without samples. */
VGG_API double vgg_metrics_loss(const vgg_metrics *metrics);

/** Share of samples whose class is among the `k` largest logits (the earlier class wins
 *  between equals); k = 1 is the accuracy. */
VGG_API double vgg_metrics_top_k(const vgg_metrics *metrics, uint32_t k);

/** Samples of class `truth` predicted as `predicted`. */
VGG_API uint64_t vgg_metrics_confusion(const vgg_metrics *metrics, uint32_t truth,
                                       uint32_t predicted);

/** Figures of one class. @return VGG_OK, VGG_EINVAL. */
VGG_API vgg_status vgg_metrics_class(const vgg_metrics *metrics, uint32_t index,
                                     vgg_class_metrics *out);

/** Mean figures over classes. @return VGG_OK, VGG_EINVAL. */
VGG_API vgg_status vgg_metrics_mean(const vgg_metrics *metrics, vgg_average average,
                                    vgg_class_metrics *out);

/**
 * Macro mean over classes of the area under the one-versus-rest ROC curve of the
 * softmax, equal scores counting half (roc_auc_score, multi_class="ovr"). Hanley and
 * McNeil 1982.
 *
 * @return VGG_OK, VGG_ESTATE (a class without samples, or with all: not defined),
 *         VGG_ENOMEM.
 */
VGG_API vgg_status vgg_metrics_auc(const vgg_metrics *metrics, double *out);

VGG_END_DECLS

#endif
