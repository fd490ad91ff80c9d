/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of wgmma.cuh on the host, from the PTX ISA ("Asynchronous Warpgroup
 * Level Matrix Instructions": register fragments, strides and canonical layouts without
 * swizzling, matrix descriptor).
 *
 * A product is carried out twice, as early and as late as it may be: when it is issued
 * and when its sums are waited for. What it reads must be the same both times, must
 * have arrived and been fenced; its sums are poison in between. Warps of a group that
 * do not issue the same products are told. */
#ifndef VGG_TEST_WGMMA_H
#define VGG_TEST_WGMMA_H

#include "isa.h"

/* ---- Products under way ---------------------------------------------------------- */

struct vgg__isa_product {
    float *sum;
    int columns, add;
    bool held;
    uint64_t left, right;
    vgg__host_words rows[32]; /* of the warp's lanes, if held */
    float before[32], early[32];
    uint32_t group;
};

/* Of a thread of the block that runs. */
struct vgg__isa_products {
    std::vector<vgg__isa_product> list;
    uint64_t block = 0; /* that it belongs to */
    uint32_t group = 0, issued = 0;
    bool begun = false;
};

inline vgg__isa_products &vgg__isa_own_products()
{
    static std::vector<vgg__isa_products> all(1024);
    vgg__isa_products &own = all.at(vgg__host_now.thread.x);
    if (own.block == vgg__host_now.serial) return own;
    own = {};
    own.block = vgg__host_now.serial;
    return own;
}

/* What the first warp of a group has issued, in order. */
struct vgg__isa_said {
    uint64_t left, right;
    int columns, add;
    bool operator!=(const vgg__isa_said &other) const
    {
        return left != other.left || right != other.right || columns != other.columns ||
               add != other.add;
    }
};

inline void vgg__isa_agree(const vgg__isa_said &mine, uint32_t number)
{
    static std::vector<vgg__isa_said> of_group[8]; /* of 1024 threads */
    static uint64_t block[8] = {};
    const uint32_t group = vgg__host_now.thread.x / 128;
    if (block[group] != vgg__host_now.serial) of_group[group].clear();
    block[group] = vgg__host_now.serial;
    if (number == of_group[group].size()) of_group[group].push_back(mine);
    if (number > of_group[group].size() || of_group[group][number] != mine)
        vgg__host_fault("product %u is not that of the other warps", number);
}

/* ---- Operands -------------------------------------------------------------------- */

/* Element `across`, `k` of a matrix. */
inline double vgg__isa_element(uint64_t descriptor, uint32_t across, uint32_t k,
                               bool turned)
{
    const uint32_t at = (uint32_t)(descriptor & 0x3fff) << 4;
    const uint32_t along_k = (uint32_t)(descriptor >> 16 & 0x3fff) << 4;
    const uint32_t along_mn = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    const uint32_t core = at + across / 8 * along_mn + k / 8 * along_k;
    const uint32_t place =
        core + (turned ? k % 8 * 16 + across % 8 * 2 : across % 8 * 16 + k % 8 * 2);
    if (!vgg__isa_readable(place))
        vgg__host_fault("product of what is at %u: not arrived, or not fenced", place);
    uint16_t bits;
    memcpy(&bits, vgg__isa_shared(place), 2);
    return __uint_as_float((uint32_t)bits << 16);
}

inline double vgg__isa_left(const vgg__isa_product &p, uint32_t row, uint32_t k)
{
    if (!p.held)
        return vgg__isa_element(p.left, vgg__host_now.thread.x % 128 / 32 * 16 + row, k,
                                false);
    const vgg__isa_holder holder = vgg__isa_table().a16[row][k];
    return vgg__isa_bf16(p.rows[holder.lane], holder.element);
}

/* A thread's part of left * right, as its registers have it: two rows, and two columns
 * of every eight. */
