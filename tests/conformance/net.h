/* SPDX-License-Identifier: Apache-2.0 */
/* Small networks for testing engines: what lib/plan would hand to an engine, written
 * down as one line of text, for instance "3x8x8 conv3:16 bn relu max linear:10 loss".
 *
 *   conv3:OC conv1:OC   convolution with bias
 *   bn relu max avg     batch norm, ReLU, 2x2 maximum and average pooling
 *   adaptive:HxW        adaptive average pooling
 *   flatten linear:OUT dropout:RATE loss
 *   tap                 what comes back meets a gradient of the caller's
 *
 * A linear stage takes a map as it is and flattens it itself. */
#ifndef VGG_TEST_NET_H
#define VGG_TEST_NET_H

#include "backend.h"

#define NET_STAGES 32
#define NET_PARAMS 64
#define NET_TAPS   4

struct net {
    vgg_stage stages[NET_STAGES];
    uint32_t stage_count;
    vgg_param_desc params[NET_PARAMS];
    uint32_t fan[NET_PARAMS]; /* inputs of one output; 0: not a conv or linear weight */
    uint32_t param_count;
    uint32_t tap_count;
};

/* One stage a layer; fails the running test on text that it does not know. */
void net_parse(struct net *net, const char *text);

/* The same network with as few stages as an engine with these VGG_FUSE_... takes. */
void net_fuse(const struct net *plain, uint32_t fusions, struct net *fused);

bool net_has(const struct net *net, uint32_t stage_kind);
bool net_has_loss(const struct net *net);

/* Elements of one sample. */
size_t net_extent(vgg_extent e);
size_t net_input_count(const struct net *net);
size_t net_output_count(const struct net *net);

/* Multiply-accumulate operations of one sample's forward. */
double net_macs(const struct net *net);

#endif
