/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what every verb needs, with the remedy in the message when it is not
 * there. */
#include "session.h"
#include "files.h"
#include "folder.h"

#include <stdlib.h>
#include <string.h>

static const char debian_folder[] = "/usr/share/datasets/fashion-mnist";

/* What the library tells: which algorithms --conv measured has found, that a data set
 * does not fit on the device, what is odd about the data. While a device is looked for
 * it is kept, for a verb whose failure is to be one line. */
static void tell(void *cookie, vgg_log_level level, const char *line)
{
    struct session *it = cookie;
    if (level < VGG_LOG_INFO) return;
    if (strncmp(line, "cpu: ", 5) == 0) line += 5;
    if (it->device == NULL) {
        const size_t length = strlen(it->passed);
        it->warned = it->warned || level >= VGG_LOG_WARNING;
        snprintf(it->passed + length, sizeof it->passed - length, "%s\n", line);
    } else if (it->bar != NULL) {
        bar_line(it->bar, "vgg: %s", line);
    } else {
        fprintf(stderr, "vgg: %s\n", line);
    }
}

static void show_passed(const struct session *it)
{
    for (const char *line = it->passed; *line != '\0';) {
        const int length = (int)strcspn(line, "\n");
        fprintf(stderr, "vgg: %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
}

int session_open(struct session *it, const struct settings *s)
{
    const vgg_logger logger = {it, tell};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = (uint32_t)s->threads;
    opts.gemm = (uint32_t)s->gemm;
    opts.conv = (uint32_t)s->conv;
    if (s->conv == VGG_CONV_MEASURED && s->deterministic)
        return misuse("--conv measured chooses by timing, and --deterministic wants no "
                      "such choice: leave out one of them");
    if (!s->quiet) opts.logger = &logger;
    if (vgg_context_create(&opts, &it->ctx) != VGG_OK) return fail_vgg(NULL);
    const vgg_status status = vgg_device_open(it->ctx, s->device, &it->device);
    if (status != VGG_OK)
        return (status == VGG_EINVAL ? misuse : fail)(
            "--device %s: %s; `vgg devices` lists what can run here", s->device,
            vgg_last_error());
    const char *name = vgg_device_name(it->device);
    /* A GPU keeps what it has been given; nor does one pass over pictures need room. */
    const bool trains =
        strcmp(verb_name, "train") == 0 || strcmp(verb_name, "bench") == 0;
    it->room = trains && strncmp(name, "cuda", 4) != 0 ? s->cache << 20 : 0;
    const bool wrong = s->precision != 0 && strncmp(name, "cuda", 4) != 0;
    /* Training shows these lines, warnings or not, above its bar. */
    if (it->warned && (it->bar == NULL || wrong)) show_passed(it);
    if (wrong)
        return misuse("--precision %s needs a GPU, and this is the device %s: take "
                      "fp32, or see `vgg devices` for why there is none",
                      flag_find("precision")->choices[s->precision], name);
    return 0;
}

uint32_t session_precision(const struct settings *s)
{
    static const uint32_t precisions[] = {VGG_FP32, VGG_TF32, VGG_BF16};
    return precisions[s->precision];
}

uint32_t session_weight_kind(const struct settings *s)
{
    static const uint32_t kinds[] = {VGG_FP32, VGG_BF16};
    return kinds[s->weights];
}

void session_place(const struct session *it, const struct settings *s, char *text,
                   size_t size)
{
    const char *name = vgg_device_name(it->device);
    const char *about = vgg_device_text(it->device);
    const unsigned threads = vgg_context_threads(it->ctx);
    int length;
    if (strcmp(name, "cpu") == 0) /* the others do not compute on the host's threads */
        length = snprintf(text, size, "%s, %u thread%s", name, threads,
                          threads == 1 ? "" : "s");
    else if (strncmp(name, "cuda", 4) == 0) /* its text begins with the product */
        length =
            snprintf(text, size, "%s, %.*s", name, (int)strcspn(about, ",;"), about);
    else
        length = snprintf(text, size, "%s", name);
    if (length >= 0 && (size_t)length < size)
        snprintf(text + length, size - (size_t)length, "%s%s%s",
                 s->precision != 0 ? ", " : "",
                 s->precision != 0 ? flag_find("precision")->choices[s->precision] : "",
                 s->weights != 0 ? ", linear weights in bf16" : "");
}

const char *session_folder(const struct settings *s)
{
    if (s->data[0]) return s->data;
    return strcmp(dataset_name(s), "fashion-mnist") == 0 ? debian_folder : NULL;
}

/* Where PyTorch's loaders put a data set within the folder that they are given; NULL:
 * not there. */
static const char *downloaded(const struct settings *s, char path[2 * TEXT_SIZE])
{
    static const char *const within[] = {"FashionMNIST/raw", "MNIST/raw",
                                         "cifar-10-batches-bin", "cifar-100-binary"};
    path_join(path, 2 * TEXT_SIZE, s->data, within[s->dataset]);
    return s->data[0] && is_folder(path) ? path : NULL;
}

struct look session_look(struct session *it, const struct settings *s)
{
    return (struct look){
        .ctx = it->ctx,
        .channels = s->channels == 1 ? 1 : 3,
        .height = s->resize.height,
        .width = s->resize.width,
        .fit = (uint32_t)s->fit,
        .rule = (uint32_t)s->resize_rule,
        .room = it->room > 0 ? &it->room : NULL,
    };
}

/* DIR/train, or DIR/test; what stands beside ImageNet's train/ is called val. */
static int split_folder(const char *dir, const char *split, char path[2 * TEXT_SIZE])
{
    path_join(path, 2 * TEXT_SIZE, dir, split);
    if (is_folder(path)) return 0;
    if (strcmp(split, "test") == 0) path_join(path, 2 * TEXT_SIZE, dir, "val");
    if (is_folder(path)) return 0;
    return fail("%s has no folder %s: expected are DIR/train/CLASS/PICTURE and "
                "DIR/test/CLASS/PICTURE",
                dir, strcmp(split, "test") == 0 ? "test, and no val" : split);
}

/* Names of classes that stand in the weights, in --names, in the training split. */
static char *find_classes(const struct session *it)
{
    const char *saved =
        it->metadata ? vgg_metadata_get(it->metadata, "app.classes") : NULL;
    if (saved && *saved) return strdup(saved);
    if (it->names) return strdup(it->names);
    return it->train ? card_classes(it->train) : NULL;
}

static int open_pictures(struct session *it, const struct settings *s,
                         const char *split, vgg_dataset **out)
{
    char path[2 * TEXT_SIZE];
    struct folder_found about = {0, 0};
    const struct look look = session_look(it, s);
    if (s->channels != 0 && s->channels != look.channels)
        return misuse("--channels %llu: pictures are gray (1) or in colour (3)",
                      (unsigned long long)s->channels);
    if (look.height == 0)
        return (it->metadata ? fail : misuse)(
            "pictures have many sizes: say with --resize N[xM] to which one "
            "they are brought");
    int status = split_folder(s->data, split, path);
    if (status != 0) return status;
    char *classes = find_classes(it);
    status = folder_open(&look, path, classes, &about, out);
    free(classes);
    if (status == 0 && about.others > 0 && !s->quiet)
        fprintf(stderr, "vgg: %s: %s file%s no %s, left out\n",
                printable(s->data, path, sizeof path), grouped(about.others),
                about.others == 1 ? " is" : "s are", picture_kinds());
    it->pictures = it->pictures * 31 + about.names;
    return status;
}

int session_names(struct session *it, const struct settings *s)
{
    const char *saved =
        it->metadata ? vgg_metadata_get(it->metadata, "app.classes") : NULL;
    if (!s->names[0]) return 0;
    if (saved && *saved)
        return misuse("--names %s: the weights have names of their own; leave it out",
                      s->names);
    it->names = file_read(s->names, NULL);
    if (!it->names) return STATUS_RUN;
    char *to = it->names;
    for (const char *at = it->names; *at; at++)
        if (*at != '\r') *to++ = *at;
    while (to > it->names && to[-1] == '\n') to--;
    *to = '\0';
    return *it->names ? 0 : fail("--names %s: no names in it", s->names);
}

int session_data(struct session *it, const struct settings *s, const char *split,
                 vgg_dataset **out)
{
    char path[2 * TEXT_SIZE];
    const char *name = dataset_name(s);
    const bool fashion = strcmp(name, "fashion-mnist") == 0;
    const char *folder = session_folder(s);
    if (!folder) return fail("%s: say with --data DIR where its files are", name);
    const char *reason = why_no_folder(folder);
    if (reason)
        return fail(
            "can't read data from %s: %s; %s", folder, reason,
            fashion ? "install the Debian package dataset-fashion-mnist (apt install "
                      "dataset-fashion-mnist), or give --data DIR"
                    : "say with --data DIR where the files are");
    if (has_pictures(s)) return open_pictures(it, s, split, out);
    const vgg_status status = vgg_dataset_open(it->ctx, name, folder, split, out);
    if (status == VGG_OK) return 0;
    const char *why = vgg_last_error();
    if (status == VGG_ENOMEM) return fail_vgg("data");
    if (downloaded(s, path)) return fail("%s; try --data %s", why, shell_word(path));
    const bool hinted = !fashion || strstr(why, "dataset-fashion-mnist");
    return fail("%s%s", why,
                hinted ? "" : " (a sound copy: Debian package dataset-fashion-mnist)");
}

uint32_t session_batch(const struct settings *s, const vgg_dataset *data)
{
    const uint64_t images = vgg_dataset_count(data);
    return (uint32_t)(s->batch > images && images > 0 ? images : s->batch);
}

int session_loader(const struct settings *s, const vgg_transform *transform,
                   vgg_dataset *data, bool train, vgg_loader **out)
{
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.transform = transform;
    opts.seed = s->seed;
    opts.batch = session_batch(s, data);
    opts.train = train;
    const vgg_status result = vgg_loader_create(data, &opts, out);
    if (result == VGG_OK) return 0;
    const bool meant =
        result == VGG_EINVAL || result == VGG_ESHAPE || result == VGG_ELIMIT;
    if (!meant || strcmp(verb_name, "eval") == 0) return fail_vgg("data");
    return misuse("--resize, --crop and --shift do not fit the data: %s",
                  vgg_last_error());
}

int session_model(struct session *it, struct settings *s, const vgg_loader *loader)
{
    vgg_arch arch;
    const int status =
        loader ? settings_arch(s, vgg_loader_shape(loader),
                               vgg_dataset_classes(vgg_loader_dataset(loader)), &arch)
               : settings_arch(s, NULL, 0, &arch);
    if (status != 0) return status;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = s->seed;
    opts.init = (uint32_t)s->init;
    const uint32_t ratio = (uint32_t)s->ratio;
    if (vgg_model_create(it->ctx, &arch, ratio, &opts, &it->model) != VGG_OK)
        return fail_vgg("network");
    return 0;
}

/* The folder of a file, if that is a checkpoint; NULL: it is none. */
static const char *checkpoint_of(const char *file, char dir[4096])
{
    char manifest[4096];
    snprintf(dir, 4096, "%s", file);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = '\0';
    if (!slash) snprintf(dir, 4096, ".");
    return path_join(manifest, sizeof manifest, dir, "manifest.json") &&
                   is_file(manifest)
               ? dir
               : NULL;
}

int session_check(vgg_context *ctx, const char *file)
{
    char dir[4096];
    const char *place = checkpoint_of(file, dir);
    if (!place) return 0;
    if (vgg_checkpoint_check(ctx, place) == VGG_OK) return 0;
    return fail("damaged: %s; a copy of %s alone is taken as it is", vgg_last_error(),
                file);
}

int session_find_weights(const char *path, char file[4096], char folder[TEXT_SIZE])
{
    static const char *const inside[] = {
        "best/weights.safetensors", "last/weights.safetensors", "weights.safetensors"};
    char dir[4096];
    folder[0] = '\0';
    if (is_file(path)) {
        snprintf(file, 4096, "%s", path);
        if (checkpoint_of(file, dir)) snprintf(folder, TEXT_SIZE, "%.1000s/..", dir);
        return 0;
    }
    const char *reason = why_no_folder(path);
    if (reason)
        return fail("can't read %s: %s; give a run directory, a checkpoint or a "
                    "weights file",
                    path, reason);
    for (unsigned i = 0; i < 3; i++) {
        if (!path_join(file, 4096, path, inside[i]) || !is_file(file)) continue;
        snprintf(folder, TEXT_SIZE, "%.1000s%s", path, i == 2 ? "/.." : "");
        return 0;
    }
    return fail("%s: no best/, no last/ and no weights.safetensors in it", path);
}

int session_weights(struct session *it, const char *path, char folder[TEXT_SIZE])
{
    char *file = it->weights;
    int status = session_find_weights(path, file, folder);
    if (status == 0) status = session_check(it->ctx, file);
    if (status != 0) return status;
    if (vgg_model_load(it->ctx, file, &it->metadata, &it->model) == VGG_OK) return 0;
    const char *error = vgg_last_error();
    if (strstr(error, "\"vgg.arch\""))
        return fail("%s, and PyTorch's files never do: name the network as in "
                    "`vgg %s FILE --arch vgg11`, or train on with --init-weights FILE",
                    error, strcmp(verb_name, "predict") == 0 ? "predict" : "eval");
    return fail_vgg(file);
}

int session_named_weights(struct session *it)
{
    if (vgg_weights_load(it->model, it->weights, NULL, &it->metadata) != VGG_OK)
        return fail_vgg(it->weights);
    if (!vgg_metadata_get(it->metadata, "vgg.arch")) return 0;
    return misuse("%s says what its network and images are: leave out the flags that "
                  "say it too",
                  it->weights);
}

void session_close(struct session *it)
{
    vgg_loader_free(it->train_loader);
    vgg_loader_free(it->test_loader);
    free(it->names);
    vgg_dataset_free(it->train);
    vgg_dataset_free(it->test);
    vgg_metadata_free(it->metadata);
    vgg_model_free(it->model);
    vgg_device_free(it->device);
    vgg_context_free(it->ctx);
    memset(it, 0, sizeof *it);
}
