/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file plan.h
 * @brief A model bound to a device, a batch size, a precision and a mode.
 *
 * Making a plan lowers the layers to stages, chooses how each is computed and allocates
 * everything; a run allocates nothing. The phases of training are separate calls, so
 * that a loss, clipping or an all-reduce of one's own fits between them:
 *
 *     forward -> loss (or set_output_gradient) -> backward (adds up) -> update -> zero
 *
 * A loss that looks at layers in between hands in its gradients there
 * (set_tap_gradient), beside the output's or alone.
 *
 * All plans of one model on one device and precision share one set of parameters,
 * gradients and optimiser state, so a training plan and an inference plan agree. The
 * set goes with the last of them: the model has the parameters' values then, but
 * gradients and optimiser state are gone. A plan made afterwards begins with zeros in
 * both, whatever number of update it goes on with.
 *
 * A GPU may still be at work when a call returns; whatever gives a result (an output, a
 * loss, a gradient, a parameter's value) waits for it, and a failure of the device may
 * only show there.
 */
#ifndef VGG_PLAN_H
#define VGG_PLAN_H

#include <vgg/device.h>
#include <vgg/model.h>

VGG_BEGIN_DECLS

/**
 * A compiled network. Thread-safety: one thread at a time; different inference plans of
 * one model may run at once; nothing else may run beside a plan of #VGG_MODE_TRAIN or
 * #VGG_MODE_GRAD of that model, which share its gradients. To change weights while
 * others serve, load them into a second model, make plans of that and hand these out;
 * the older ones may be freed by any thread once no run uses them.
 */
typedef struct vgg_plan vgg_plan;

/** What a plan is for. */
typedef enum vgg_mode {
    VGG_MODE_INFER = 0, /**< forward only; dropout off, running statistics used */
    VGG_MODE_TRAIN = 1, /**< forward and backward; dropout on, batch statistics used */
    VGG_MODE_GRAD = 2   /**< forward and backward as in inference: dropout off, running
                             statistics used and left alone (saliency, style
                             transfer) */
} vgg_mode;

/** Arithmetic of a plan. */
typedef enum vgg_precision {
    VGG_FP32 = 0, /**< IEEE single precision throughout */
    VGG_FP64 = 1, /**< double precision; only the engine `ref` */
    VGG_TF32 = 2, /**< single precision whose products take factors of 10 bits of
                       mantissa; only the engine `cudnn` */
    VGG_BF16 = 3  /**< activations, their gradients and factors in bfloat16; sums,
                       losses and parameters in single precision; only the engine
                       `cudnn` */
} vgg_precision;

/** Options of vgg_plan_create(). Sized: start from #VGG_PLAN_OPTIONS_INIT. */
typedef struct vgg_plan_options {
    size_t size;             /**< sizeof(vgg_plan_options) */
    const char *const *taps; /**< names of layers whose output is kept; copied */
    uint32_t tap_count;      /**< number of taps */
    uint32_t batch;          /**< most samples a run can take, at least 1 */
    uint32_t mode;           /**< a ::vgg_mode */
    uint32_t precision;      /**< a ::vgg_precision */
    uint32_t input_gradient; /**< 1: backward also computes the input's gradient */
    uint32_t deterministic;  /**< 1: choose no algorithm by timing. One whose results
                                  can vary from run to run is never taken, whatever this
                                  says. `cudnn` without this times algorithms and keeps
                                  its choices on disk, so that the next process computes
                                  the same bits. `cpu` and `ref` never time any, but
                                  under #VGG_CONV_MEASURED, which refuses a plan that
                                  asks for this */
    uint64_t max_bytes;      /**< refuse a plan that needs more; 0: no limit */
    uint32_t weights; /**< how the plan keeps weights of linear layers: #VGG_FP32, as
                            they are, or #VGG_BF16, rounded to bfloat16 (nearest, ties
                            to even) in a copy of the plan's own. A run then reads half
                            the bytes, which is what it waits for with few samples;
                            arithmetic stays single precision. The copy is made at the
                            first run and after each change of parameters, which stay
                            in full beside it. Only for #VGG_MODE_INFER in #VGG_FP32, by
                            the engine `cpu` */
    uint32_t tap_gradients; /**< 1: taps have gradients, to be looked at
                                 (vgg_plan_tap_gradient()) and added to
                                 (vgg_plan_set_tap_gradient()), which costs memory and
                                 a copy for each; needs taps, and a mode with a
                                 backward */
} vgg_plan_options;

/** Defaults of ::vgg_plan_options: one sample, inference, single precision. */
#define VGG_PLAN_OPTIONS_INIT                                                          \
    {                                                                                  \
        sizeof(vgg_plan_options), NULL, 0, 1, VGG_MODE_INFER, VGG_FP32, 0, 0, 0,       \
            VGG_FP32, 0                                                                \
    }

/**
 * Make a plan. From then on no layer can be added to the model.
 *
 * @param opts NULL for the defaults.
 * @return VGG_OK; VGG_EINVAL (an option out of range, a batch above 2^31 - 1, unknown
 *         tap, more than 256 taps); VGG_EUNSUPPORTED (the engine can't: the text says
 *         what); VGG_ELIMIT (over max_bytes, or an activation of more than 2^44
 *         elements);
 *         VGG_ESTATE (a plan that is still there trains other parameters:
 *         vgg_param_set_trainable()); VGG_ENOMEM; VGG_EDEVICE. After a failure layers
 *         can be added as before.
 */
VGG_API vgg_status vgg_plan_create(vgg_model *model, vgg_device *device,
                                   const vgg_plan_options *opts, vgg_plan **out);

/**
 * Bytes that vgg_plan_create() with these options would take on the device: the plan's
 * own, and the parameters and gradients that it shares with other plans. An optimiser's
 * state comes on top: one value a parameter for momentum, two for Adam.
 *
 * @param plan_bytes   activations, gradients of activations, workspace; may be NULL.
 * @param shared_bytes parameters and, for training, gradients; may be NULL.
 * @return as vgg_plan_create().
 */
VGG_API vgg_status vgg_plan_measure(vgg_model *model, vgg_device *device,
                                    const vgg_plan_options *opts, uint64_t *plan_bytes,
                                    uint64_t *shared_bytes);

/** Give a plan back. */
VGG_API void vgg_plan_free(vgg_plan *plan);

/**
 * The plan as text: device, stages with their algorithm, bytes and workspace.
 *
 * @return borrowed from the plan.
 */
VGG_API const char *vgg_plan_describe(const vgg_plan *plan);

/** Bytes that the plan itself holds, without the shared parameters. */
VGG_API uint64_t vgg_plan_bytes(const vgg_plan *plan);

/**
 * Say which random numbers dropout draws in the next forward runs. They depend on these
 * three numbers and the element's place alone: not on batch splits, threads or engine.
 *
 * @param seed  of the whole training.
 * @param step  number of the optimiser step.
 * @param first place of the run's first sample within the step's whole batch.
 * @return VGG_OK, VGG_EINVAL (NULL).
 */
VGG_API vgg_status vgg_plan_set_step(vgg_plan *plan, uint64_t seed, uint64_t step,
                                     uint32_t first);

/**
 * Compute the network's output.
 *
 * The same run gives the same bits, whatever the number of threads; under
 * #VGG_CONV_MEASURED, only on the same device object. Few samples (up to 8 on a
 * processor, 16 with weights in bf16) take other sums than many, so one sample's last
 * bits may depend on how many run with it.
 *
 * @param input  f32 [n][...sample] with 1 <= n <= batch.
 * @param output f32 or f64 [n][...output], receives the result; may be NULL.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_EDEVICE.
 */
VGG_API vgg_status vgg_plan_forward(vgg_plan *plan, const vgg_tensor *input,
                                    vgg_tensor *output);

/**
 * Softmax and cross-entropy of the last forward's output, the mean over its samples,
 * and the gradient for vgg_plan_backward() (in modes that have one).
 *
 * @param labels    one class a sample of the last forward.
 * @param smoothing share of the target given evenly to all classes, 0 <= smoothing < 1.
 *                  Szegedy et al. 2016. It and `scale` are floats under #VGG_FP64 too:
 *                  0.1f is then a number of its own, 1.5e-9 beside 0.1.
 * @param scale     factor on the gradient: 1 for the gradient of the mean; 1 / parts
 *                  when gradients of several runs add up to one step.
 * @param loss      mean loss; may be NULL.
 * @param correct   samples whose largest output (the first of equals) is the label; may
 *                  be NULL.
 * @return VGG_OK, VGG_EINVAL (a label that is no class), VGG_ESTATE (no forward before,
 *         or an output that is not flat), VGG_ENONFINITE (the loss is not finite; the
 *         gradient must not be used), VGG_EDEVICE.
 */
VGG_API vgg_status vgg_plan_loss(vgg_plan *plan, const uint32_t *labels,
                                 float smoothing, float scale, double *loss,
                                 uint32_t *correct);

/**
 * Hand in the gradient of a loss of one's own with respect to the last forward's
 * output.
 *
 * @param gradient f32 [n][...output].
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ESTATE, VGG_EDEVICE.
 */
VGG_API vgg_status vgg_plan_set_output_gradient(vgg_plan *plan,
                                                const vgg_tensor *gradient);

/**
 * Compute gradients and *add* them to what the parameters' gradients hold. Those of the
 * input and of taps are overwritten. Uses up what the forward has kept: one backward a
 * forward.
 *
 * @return VGG_OK, VGG_ESTATE (no loss, output gradient or tap's gradient since the last
 *         forward, or an inference plan), VGG_EDEVICE.
 */
VGG_API vgg_status vgg_plan_backward(vgg_plan *plan);

/**
 * Take a gradient of one's own in the middle of the network: that of a loss with
 * respect to a tapped layer's output. The next backward adds it to what comes back
 * there. So a loss may look at several layers at once, as perceptual losses and style
 * transfer do; without vgg_plan_loss() (or after one that was not finite) and without
 * vgg_plan_set_output_gradient() the network's output has no part in it (its gradient
 * is 0). Taps that are not set have none; a second call for a tap takes the first one's
 * place, and each forward begins without any.
 *
 * @param name     one of the options' taps, not the network's output (nor a layer
 *                 behind which there are only dropouts that do nothing).
 * @param gradient f32 [n][...layer's output] for the last run's n, copied.
 * @return VGG_OK, VGG_EINVAL (not a tap of this plan, or the output's: that is
 *         vgg_plan_set_output_gradient()'s), VGG_ESHAPE, VGG_ESTATE (no forward since
 *         the last backward, or a plan without `tap_gradients`).
 */
VGG_API vgg_status vgg_plan_set_tap_gradient(vgg_plan *plan, const char *name,
                                             const vgg_tensor *gradient);

/** Set all parameter gradients to zero. @return VGG_OK, VGG_EINVAL, VGG_ESTATE. */
VGG_API vgg_status vgg_plan_zero_gradients(vgg_plan *plan);

/**
 * Euclidean norm of all parameter gradients taken as one vector, and a factor on them:
 * to clip at `limit`, call vgg_plan_scale_gradients() with limit / norm if norm is
 * above it.
 */
VGG_API vgg_status vgg_plan_gradient_norm(vgg_plan *plan, double *norm);

/** Multiply all parameter gradients by `factor`, which a float can hold.
 *  @return VGG_OK, VGG_EINVAL, VGG_ESTATE. */
VGG_API vgg_status vgg_plan_scale_gradients(vgg_plan *plan, double factor);

/** Rules that turn gradients into new parameters. */
typedef enum vgg_optimizer_kind {
    /** g += decay * w; v = momentum * v + g (v = g at the first step);
     *  w -= lr * (nesterov ? g + momentum * v : v). As PyTorch's SGD. */
    VGG_SGD = 0,
    /** Kingma and Ba 2015, with g += decay * w. As PyTorch's Adam. */
    VGG_ADAM = 1,
    /** Loshchilov and Hutter 2019: w *= 1 - lr * decay apart. As PyTorch's AdamW. */
    VGG_ADAMW = 2
} vgg_optimizer_kind;

/** An optimiser. Sized: start from #VGG_OPTIMIZER_INIT. */
typedef struct vgg_optimizer {
    size_t size;         /**< sizeof(vgg_optimizer) */
    uint32_t kind;       /**< a ::vgg_optimizer_kind */
    uint32_t nesterov;   /**< 1: Nesterov's momentum; needs momentum > 0 */
    double momentum;     /**< of SGD, 0 <= momentum < 1 */
    double weight_decay; /**< >= 0, on every trainable parameter */
    double beta1;        /**< of Adam, 0 <= beta1 < 1 */
    double beta2;        /**< of Adam, 0 <= beta2 < 1 */
    double epsilon;      /**< of Adam, > 0 */
} vgg_optimizer;

/** Plain SGD, and PyTorch's defaults for Adam. */
#define VGG_OPTIMIZER_INIT                                                             \
    {                                                                                  \
        sizeof(vgg_optimizer), VGG_SGD, 0, 0.0, 0.0, 0.9, 0.999, 1e-8                  \
    }

/**
 * Change the parameters by their gradients. Gradients stay as they are.
 *
 * @param optimizer NULL for plain SGD.
 * @param lr        learning rate, 0 to FLT_MAX.
 * @param t         number of the update, from 1, which starts anew: momentum and
 *                  moments of an earlier training are forgotten. They also go with the
 *                  last plan on the model, device and precision.
 * @return VGG_OK, VGG_EINVAL, VGG_ESTATE (an inference plan), VGG_ENOMEM (optimiser
 *         state, allocated at the first call), VGG_EDEVICE.
 */
VGG_API vgg_status vgg_plan_update(vgg_plan *plan, const vgg_optimizer *optimizer,
                                   double lr, uint64_t t);

/**
 * Copy a parameter's gradient out.
 *
 * @param param a parameter of the plan's model.
 * @param out   f32 or f64 tensor of the parameter's shape.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ESTATE (frozen, a buffer, or no
 *         gradients).
 */
VGG_API vgg_status vgg_plan_param_gradient(vgg_plan *plan, const vgg_param *param,
                                           vgg_tensor *out);

/**
 * Copy the input's gradient out after vgg_plan_backward().
 *
 * @param out f32 or f64 [n][...sample] for the last run's n.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ESTATE (not asked for in the options).
 */
VGG_API vgg_status vgg_plan_input_gradient(vgg_plan *plan, vgg_tensor *out);

/**
 * Copy the output of a tapped layer out after vgg_plan_forward().
 *
 * @param name one of the options' taps.
 * @param out  f32 or f64 [n][...layer's output] for the last run's n.
 * @return VGG_OK, VGG_EINVAL (not a tap of this plan), VGG_ESHAPE, VGG_ESTATE.
 */
VGG_API vgg_status vgg_plan_tap(vgg_plan *plan, const char *name, vgg_tensor *out);

/**
 * Copy the gradient with respect to a tapped layer's output out after
 * vgg_plan_backward(): what came back from behind, and what
 * vgg_plan_set_tap_gradient() has added.
 *
 * @param name one of the options' taps, not the network's output.
 * @param out  f32 or f64 [n][...layer's output] for the last run's n.
 * @return VGG_OK, VGG_EINVAL (not a tap of this plan, or the output's), VGG_ESHAPE,
 *         VGG_ESTATE (no backward since the last forward, or a plan without
 *         `tap_gradients`).
 */
VGG_API vgg_status vgg_plan_tap_gradient(vgg_plan *plan, const char *name,
                                         vgg_tensor *out);

/**
 * What a stage of a plan is, and the work of a run of the plan's whole batch. Frozen
 * layout; texts are borrowed from the plan.
 *
 * Operations are those of direct convolutions and matrix products, two for each
 * multiply-accumulate, however the engine computes them; 0 for all other stages. Bytes
 * are the least that any engine must move: inputs, outputs, their gradients, and
 * parameters, each read or written once.
 */
typedef struct vgg_stage_info {
    const char *name;        /**< of its layers: "conv1_1..pool1"; at the end "loss" */
    const char *kind;        /**< of its first layer: vgg_layer_kind_name(); "loss" */
    const char *algorithm;   /**< how it is computed; "" where the engine only tells
                                  vgg_plan_describe() */
    vgg_shape in;            /**< shape of one sample going in */
    vgg_shape out;           /**< shape of one sample coming out */
    double forward_flops;    /**< operations of the forward */
    double backward_flops;   /**< of the gradients that the plan computes */
    uint64_t forward_bytes;  /**< moved by the forward */
    uint64_t backward_bytes; /**< moved by the backward */
    uint64_t kept_bytes;     /**< held beside its output: parameters in a form of the
                                  engine's own, what is kept for the backward */
    uint64_t scratch_bytes;  /**< needed while it runs, shared with other stages */
} vgg_stage_info;

/** Seconds that a stage has taken, in all runs together. Frozen layout. */
typedef struct vgg_stage_time {
    double forward;  /**< its forward; the loss stage's: vgg_plan_loss() */
    double backward; /**< its backward; a trainer's plan may update as it goes back */
    double prepare;  /**< bringing changed parameters into a form of the engine's own */
} vgg_stage_time;

/** Runs of a plan since it was made, and the seconds of their parts, in all runs
 *  together. Frozen layout. */
typedef struct vgg_plan_time {
    uint64_t forwards;  /**< forward runs */
    uint64_t losses;    /**< calls of vgg_plan_loss() */
    uint64_t backwards; /**< backward runs */
    uint64_t updates;   /**< updates */
    double input;       /**< taking in images, and gradients of one's own */
    double prepare;     /**< sum over the stages */
    double forward;     /**< sum over the stages, without the loss */
    double loss;        /**< the loss stage's */
    double backward;    /**< sum over the stages */
    double update;      /**< between two backwards: norm, scaling, update, zeroing */
} vgg_plan_time;

/** Number of stages of a plan; 0 for NULL. */
VGG_API uint32_t vgg_plan_stage_count(const vgg_plan *plan);

/**
 * What a stage is.
 *
 * @param index below vgg_plan_stage_count(), in forward order.
 * @return VGG_OK, VGG_EINVAL.
 */
VGG_API vgg_status vgg_plan_stage(const vgg_plan *plan, uint32_t index,
                                  vgg_stage_info *out);

/**
 * Where the plan's time went, by the host's clock. Of one step: the difference of two
 * calls. It costs no more than copying, and times are always taken: a reading of a
 * clock after each stage.
 *
 * @param total  may be NULL.
 * @param stages one for each of vgg_plan_stage_count() stages; may be NULL.
 * @return VGG_OK; VGG_EINVAL; VGG_EUNSUPPORTED (`cudnn`: its work goes on when a call
 *         has returned), with zeros in what was handed in.
 */
VGG_API vgg_status vgg_plan_times(const vgg_plan *plan, vgg_plan_time *total,
                                  vgg_stage_time *stages);

VGG_END_DECLS

#endif
