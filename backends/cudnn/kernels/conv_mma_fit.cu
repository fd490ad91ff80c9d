/* SPDX-License-Identifier: Apache-2.0 */
/* How the convolutions of conv_mma.h are cut into regions and blocks: whatever an
 * estimate in cycles of a multiprocessor finds the fastest. Host code alone.
 *
 * Estimated are H100's 320 multiply-accumulates a cycle by mma.sync in each quarter of
 * a multiprocessor, of which one warp alone gets 60 % and two 90 %; ldmatrix at 128
 * bytes a cycle; 32 bytes a cycle of global memory, 1500 cycles away. */
#include "conv_mma.cuh"

namespace vgg
{
namespace
{

constexpr uint32_t RESERVED = 1024 + 128; /* shared memory of a block besides its own */

/* One product of a layer. */
struct problem {
    const vgg__conv_mma_device *device;
    vgg__conv_mma_args args; /* its tile is tried */
    bool forward;
    uint32_t k, n; /* channels of input and output */
};

/* Whether so many blocks fit on a multiprocessor; sets their warps. */
bool fits_beside(problem &p, uint32_t wanted)
{
    vgg__conv_mma_tile &tile = p.args.tile;
    const size_t shared = conv_mma_shared(p.forward, p.args) + RESERVED;
    if (shared > p.device->shared_block ||
        wanted * shared > p.device->shared_multiprocessor)
        return false;
    const uint32_t spots =
        tile.rows / SPOT * (tile.cols / SPOT) * (tile.group / (8 * tiles_of(p.n)));
    /* The four parts of a multiprocessor have the same to do if warps come in fours. */
    const uint32_t most = MOST_WARPS / wanted / 4 * 4;
    if (most == 0) return false;
    tile.warps = spots >= most ? most : (spots + 3) / 4 * 4;
    return true;
}

double most_of(double a, double b)
{
    return a > b ? a : b;
}

/* Cycles from one region of a block to its next, with `beside` blocks at work. */
double period(const problem &p, uint32_t beside)
{
    const vgg__conv_mma_tile &tile = p.args.tile;
    const uint32_t tiles = tiles_of(p.n), pixels = tile.rows * tile.cols;
    const uint32_t spots = pixels / (SPOT * SPOT) * (tile.group / (8 * tiles));
    const double steps = p.k / 16.0 * 3; /* of a spot: a column of taps each */
    const uint32_t quarter = (spots + 3) / 4, warps = min(quarter, tile.warps / 4);
    const double share = warps * beside == 1 ? 0.6 : warps * beside == 2 ? 0.9 : 1;
    const double products = quarter * steps * 3 * 4 * tiles * 2048 / 320 / share;
    const double work = most_of(products, spots * steps * (5 + 1.5 * tiles) * 4);

    const double border = (tile.rows + 2.0) * (tile.cols + 2);
    const bool pooled = p.args.pool != 0, spreads = pooled && !p.forward;
    const double in = border * p.k * (spreads ? 0.75 : 2);
    const double out = pixels * tile.group * (p.forward ? pooled ? 0.75 : 2 : 4.0);
    const double bytes = (in + out) / 32, wait = 1500 + bytes;
    const double own = 300 + work + (spreads ? border * p.k / 64 : 0);
    const double alone = tile.buffers == 2 || spreads ? most_of(own, wait) : own + wait;
    return most_of(most_of(work, bytes) * beside, alone);
}

double estimate(const problem &p, uint32_t beside)
{
    const vgg__conv_mma_tile &tile = p.args.tile;
    const double regions = (double)regions_of(p.args) * (p.n / tile.group);
    const double slots = (double)beside * p.device->multiprocessors;
    const double rounds = (double)(uint64_t)((regions + slots - 1) / slots);
    const double start = 9.0 * tile.group * p.k * 2 / 32 * beside + 1500;
    return rounds * period(p, beside) + start;
}

/* Try a tile, and keep it if it is better than what was found so far. */
void try_tile(problem &p, vgg__conv_mma_tile &found, double &cost)
{
    for (uint32_t beside = 1; beside <= 4; beside++) {
        if (!fits_beside(p, beside)) continue;
        const double other = estimate(p, beside);
        if (cost >= 0 && other >= cost) continue;
        cost = other;
        found = p.args.tile;
        const uint32_t most = beside * p.device->multiprocessors;
        const uint32_t groups = p.n / found.group, regions = regions_of(p.args);
        found.blocks = min(regions, max(most / groups, 1u));
    }
}

bool fit(problem &p, vgg__conv_mma_tile &found)
{
    double cost = -1;
    const uint32_t widest = (p.args.wd + SPOT - 1) / SPOT * SPOT;
    const uint32_t unit = 8 * tiles_of(p.n);
    const uint32_t buffers = p.forward || p.args.pool == 0 ? 2 : 1;
    for (uint32_t group = unit; group <= p.n; group *= 2)
        for (uint32_t rows = SPOT; rows <= 2 * SPOT; rows += SPOT)
            for (uint32_t cols = SPOT; cols <= min(widest, 128u); cols += SPOT)
                for (uint32_t count = 1; count <= buffers; count++) {
                    p.args.tile = {rows, cols, group, 0, count, 0};
                    try_tile(p, found, cost);
                }
    return cost >= 0;
}

bool takes(uint32_t channels)
{
    return channels == 16 || channels == 32 || channels == 64 || channels == 128;
}

} // namespace
} // namespace vgg

extern "C" {

int vgg__conv_mma_fit(enum vgg__conv_mma_what what,
                      const struct vgg__conv_mma_device *device,
                      struct vgg__conv_mma_args *args)
{
    if (what == VGG__CONV_MMA_WEIGHTS) return 0;
    if (device->capability < 80 || !vgg::takes(args->ic) || !vgg::takes(args->oc))
        return 0;
    if (args->pool && (args->h % 2 != 0 || args->wd % 2 != 0)) return 0;
    const bool forward = what == VGG__CONV_MMA_FORWARD;
    vgg::problem p = {device, *args, forward, forward ? args->ic : args->oc,
                      forward ? args->oc : args->ic};
    return vgg::fit(p, args->tile);
}

const struct vgg__kernel *vgg__conv_mma_kernel(enum vgg__conv_mma_what what,
                                               const struct vgg__conv_mma_args *args)
{
    return vgg::conv_mma_kernel(what == VGG__CONV_MMA_FORWARD, *args);
}

struct vgg__grid vgg__conv_mma_grid(enum vgg__conv_mma_what what,
                                    const struct vgg__conv_mma_args *args)
{
    const uint32_t n = what == VGG__CONV_MMA_FORWARD ? args->oc : args->ic;
    const vgg__conv_mma_tile &tile = args->tile;
    return vgg__grid{{tile.blocks, n / tile.group, 1}, {tile.warps * 32, 1, 1}};
}

size_t vgg__conv_mma_shared(enum vgg__conv_mma_what what,
                            const struct vgg__conv_mma_args *args)
{
    return vgg::conv_mma_shared(what == VGG__CONV_MMA_FORWARD, *args);
}
}
