/* SPDX-License-Identifier: Apache-2.0 */
/* Running a network on an engine through backend.h alone, and collecting what came
   out. */
#ifndef VGG_TEST_SESSION_H
#define VGG_TEST_SESSION_H

#include "net.h"

/* Where to run. */
struct target {
    const char *label;
    const vgg_engine *engine;
    uint32_t precision;
    uint32_t threads;
    uint32_t gemm; /* vgg_gemm */
    /* What may be expected: the relative error of a vector on random data (0: it is the
     * oracle), and how many significant bits operands of products have, and what is
     * kept from stage to stage. */
    double tolerance;
    int multiplies, keeps;
    bool apart;    /* computes in memory that the context does not count */
    bool tunes;    /* algorithms are chosen by timing: not the same ones each time */
    bool no_dx;    /* nobody asks for the gradient of the input */
    uint32_t conv; /* vgg_conv */
};

extern const struct target target_ref64; /* the oracle */
extern const struct target target_ref32;

/* What a network is run on. Values are float so that both precisions see the same. */
struct data {
    uint32_t count; /* samples */
    float *input;
    float *dy; /* the gradient handed to backward if the network has no loss */
    const float *taps[NET_TAPS]; /* and those for its taps */
    uint32_t *labels;
    float *params[NET_PARAMS];
    float smoothing, scale;
};

/* What came out; in double whatever the precision. */
struct outcome {
    uint32_t mode;
    vgg_status loss_status;
    double loss; /* sum */
    uint32_t correct;
    double *output;
    double *dx;                  /* NULL in VGG_MODE_INFER */
    double *taps[NET_TAPS];      /* what came back to them; NULL likewise */
    double *dparams[NET_PARAMS]; /* NULL: none */
    double *params[NET_PARAMS];  /* values after the run */
};

/* How data is drawn: real numbers in small steps; integers from -2 to 2; the same with
 * so few weights (1 or -1, else 0) that activations hardly grow from layer to layer. */
enum { DATA_REAL, DATA_INTEGER, DATA_SPARSE };

void data_create(struct data *data, const struct net *net, uint32_t count,
                 uint32_t kind, uint64_t seed);
void data_free(struct data *data);

/* A network compiled on a target. */
struct session {
    const struct target *target;
    struct net net; /* fused as the engine takes it */
    vgg_context *ctx;
    vgg_host host;
    void *device, *store, *program;
};

/* A test program may have others of these three. Called before a session opens its
 * device and after it has closed it: they do nothing. */
void session_opening(void);
void session_closed(void);
/* Can a network be computed in a test's time? It can; for those that can't, smaller
 * ones with the same stages and channels are among the cases. */
bool session_takes(const struct net *net, uint32_t batch);

/* What a context offers to an engine. */
vgg_host session_host(vgg_context *ctx);

/* The first part of session_open(): a context and the target's device, open. */
void session_open_device(struct session *s, const vgg_context_options *opts);

/* `taps`: the output of every stage is a tap, numbered as the stage; for looking at
 * forward runs. */
void session_open(struct session *s, const struct target *target,
                  const struct net *plain, uint32_t batch, uint32_t mode, bool taps);
void session_close(struct session *s);

void session_write(struct session *s, const struct data *data);
vgg_run session_run_desc(const struct data *data);
void session_forward(struct session *s, const struct data *data);

/* Write, forward, loss, backward, read, close; compiled for as many samples as there
 * are, or for `batch`. */
void run_net(const struct target *target, const struct net *plain,
             const struct data *data, uint32_t mode, struct outcome *out);
void run_net_in(uint32_t batch, const struct target *target, const struct net *plain,
                const struct data *data, uint32_t mode, struct outcome *out);
void outcome_free(struct outcome *out);

/* The least distance of any ReLU's input to 0, and of the two largest of any maximum's
 * window: where it is small, rounding decides about gradients. */
double net_kink_distance(const struct net *plain, const struct data *data,
                         uint32_t mode);

/* The share of a ReLU's inputs, and of maxima, that an error of `reach` (of the root
 * mean square of the ReLU's or maximum's input) could decide otherwise; added up over
 * the network. */
double net_kink_share(const struct net *plain, const struct data *data, uint32_t mode,
                      double reach);

/* The most significant bits that any value between the stages needs. */
int net_value_bits(const struct net *plain, const struct data *data, uint32_t mode);

#endif
