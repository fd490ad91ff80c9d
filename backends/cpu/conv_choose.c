/* SPDX-License-Identifier: Apache-2.0 */
/* Which algorithm computes a convolution: a function of the stage's shape and the
 * context's options alone, unless it was asked to be measured; what conv_search.c has
 * found then is kept here. */
#include "cpu/conv.h"
#include "cpu/first.h"

/* ---- By shape -------------------------------------------------------------------- */

/* The work of a forward in multiply-accumulate operations, and that of transforms and
 * copies in their worth of these: measured with AVX-512, where a matrix product's are
 * the cheapest. Vectors are always whole. */
static double winograd_cost(const vgg_stage *s, uint32_t m, size_t lanes)
{
    const double n = m + 2, ic = s->in.c;
    const double wide_ic = (double)((s->in.c + lanes - 1) / lanes * lanes);
    const double wide_oc = (double)((s->mid.c + lanes - 1) / lanes * lanes);
    const double rows = (s->mid.h + m - 1) / m, cols = (s->mid.w + m - 1) / m;
    return rows * cols * n * n * (ic * wide_oc + 18 * wide_ic + 12 * wide_oc);
}

static double columns_cost(const vgg_stage *s, size_t lanes)
{
    const double wide_oc = (double)((s->mid.c + lanes - 1) / lanes * lanes);
    const double pixels = (double)s->mid.h * s->mid.w;
    return pixels * 9 * s->in.c * (wide_oc + 8);
}

static enum vgg__conv_algorithm cheapest(const vgg_stage *s, size_t lanes)
{
    enum vgg__conv_algorithm best = VGG__COLUMNS;
    double least = columns_cost(s, lanes);
    for (uint32_t m = 2; m <= 4; m += 2) {
        const double cost = winograd_cost(s, m, lanes);
        if (cost >= least) continue;
        least = cost;
        best = m == 2 ? VGG__WINOGRAD2 : VGG__WINOGRAD4;
    }
    return best;
}

static struct vgg__conv_choice all_by(enum vgg__conv_algorithm algorithm)
{
    return (struct vgg__conv_choice){algorithm, algorithm, algorithm};
}

/* By the shape, and the same for all three products, as dY and x have one extent; but
 * the kernel of few input channels has no gradient of the input. */
struct vgg__conv_choice vgg__conv_choose(const struct vgg__cpu *cpu, const vgg_stage *s)
{
    static const enum vgg__conv_algorithm forced[] = {
        [VGG_CONV_COLUMNS] = VGG__COLUMNS,
        [VGG_CONV_WINOGRAD2] = VGG__WINOGRAD2,
        [VGG_CONV_WINOGRAD4] = VGG__WINOGRAD4};
    if (s->kernel != 3) return all_by(VGG__COLUMNS);
    if (cpu->conv != VGG_CONV_AUTO && cpu->conv != VGG_CONV_MEASURED)
        return all_by(forced[cpu->conv]);
    if (s->in.c <= VGG__FIRST_CHANNELS)
        return (struct vgg__conv_choice){VGG__FIRST, VGG__COLUMNS, VGG__FIRST};
    return all_by(cheapest(s, cpu->gemm.kernels->cols / 2));
}

const char *vgg__conv_name(const struct vgg__cpu *cpu,
                           enum vgg__conv_algorithm algorithm)
{
    static const char *const names[] = {[VGG__FIRST] = "direct",
                                        [VGG__WINOGRAD2] = "Winograd F(2x2, 3x3)",
                                        [VGG__WINOGRAD4] = "Winograd F(4x4, 3x3)"};
    if (algorithm != VGG__COLUMNS) return names[algorithm];
    return cpu->gemm.blas ? "columns, OpenBLAS" : "columns x weights";
}

/* ---- What was found -------------------------------------------------------------- */

const struct vgg__conv_found *vgg__conv_find(const struct vgg__cpu *cpu,
                                             const vgg_stage *stage, uint32_t batch,
                                             bool back)
{
    const struct vgg__conv_found *f =
        atomic_load_explicit(&cpu->found, memory_order_acquire);
    for (; f; f = f->next) {
        const vgg_stage *s = &f->shape;
        if (f->batch == batch && f->back == back && s->kernel == stage->kernel &&
            s->relu == stage->relu && s->pool == stage->pool &&
            s->mid.c == stage->mid.c && s->in.c == stage->in.c &&
            s->in.h == stage->in.h && s->in.w == stage->in.w)
            break;
    }
    return f;
}

void vgg__conv_forget(struct vgg__cpu *cpu)
{
    const struct vgg__conv_found *f = cpu->found;
    while (f) {
        const struct vgg__conv_found *next = f->next;
        cpu->machine.host.release((void *)f);
        f = next;
    }
    cpu->found = NULL;
}
