/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file checkpoint.h
 * @brief Save a training and go on with it exactly.
 *
 * A checkpoint is a folder: `weights.safetensors` (for everyone),
 * `optimizer.safetensors` (momentum and moments, when there are any), `trainer.json`
 * (position, sums, seed, recipe) and `manifest.json` (format version, and size and
 * SHA-256 of each other file; written last, so a folder without a true one is
 * incomplete). It replaces an older one of the same name in one step: at any moment one
 * of the two is there, whole.
 *
 * While `NAME` is saved, its parent folder has an entry `.NAME.new-` with three
 * numbers, and, where the file system can't exchange two names in one step,
 * `.NAME.vgg-old` for a moment. What a killed process left of these goes away with the
 * next save. A folder of such a name that holds anything but a checkpoint's files is
 * someone else's and stays.
 */
#ifndef VGG_CHECKPOINT_H
#define VGG_CHECKPOINT_H

#include <vgg/train.h>
#include <vgg/weights.h>

VGG_BEGIN_DECLS

/**
 * Save a training's state to a folder. It must stand between two optimiser steps, or a
 * started accumulation is an error.
 *
 * A folder that replaces another has its permissions, and each file in it those of the
 * older one; owner and group are those of anything new. If `dir` itself is a symbolic
 * link, it is refused and stays; links on the way to it are followed.
 *
 * Several threads or processes may save to one folder, each a trainer of its own, and
 * others read it: each save replaces the folder as a whole, and the last one stays.
 * They take turns by flock() on an empty file `.NAME.vgg-lock` beside it, which is
 * there for moments only; no other lock is waited for. A save that waits for more than
 * 10 seconds, because another is stopped in the midst of its turn, fails with VGG_EIO.
 *
 * @param dir      the folder; its parent must exist; an empty folder or a checkpoint
 *                 there is replaced, anything else there (also a file more in the
 *                 folder) is an error.
 * @param metadata more strings for the weights' file; may be NULL.
 * @return VGG_OK, VGG_EINVAL, VGG_ESTATE (gradients are being accumulated), VGG_EIO,
 *         VGG_EMISMATCH (something else is at `dir`, or at `.NAME.vgg-lock`, or at
 *         `.NAME.vgg-old` where that is needed), VGG_ELIMIT (too much metadata),
 *         VGG_ENOMEM. After a failure the older checkpoint is still there.
 */
VGG_API vgg_status vgg_checkpoint_save(vgg_trainer *trainer, const char *dir,
                                       const vgg_metadata *metadata);

/**
 * Bring a trainer to a saved state: weights, optimiser, position, sums. Everything is
 * checked (hashes, shapes, recipe) before anything is changed. The trainer must have
 * been made with the options of the saved one; only `epochs` may differ, and what it is
 * computed with: the device, `precision` and `deterministic`. With these the same too,
 * what follows is bit by bit what would have followed; but VGG_FP64, whose parameters
 * and moments are kept as f32.
 *
 * @param metadata receives the weights file's strings, owned; may be NULL.
 * @return VGG_OK; VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT, VGG_ECHECKSUM, VGG_ELIMIT: a
 *         broken checkpoint; VGG_EMISMATCH: one of another model or recipe (the text
 *         says which field); VGG_EUNSUPPORTED (a newer format version); VGG_ESTATE
 *         (called from a callback of vgg_trainer_fit()); VGG_ENOMEM.
 */
VGG_API vgg_status vgg_checkpoint_load(vgg_trainer *trainer, const char *dir,
                                       vgg_metadata **metadata);

/**
 * Check that a folder is a whole checkpoint, without a trainer: every file of its
 * manifest is there with its size and SHA-256. What the files say is not looked at.
 *
 * @param ctx NULL for the default context.
 * @return VGG_OK; VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT, VGG_ECHECKSUM, VGG_ELIMIT,
 *         VGG_EUNSUPPORTED: as vgg_checkpoint_load(); VGG_ENOMEM.
 */
VGG_API vgg_status vgg_checkpoint_check(vgg_context *ctx, const char *dir);

VGG_END_DECLS

#endif
