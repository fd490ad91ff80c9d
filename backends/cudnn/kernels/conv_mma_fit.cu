/* SPDX-License-Identifier: Apache-2.0 */
/* How the convolutions of conv_mma.h are cut into regions and blocks: whatever an
 * estimate in cycles of a multiprocessor finds the fastest. Host code alone.
 *
 * Estimated are H100's 320 multiply-accumulates a cycle by mma.sync in each quarter of
 * a multiprocessor, of which one warp alone gets 60 % and two 90 %; ldmatrix at 128
 * bytes a cycle; 32 bytes a cycle of global memory, 1500 cycles away. Quarters have the
 * same to do where warps come in fours. */
#include "conv_mma_fit.cuh"
#include "conv_wgmma.cuh"

namespace vgg
{
namespace
{

constexpr double PRODUCT = 2048 / 320.0; /* cycles of a quarter, m16n8k16 */
constexpr double TURN = 300;

/* One product of a layer. */
struct problem {
    enum vgg__conv_mma_what what;
    const vgg__conv_mma_device *device;
    vgg__conv_mma_args args; /* its tile is tried */
    uint32_t k, n;           /* channels of input and output; weights: of x and dz */
};

/* What a region costs a multiprocessor in cycles: a quarter's products, reading shared
 * memory, a quarter's instructions, global memory, and what a block does while it has
 * no products. */
struct cost {
    double products, loads, issued, bytes, other;
    bool ahead; /* the next region is on its way meanwhile */
};

constexpr double REGION = 300; /* instructions of a warp for each */

double share_of(uint32_t warps_in_quarter)
{
    return warps_in_quarter <= 1 ? 0.6 : warps_in_quarter == 2 ? 0.9 : 1;
}

size_t shared_of(const problem &p)
{
    return p.what == VGG__CONV_MMA_WEIGHTS
               ? conv_mma_weights_shared(p.args)
               : conv_mma_shared(p.what == VGG__CONV_MMA_FORWARD, p.args);
}

/* ---- Forward and data ------------------------------------------------------------ */

uint32_t spots_of(const problem &p)
{
    const vgg__conv_mma_tile &tile = p.args.tile;
    return tile.rows / SPOT * (tile.cols / SPOT) * (tile.group / (8 * tiles_of(p.n)));
}

bool set_warps(problem &p, uint32_t most)
{
    const uint32_t spots = spots_of(p);
    p.args.tile.warps = spots >= most ? most : (spots + 3) / 4 * 4;
    return true;
}

cost cost_of(const problem &p, uint32_t beside)
{
    const vgg__conv_mma_tile &tile = p.args.tile;
    const bool forward = p.what == VGG__CONV_MMA_FORWARD, pooled = p.args.pool != 0;
    const uint32_t tiles = tiles_of(p.n), spots = spots_of(p);
    const uint32_t quarter = (spots + 3) / 4, warps = min(quarter, tile.warps / 4);
    const double steps = p.k / 16.0 * 3; /* of a spot: a column of taps each */
    const double border = (tile.rows + 2.0) * (tile.cols + 2);
    const double in = border * p.k * (pooled && !forward ? 0.75 : 2);
    const double out = tile.rows * tile.cols * tile.group *
                       (!forward ? 4.0
                        : pooled ? 0.75
                                 : 2);
    cost c;
    c.products = quarter * steps * 3 * 4 * tiles * PRODUCT / share_of(warps * beside);
    c.loads = spots * steps * (5 + 1.5 * tiles) * 4;
    const bool spreads = pooled && !forward;
    const double chunks = border * p.k / 8 / (spreads ? 4 : 1);
    const double finish = forward ? pooled ? 600 : 200 : 300;
    c.issued = tile.warps / 4 * REGION + chunks / 128 * (spreads ? 3 * FETCH : FETCH) +
               quarter * (steps * (15 + 14 * tiles) + 250 + finish * tiles / 4);
    c.bytes = (in + out) / 32;
    c.other = spreads ? chunks / 128 * SPREAD : 0;
    c.ahead = tile.buffers == 2 || spreads;
    return c;
}

/* ---- Weights --------------------------------------------------------------------- */

/* Every warp has sums, and all sums as many warps. */
bool set_warps_weights(problem &p, uint32_t most)
{
    const uint32_t units = conv_mma_weights_units(p.args);
    if (most < units) return false;
    const uint32_t shares = min(most / units, p.args.tile.cols / SPOT);
    p.args.tile.warps = shares * units;
    return true;
}

cost cost_of_weights(const problem &p, uint32_t beside)
{
    const vgg__conv_mma_tile &tile = p.args.tile;
    const uint32_t units = conv_mma_weights_units(p.args);
    const uint32_t shares = tile.warps / units, strips = tile.cols / SPOT;
    const uint32_t warps = (tile.warps + 3) / 4, steps = tile.rows / 2;
    const double pixels = tile.rows * tile.cols;
    const double x = (tile.rows + 2.0) * (tile.cols + 2) * p.k * 2;
    const bool pooled = p.args.pool != 0;
    cost c;
    c.products = (strips + shares - 1) / shares * warps * steps * 18 * PRODUCT /
                 share_of(warps * beside);
    c.loads = units * strips * (steps * 4.0 + 3) * 4;
    const double chunks = pixels * tile.group / 8 / (pooled ? 4 : 1);
    c.issued = warps * REGION + (x / 16 + chunks * (pooled ? 3 : 1)) / 128 * FETCH +
               (strips + shares - 1) / shares * warps * (steps * 36.0 + 60);
    c.bytes = (x + pixels * tile.group * (pooled ? 0.75 : 2)) / 32;
    c.other = pooled ? chunks / 128 * SPREAD : 0;
    c.ahead = tile.buffers == 2;
    return c;
}

/* ---- The search ------------------------------------------------------------------ */

/* Cycles of everything, with `beside` blocks at work on a multiprocessor. */
double estimate(const problem &p, uint32_t beside)
{
    const vgg__conv_mma_tile &tile = p.args.tile;
    const bool weights = p.what == VGG__CONV_MMA_WEIGHTS;
    const cost c = weights ? cost_of_weights(p, beside) : cost_of(p, beside);
    const double work = most_of(most_of(c.products, c.loads), c.issued + c.other) +
                        (c.issued + c.other) * 0.15;
    const double wait = LATENCY + c.bytes, own = TURN + work + c.other;
    const double alone = c.ahead ? most_of(own, wait) : own + wait;
    const double period = most_of(most_of(work, c.bytes) * beside, alone);

    const double regions = (double)regions_of(p.args) * (p.n / tile.group);
    const double slots = (double)beside * p.device->multiprocessors;
    const double rounds = (double)(uint64_t)((regions + slots - 1) / slots);
    /* The matrices in the beginning; in the end sums, which are read once more. */
    const double ends = 9.0 * tile.group * p.k * (weights ? 8 : 2) / 32 * beside;
    return rounds * period + ends + LATENCY;
}

/* The best tile for each number of blocks beside each other on a multiprocessor; then
 * those of warp groups. */
constexpr uint32_t MOST_BESIDE = 4, MOST_FOUND = MOST_BESIDE + MOST_WIDE;

void try_tile(problem &p, candidate (&best)[MOST_FOUND])
{
    for (uint32_t beside = 1; beside <= MOST_BESIDE; beside++) {
        const uint32_t most = MOST_WARPS / beside / 4 * 4;
        if (!(p.what == VGG__CONV_MMA_WEIGHTS ? set_warps_weights(p, most)
                                              : set_warps(p, most)))
            continue;
        const size_t shared = shared_of(p) + RESERVED;
        if (shared > p.device->shared_block ||
            beside * shared > p.device->shared_multiprocessor)
            continue;
        candidate &own = best[beside - 1];
        const double cycles = estimate(p, beside);
        if (own.cycles >= 0 && cycles >= own.cycles) continue;
        own = {p.args.tile, cycles};
        const uint32_t groups = p.n / own.tile.group;
        const uint32_t blocks = beside * p.device->multiprocessors / groups;
        own.tile.blocks = min(regions_of(p.args), max(blocks, 1u));
    }
}

/* The candidate with so many before it. */
bool pick(const candidate (&best)[MOST_FOUND], uint32_t rank, vgg__conv_mma_tile &found)
{
    for (uint32_t i = 0; i < MOST_FOUND; i++) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < MOST_FOUND; j++)
            before +=
                best[j].cycles >= 0 && (best[j].cycles < best[i].cycles ||
                                        (best[j].cycles == best[i].cycles && j < i));
        if (best[i].cycles < 0 || before != rank) continue;
        found = best[i].tile;
        return true;
    }
    return false;
}