inline void vgg__isa_compute(const vgg__isa_product &p, float (&to)[32])
{
    const uint32_t lane = vgg__host_now.lane;
    double left[2][16], right[16];
    for (int i = 0; i < 2; i++)
        for (uint32_t k = 0; k < 16; k++)
            left[i][k] = vgg__isa_left(p, (uint32_t)vgg__isa_row(lane, 2 * i), k);
    for (int j = 0; j < p.columns / 4; j++) {
        const uint32_t column = (uint32_t)(j / 2 * 8 + vgg__isa_col(lane, j % 2));
        for (uint32_t k = 0; k < 16; k++)
            right[k] = vgg__isa_element(p.right, column, k, p.held);
        for (int i = 0; i < 2; i++) {
            double sum = 0;
            for (int k = 0; k < 16; k++) sum += left[i][k] * right[k];
            to[j / 2 * 4 + 2 * i + j % 2] = (float)sum;
        }
    }
}

inline void vgg__isa_issue(vgg__isa_product &p)
{
    vgg__isa_products &own = vgg__isa_own_products();
    if (!own.begun) vgg__host_fault("a product without products_begin()");
    if ((p.left | p.right) & 0xffffc000c000c000u)
        vgg__host_fault("descriptor %016llx or %016llx", (unsigned long long)p.left,
                        (unsigned long long)p.right);
    const vgg__isa_said said = {p.left, p.right, p.columns, p.add};
    vgg__isa_agree(said, own.issued++);
    p.group = own.group;
    memcpy(p.before, p.sum, (size_t)p.columns / 2 * sizeof(float));
    vgg__isa_compute(p, p.early);
    memset(p.sum, 0xff, (size_t)p.columns / 2 * sizeof(float));
    own.list.push_back(p);
}

/* The late half; not the first product of its sum goes on from the one before. */
inline void vgg__isa_finish(const vgg__isa_product &p, bool first)
{
    float late[32];
    vgg__isa_compute(p, late);
    for (int i = 0; i < p.columns / 2; i++) {
        if (memcmp(&late[i], &p.early[i], 4) != 0 &&
            !(late[i] != late[i] && p.early[i] != p.early[i]))
            vgg__host_fault("what a product reads has changed before its end");
        const float begin = first ? p.before[i] : p.sum[i];
        p.sum[i] = p.add ? (float)((double)begin + (double)late[i]) : late[i];
    }
}

/* ---- The instructions ------------------------------------------------------------ */

inline void vgg__isa_products_begin()
{
    vgg__host_warp_barrier(0xffffffffu, "wgmma.fence");
    vgg__isa_own_products().begun = true;
}

inline void vgg__isa_products_commit()
{
    vgg__host_warp_barrier(0xffffffffu, "wgmma.commit_group");
    vgg__isa_own_products().group++;
}

inline void vgg__isa_products_wait(uint32_t pending)
{
    vgg__host_warp_barrier(0xffffffffu, "wgmma.wait_group");
    vgg__isa_products &own = vgg__isa_own_products();
    std::vector<vgg__isa_product> later;
    std::vector<float *> seen;
    for (const vgg__isa_product &p : own.list) {
        if (p.group + pending >= own.group) {
            later.push_back(p);
            continue;
        }
        bool first = true;
        for (const float *sum : seen) first &= sum != p.sum;
        vgg__isa_finish(p, first);
        if (first) seen.push_back(p.sum);
    }
    /* Sums that go on begin from what they are now, and are poison again. */
    for (vgg__isa_product &p : later)
        for (float *&sum : seen) {
            if (sum != p.sum) continue;
            memcpy(p.before, sum, (size_t)p.columns / 2 * sizeof(float));
            memset(sum, 0xff, (size_t)p.columns / 2 * sizeof(float));
            sum = nullptr;
        }
    own.list.swap(later);
    own.begun = false;
}

inline void vgg__isa_multiply_group(float *sum, int columns, uint64_t left,
                                    uint64_t right, int add)
{
    vgg__host_warp_barrier(0xffffffffu, "wgmma");
    vgg__isa_product p = {};
    p.sum = sum;
    p.columns = columns;
    p.left = left;
    p.right = right;
    p.add = add;
    vgg__isa_issue(p);
}

inline void vgg__isa_multiply_group_held(float *sum, int columns,
                                         const uint32_t (&left)[4], uint64_t right,
                                         int add)
{
    vgg__isa_product p = {};
    const vgg__host_words *const all =
        vgg__host_exchange(0xffffffffu, left, 4, "wgmma of registers");
    memcpy(p.rows, all, sizeof p.rows);
    p.sum = sum;
    p.columns = columns;
    p.held = true;
    p.right = right;
    p.add = add;
    vgg__isa_issue(p);
}

#endif
