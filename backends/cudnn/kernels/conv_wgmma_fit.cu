/* SPDX-License-Identifier: Apache-2.0 */
/* How the convolutions by warp groups are cut: by how many groups a block has room for,
 * with one buffer each or with two. Host code alone; an estimate as in conv_mma_fit.cu
 * puts what it finds in order.
 *
 * A product of 64 x 16 by 16 x N takes N / 2 cycles of a multiprocessor, or as long as
 * it reads shared memory: left and right at 128 bytes a cycle. */
#include "conv_mma_fit.cuh"
#include "conv_wgmma.cuh"

namespace vgg
{
namespace
{

/* Cycles of a multiprocessor. Every quarter has one warp of each group, which has
 * instructions for each region, for what it fetches and spreads, and for a sum. */
struct cost {
    double products, issued, bytes;
};

constexpr double REGION = 150;

cost cost_of(bool forward, const vgg__conv_mma_args &args)
{
    const vgg__conv_mma_tile &tile = args.tile;
    const uint32_t k = forward ? args.ic : args.oc, n = tile.group;
    const bool spreads = !forward && args.pool != 0;
    const double pixels = tile.rows * tile.cols,
                 border = (tile.rows + 2.0) * (tile.cols + 2);
    const double steps = pixels / 64 * 9 * k / 16;
    const double chunks = border * k / 8 / (spreads ? 4 : 1);
    cost c;
    c.products = steps * most_of(n / 2.0, 16 + n / 4.0);
    c.issued = REGION + chunks / 128 * (spreads ? 3 * FETCH + SPREAD : FETCH) +
               steps * 3 + pixels * n / 128 * (forward ? args.pool ? 5 : 2.5 : 3.5);
    const double out = !forward ? 4 : args.pool ? 0.75 : 2;
    c.bytes = (border * k * (spreads ? 0.75 : 2) + pixels * n * out) / 32;
    return c;
}

double estimate(bool forward, const vgg__conv_mma_device &device,
                const vgg__conv_mma_args &args)
{
    const vgg__conv_mma_tile &tile = args.tile;
    const uint32_t groups = tile.warps / 4, n = forward ? args.oc : args.ic;
    const bool ahead = tile.buffers == 2 || (!forward && args.pool != 0);
    const cost c = cost_of(forward, args);
    const double busy = most_of(most_of(c.products, c.issued), c.bytes);
    const double alone = c.products + c.issued + (ahead ? 200 : LATENCY);
    const double regions = (double)regions_of(args) * (n / tile.group);
    const double slots = (double)device.multiprocessors * groups;
    const double rounds = (double)(uint64_t)((regions + slots - 1) / slots);
    const double start = 9.0 * tile.group * (forward ? args.ic : args.oc) * 2 / 32;
    return rounds * most_of(groups * busy, alone) + start + LATENCY;
}

void set_blocks(const vgg__conv_mma_device &device, uint32_t n, uint32_t workers,
                vgg__conv_mma_args &args)
{
    const uint32_t most = max(device.multiprocessors / (n / args.tile.group), 1u);
    const uint32_t needed = (regions_of(args) + workers - 1) / workers;
    args.tile.blocks = min(most, needed);
}

/* Forward and data: as many groups as fit, with two buffers and with one. */
uint32_t tiles_of_groups(bool forward, const vgg__conv_mma_device &device,
                         vgg__conv_mma_args &args, candidate (&found)[MOST_WIDE])
{
    const uint32_t n = forward ? args.oc : args.ic;
    uint32_t count = 0;
    args.tile = {};
    args.tile.wide = 1;
    args.tile.rows = SPOT;
    args.tile.group = min(n, 64u);
    args.tile.cols = conv_wgmma_cols(forward, args);
    for (uint32_t buffers = 2; buffers >= 1; buffers--) {
        uint32_t groups = CONV_WGMMA_GROUPS;
        if (buffers == 2 && !forward && args.pool) continue; /* windows are the other */
        for (args.tile.buffers = buffers; groups > 0; groups--) {
            args.tile.warps = 4 * groups;
            if (conv_wgmma_shared(forward, args) + RESERVED <= device.shared_block)
                break;
        }
        if (groups == 0) continue;
        set_blocks(device, n, groups, args);
        found[count++] = {args.tile, estimate(forward, device, args)};
    }
    return count;
}

/* Weights: products, or what comes in; every pair of regions begins anew. */
double estimate_weights(const vgg__conv_mma_device &device,
                        const vgg__conv_mma_args &args)
{
    const vgg__conv_mma_tile &tile = args.tile;
    const uint32_t n = min(args.ic, 64u), parts = conv_wgmma_weights_parts(args);
    const double pixels = tile.rows * tile.cols;
    const double border = (tile.rows + 2.0) * (tile.cols + 2);
    const double products = pixels / 16 * 9 * n / 2 + 100;
    const double bytes =
        (border * n * 2 + pixels * tile.group * (args.pool ? 0.75 : 2)) / 32;
    const double spread = args.pool ? pixels / 4 * tile.group / 8 / 128 * SPREAD : 0;
    const double slots = (double)(device.multiprocessors / parts);
    const double regions = (double)regions_of(args);
    const double rounds = (double)(uint64_t)((regions + slots - 1) / most_of(slots, 1));
    return rounds * (most_of(products, bytes) + spread) +
           9.0 * tile.group * n * 8 / 32 + 2 * LATENCY;
}

} // namespace

uint32_t conv_wgmma_tiles(enum vgg__conv_mma_what what,
                          const vgg__conv_mma_device &device, vgg__conv_mma_args args,
                          candidate (&found)[MOST_WIDE])
{
    if (!device.wide) return 0;
    if (what != VGG__CONV_MMA_WEIGHTS)
        return tiles_of_groups(what == VGG__CONV_MMA_FORWARD, device, args, found);
    if (!conv_wgmma_weights_tile(device, args, args.tile)) return 0;
    found[0] = {args.tile, estimate_weights(device, args)};
    return 1;
}

} // namespace vgg
