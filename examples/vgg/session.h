/* SPDX-License-Identifier: Apache-2.0 */
/* What every verb opens: a context and a device, data, a model. */
#ifndef SESSION_H
#define SESSION_H

#include "bar.h"
#include "look.h"
#include "settings.h"

/* All owned, all may be NULL. Zero it before use; session_close() takes any state. */
struct session {
    vgg_context *ctx;
    vgg_device *device;
    vgg_dataset *train, *test;
    vgg_loader *train_loader, *test_loader;
    vgg_metadata *metadata;
    vgg_model *model;
    char weights[4096]; /* the file that was read */
    uint64_t pictures;  /* hash of the pictures' names, if the data is such */
    uint64_t room;      /* bytes that they may be kept in */
    char *names;        /* of classes, a line each, from --names; NULL: none */
    struct bar *bar;    /* not owned: lines of the library's log go above it */
    char passed[2048];  /* why better devices were passed over, a line each */
    bool warned;        /* one of these lines is a warning */
};

/* Context and device as --threads, --gemm and --device say. What the library tells once
 * the device is open goes to stderr. */
int session_open(struct session *it, const struct settings *s);

/* --precision as the library's number. */
uint32_t session_precision(const struct settings *s);
/* --weights likewise. */
uint32_t session_weight_kind(const struct settings *s);

/* What computes, in a few words: "cpu, 2 threads", "cuda:0, NVIDIA H200, bf16". */
void session_place(const struct session *it, const struct settings *s, char *text,
                   size_t size);

/* The folder of the data: --data, or where Debian puts it; NULL: not known. */
const char *session_folder(const struct settings *s);

/* One split of the data set, from that folder. Classes of pictures are those of the
 * weights' metadata, else of the training split, if there is one open. */
int session_data(struct session *it, const struct settings *s, const char *split,
                 vgg_dataset **out);

/* How pictures become images: channels and size are as --channels and --resize say. */
struct look session_look(struct session *it, const struct settings *s);

/* --names, for weights that have none. */
int session_names(struct session *it, const struct settings *s);

/* Images a batch: --batch, or the whole of a smaller split. */
uint32_t session_batch(const struct settings *s, const vgg_dataset *data);

/* A loader over a split; `train` also shuffles and augments. */
int session_loader(const struct settings *s, const vgg_transform *transform,
                   vgg_dataset *data, bool train, vgg_loader **out);

/* The network that the settings describe, for the samples of a loader (NULL: without
 * data). */
int session_model(struct session *it, struct settings *s, const vgg_loader *loader);

/* The weights of a run directory (best/, else last/), a checkpoint or a file, with
 * their metadata. `folder` receives the folder that holds args.json of the run, if
 * any. */
int session_weights(struct session *it, const char *path, char folder[TEXT_SIZE]);

/* Weights of a checkpoint must be as the manifest beside them says; others have
 * none. */
int session_check(vgg_context *ctx, const char *file);

/* The same of weights whose network the settings describe, as session_model() has made
 * it, from the file in `it->weights`. */
int session_named_weights(struct session *it);

/* The weights file that a path to any of the three means; `folder` as above. */
int session_find_weights(const char *path, char file[4096], char folder[TEXT_SIZE]);

void session_close(struct session *it);

/* Preprocessing and classes as strings in the metadata of weights: `app.dataset`,
 * `app.classes` (a name a line), `app.resize` and `app.crop` (HxW, 0x0 for none),
 * `app.resize_rule`, `app.mean` and `app.std` (a number a channel), `app.settings` (a
 * hash of the recipe), `app.image` (HxW of the data set's images), of pictures also
 * `app.fit` and `app.pictures` (a hash of their names); fit_save() adds `app.epochs`
 * (trained so far). */
int card_write(struct session *it, const struct settings *s,
               const vgg_transform *transform, const vgg_dataset *data);

/* Read them back: the data set into the settings, the rest into the transform. */
int card_read(const struct session *it, struct settings *s, vgg_transform *out);

/* Do both say the same under a key, as far as they say it? */
bool card_agrees(const vgg_metadata *mine, const vgg_metadata *saved, const char *key);

/* The names of all classes, one a line; to be freed. */
char *card_classes(const vgg_dataset *data);

#endif