bool fit(problem &p, vgg__conv_mma_tile &found)
{
    candidate best[MOST_FOUND];
    for (candidate &none : best) none = {{}, -1};
    const bool weights = p.what == VGG__CONV_MMA_WEIGHTS;
    const uint32_t widest = (p.args.wd + SPOT - 1) / SPOT * SPOT;
    const uint32_t unit = weights ? 16 : 8 * tiles_of(p.n);
    const uint32_t buffers = p.what == VGG__CONV_MMA_DATA && p.args.pool ? 1 : 2;
    for (uint32_t group = unit; group <= p.n; group *= 2)
        for (uint32_t rows = SPOT; rows <= 2 * SPOT; rows += SPOT)
            for (uint32_t cols = SPOT; cols <= min(widest, 128u); cols += SPOT)
                for (uint32_t count = 1; count <= buffers; count++) {
                    p.args.tile = {rows, cols, group, 0, count, 0, 0};
                    try_tile(p, best);
                }
    candidate wide[MOST_WIDE];
    const uint32_t count = conv_wgmma_tiles(p.what, *p.device, p.args, wide);
    for (uint32_t i = 0; i < count; i++) best[MOST_BESIDE + i] = wide[i];
    return pick(best, p.args.rank, found);
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
    if (device->capability < 80 || !vgg::takes(args->ic) || !vgg::takes(args->oc))
        return 0;
    if (args->pool && (args->h % 2 != 0 || args->wd % 2 != 0)) return 0;
    if (args->pool && !args->relu && what == VGG__CONV_MMA_FORWARD) return 0;
    const bool data = what == VGG__CONV_MMA_DATA;
    vgg::problem p = {what, device, *args, data ? args->oc : args->ic,
                      data ? args->ic : args->oc};
    return vgg::fit(p, args->tile);
}

