/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes that a kernel and the function of its grid agree on. */
#ifndef VGG_CUDNN_TILES_H
#define VGG_CUDNN_TILES_H

#define VGG__THREADS 256 /* of a block, in every kernel of grids.c */

/* gather: output rows of one image that a block makes. */
#define VGG__GATHER_ROWS 32

/* sum_rows and its like: columns that a block sums at a time. */
#define VGG__SUM_COLUMNS 8

/* conv_first: rows of 2x2 windows that a block makes at a time, and channels that a
 * block of the backward works on. */
#define VGG__FIRST_ROWS     8
#define VGG__FIRST_CHANNELS 16

#endif
