/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of mma.cuh on the host, from the tables of the PTX ISA ("Matrix
 * Fragments for mma...", "ldmatrix", "cp.async"): who holds which element is written
 * down as the document's formulas have it, and nothing is derived from its use. It
 * comes with host_cuda.h.
 *
 * A copy in the background poisons its target at once and moves the bytes as late as it
 * may, when its thread waits for it; so reading early, and overwriting what somebody
 * still reads, both show. Products are summed in double and rounded once. */
#ifndef VGG_TEST_MMA_ISA_H
#define VGG_TEST_MMA_ISA_H

#include <vector>

/* ---- cp.async -------------------------------------------------------------------- */

struct vgg__isa_copy {
    uint8_t *to;
    const void *from;
    uint32_t bytes, read, group;
};

/* Of a thread of the block that runs. */
struct vgg__isa_queue {
    std::vector<vgg__isa_copy> copies;
    std::vector<vgg__isa_copy> landed; /* and not fenced */
    uint32_t group = 0;                /* number of the group that is open */
};

inline vgg__isa_queue &vgg__isa_own_queue()
{
    static std::vector<vgg__isa_queue> queues(1024);
    const vgg__host_place &now = vgg__host_now;
    return queues.at(now.thread.x +
                     now.threads.x * (now.thread.y + now.threads.y * now.thread.z));
}

inline uint8_t *vgg__isa_shared(uint32_t at)
{
    return (uint8_t *)vgg__host_dynamic_shared() + at;
}

/* Parts of shared memory that products of warp groups (wgmma.h) must not read: what is
 * being copied, or has been by a thread that has not fenced since. */
struct vgg__isa_barred {
    uint64_t block; /* of which the marks are */
    bool part[256 * 1024 / 4];
};

inline vgg__isa_barred &vgg__isa_bars()
{
    static vgg__isa_barred bars = {};
    if (bars.block != vgg__host_now.serial) memset(bars.part, 0, sizeof bars.part);
    bars.block = vgg__host_now.serial;
    return bars;
}

inline void vgg__isa_bar(const uint8_t *at, uint32_t bytes, bool barred)
{
    const size_t first = (size_t)(at - vgg__isa_shared(0)) / 4;
    memset(vgg__isa_bars().part + first, barred, bytes / 4);
}

inline bool vgg__isa_readable(uint32_t at)
{
    return !vgg__isa_bars().part[at / 4];
}

inline void vgg__isa_copy_async(uint32_t to, const void *from, uint32_t bytes,
                                uint32_t read)
{
    if (to % bytes != 0 || (uintptr_t)from % bytes != 0)
        vgg__host_fault("cp.async of %u bytes from %p to %u", bytes, from, to);
    vgg__isa_queue &queue = vgg__isa_own_queue();
    memset(vgg__isa_shared(to), 0xff, bytes);
    vgg__isa_bar(vgg__isa_shared(to), bytes, true);
    queue.copies.push_back({vgg__isa_shared(to), from, bytes, read, queue.group});
}

inline void vgg__isa_copy_group()
{
    vgg__isa_own_queue().group++;
}

inline void vgg__isa_copy_wait(uint32_t pending)
{
    vgg__isa_queue &queue = vgg__isa_own_queue();
    std::vector<vgg__isa_copy> later;
    for (const vgg__isa_copy &copy : queue.copies)
        if (copy.group + pending < queue.group) {
            memset(copy.to, 0, copy.bytes);
            memcpy(copy.to, copy.from, copy.read);
            queue.landed.push_back(copy);
        } else {
            later.push_back(copy);
        }
    queue.copies.swap(later);
}

/* fence.proxy.async */
inline void vgg__isa_fence_shared()
{
    vgg__isa_queue &queue = vgg__isa_own_queue();
    for (const vgg__isa_copy &copy : queue.landed)
        vgg__isa_bar(copy.to, copy.bytes, false);
    queue.landed.clear();
}

/* Copies that no thread has waited for since the last call: the kernel's mistake. */
inline size_t vgg__isa_forget_copies(uint32_t threads)
{
    size_t count = 0;
    const vgg__host_place before = vgg__host_now;
    vgg__host_now = {};
    for (uint32_t i = 0; i < threads; i++) {
        vgg__host_now.thread.x = i;
        count += vgg__isa_own_queue().copies.size();
        vgg__isa_own_queue() = {};
    }
    vgg__host_now = before;
    return count;
}

/* ---- ldmatrix -------------------------------------------------------------------- */

/* Rows of one matrix that lie in the same banks must be read one after the other. How
 * often that was so, beyond the access that each matrix takes at least. */
struct vgg__isa_counts {
    uint64_t loads, conflicts;
};
inline vgg__isa_counts vgg__isa_count = {};

inline uint32_t vgg__isa_conflicts(const vgg__host_words *rows, int matrices)
{
    uint32_t conflicts = 0;
    for (int matrix = 0; matrix < matrices; matrix++) {
        uint32_t in_bank[8] = {}, most = 1;
        for (int row = 0; row < 8; row++) {
            const uint32_t at = rows[8 * matrix + row][0];
            bool again = false; /* the same 16 bytes once more cost nothing */
            for (int other = 0; other < row; other++)
                again |= rows[8 * matrix + other][0] == at;
            if (!again) in_bank[at / 16 % 8]++;
            most = max(most, in_bank[at / 16 % 8]);
        }
        conflicts += most - 1;
    }
    return conflicts;
}

/* .x4 or .x2; lanes beyond those that the matrices need may say what they like. */
template <int Matrices>
inline void vgg__isa_load_matrices(uint32_t (&to)[Matrices], uint32_t row, bool trans)
{
    static_assert(Matrices == 4 || Matrices == 2, "what the kernels use");
    if (row % 16 != 0) vgg__host_fault("ldmatrix of a row at %u", row);
    const uint32_t lane = vgg__host_now.lane;
    const vgg__host_words *const rows =
        vgg__host_exchange(0xffffffffu, &row, 1, "ldmatrix");
    if (lane == 0) {
        vgg__isa_count.loads++;
        vgg__isa_count.conflicts += vgg__isa_conflicts(rows, Matrices);
    }
    for (int matrix = 0; matrix < Matrices; matrix++) {
        uint16_t element[2];
        for (int i = 0; i < 2; i++) {
            /* element i of the thread's register, without .trans */
            uint32_t r = lane / 4, c = lane % 4 * 2 + i;
            if (trans) {
                const uint32_t swapped = r;
                r = c;
                c = swapped;
            }
            memcpy(&element[i], vgg__isa_shared(rows[8 * matrix + r][0]) + 2 * c, 2);
        }
        to[matrix] = (uint32_t)element[1] << 16 | element[0];
    }
}

/* ---- mma ------------------------------------------------------------------------- */

/* Who holds an element: which lane, and which of its elements, counted from 0. */
struct vgg__isa_holder {
    uint8_t lane, element;
};

struct vgg__isa_tables {
    vgg__isa_holder a16[16][16], b16[16][8]; /* m16n8k16, 16-bit elements */
    vgg__isa_holder a8[16][8], b8[8][8];     /* m16n8k8, .tf32 */
    vgg__isa_tables()
    {
        for (uint8_t lane = 0; lane < 32; lane++) {
            const int group = lane >> 2, in_group = lane % 4;
            for (uint8_t i = 0; i < 8; i++) {
                const int row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
                const int col = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
                a16[row][col] = {lane, i};
            }
            for (uint8_t i = 0; i < 4; i++)
                b16[in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = {lane, i};
            for (uint8_t i = 0; i < 4; i++)
                a8[i % 2 == 0 ? group : group + 8][i < 2 ? in_group : in_group + 4] = {
                    lane, i};
            for (uint8_t i = 0; i < 2; i++)
                b8[i == 0 ? in_group : in_group + 4][group] = {lane, i};
        }
    }
};

inline const vgg__isa_tables &vgg__isa_table()
{
    static const vgg__isa_tables table;
    return table;
}

/* Element `which` of 16-bit elements in words[first...]. */
inline double vgg__isa_bf16(const uint32_t *words, uint32_t which)
{
    const uint32_t half = words[which / 2] >> 16 * (which % 2) & 0xffff;
    return __uint_as_float(half << 16);
}

/* TF32 operands: the 13 low bits are not looked at. */
inline double vgg__isa_tf32(uint32_t word)
{
    return __uint_as_float(word & 0xffffe000u);
}

inline int vgg__isa_row(uint32_t lane, int i)
{
    return (int)(lane >> 2) + (i < 2 ? 0 : 8);
}

inline int vgg__isa_col(uint32_t lane, int i)
{
    return (int)(lane % 4) * 2 + (i & 1);
}

inline void vgg__isa_multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                   uint32_t b1)
{
    const uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const vgg__host_words *const all =
        vgg__host_exchange(0xffffffffu, words, 6, "mma.m16n8k16");
    const vgg__isa_tables &table = vgg__isa_table();
    for (int i = 0; i < 4; i++) {
        const int row = vgg__isa_row(vgg__host_now.lane, i);
        const int col = vgg__isa_col(vgg__host_now.lane, i);
        double sum = c[i];
        for (int k = 0; k < 16; k++) {
            const vgg__isa_holder left = table.a16[row][k], right = table.b16[k][col];
            sum += vgg__isa_bf16(all[left.lane], left.element) *
                   vgg__isa_bf16(all[right.lane] + 4, right.element);
        }
        c[i] = (float)sum;
    }
}

inline void vgg__isa_multiply_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                   uint32_t b1)
{
    const uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const vgg__host_words *const all =
        vgg__host_exchange(0xffffffffu, words, 6, "mma.m16n8k8");
    const vgg__isa_tables &table = vgg__isa_table();
    for (int i = 0; i < 4; i++) {
        const int row = vgg__isa_row(vgg__host_now.lane, i);
        const int col = vgg__isa_col(vgg__host_now.lane, i);
        double sum = c[i];
        for (int k = 0; k < 8; k++) {
            const vgg__isa_holder left = table.a8[row][k], right = table.b8[k][col];
            sum += vgg__isa_tf32(all[left.lane][left.element]) *
                   vgg__isa_tf32(all[right.lane][4 + right.element]);
        }
        c[i] = (float)sum;
    }
}

/* cvt.rna.tf32.f32: half of the last place is added to the magnitude. */
inline uint32_t vgg__isa_to_tf32(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
    return (bits + 0x1000u) & 0xffffe000u;
}

#endif