const struct vgg__kernel *vgg__conv_mma_kernel(enum vgg__conv_mma_what what,
                                               const struct vgg__conv_mma_args *args)
{
    const bool forward = what == VGG__CONV_MMA_FORWARD;
    if (what == VGG__CONV_MMA_WEIGHTS)
        return args->tile.wide ? vgg::conv_wgmma_weights_kernel(*args)
                               : vgg::conv_mma_weights_kernel(*args);
    return args->tile.wide ? vgg::conv_wgmma_kernel(forward, *args)
                           : vgg::conv_mma_kernel(forward, *args);
}

struct vgg__grid vgg__conv_mma_grid(enum vgg__conv_mma_what what,
                                    const struct vgg__conv_mma_args *args)
{
    const uint32_t n = what == VGG__CONV_MMA_DATA ? args->ic : args->oc;
    const vgg__conv_mma_tile &tile = args->tile;
    const bool weights = what == VGG__CONV_MMA_WEIGHTS;
    const uint32_t parts =
        weights && tile.wide ? vgg::conv_wgmma_weights_parts(*args) : n / tile.group;
    return vgg__grid{{tile.blocks, parts, 1}, {tile.warps * 32, 1, 1}};
}

size_t vgg__conv_mma_shared(enum vgg__conv_mma_what what,
                            const struct vgg__conv_mma_args *args)
{
    const bool forward = what == VGG__CONV_MMA_FORWARD;
    if (what == VGG__CONV_MMA_WEIGHTS)
        return args->tile.wide ? vgg::conv_wgmma_weights_shared(*args)
                               : vgg::conv_mma_weights_shared(*args);
    return args->tile.wide ? vgg::conv_wgmma_shared(forward, *args)
                           : vgg::conv_mma_shared(forward, *args);
}
}
