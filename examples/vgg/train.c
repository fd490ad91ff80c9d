/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg train`: open or resume a run, fit, say how it went. */
#include "args.h"
#include "files.h"
#include "fit.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

/* Both splits must show images of one size, whatever the files hold. */
static int check_splits(const struct session *it)
{
    char train[64], test[64];
    vgg_shape_text(vgg_loader_shape(it->train_loader), train, sizeof train);
    vgg_shape_text(vgg_loader_shape(it->test_loader), test, sizeof test);
    if (strcmp(train, test) == 0) return 0;
    return fail("the training images are %s and the test images %s: both must have one "
                "size, or give --resize",
                train, test);
}

/* Data, loaders and the network. */
static int open_parts(struct training *t, struct settings *s)
{
    vgg_transform transform;
    struct session *it = &t->it;
    int status = session_open(it, s);
    if (status == 0) status = settings_transform(s, &transform);
    if (status == 0) status = session_data(it, s, "train", &it->train);
    if (status == 0) status = session_data(it, s, "test", &it->test);
    if (status == 0)
        status = session_loader(s, &transform, it->train, true, &it->train_loader);
    if (status == 0)
        status = session_loader(s, &transform, it->test, false, &it->test_loader);
    if (status == 0) status = check_splits(it);
    if (status == 0) status = session_model(it, s, it->train_loader);
    if (status == 0) status = card_write(it, s, &transform, it->train);
    return status;
}

static int open_trainer(struct training *t, const struct settings *s)
{
    vgg_optimizer optimizer;
    vgg_schedule schedule;
    int status = settings_optimizer(s, &optimizer);
    if (status == 0) status = settings_schedule(s, &schedule);
    if (status != 0) return status;
    const uint64_t batches = vgg_loader_batches(t->it.train_loader);
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizer;
    opts.schedule = &schedule;
    opts.lr = s->lr;
    opts.clip_norm = s->clip_norm;
    opts.seed = s->seed;
    opts.steps_per_epoch = (batches + s->grad_accum - 1) / s->grad_accum;
    opts.epochs = (uint32_t)s->epochs;
    opts.batch = session_batch(s, t->it.train);
    opts.accumulate = (uint32_t)s->grad_accum;
    opts.label_smoothing = (float)s->label_smoothing;
    opts.precision = session_precision(s);
    opts.deterministic = (uint32_t)s->deterministic;
    t->run.curves.batches = batches;
    if (vgg_trainer_create(t->it.model, t->it.device, &opts, &t->trainer) != VGG_OK)
        return fail_vgg("training");
    return 0;
}

static int load_initial(struct training *t, const struct settings *s)
{
    char file[4096], folder[TEXT_SIZE];
    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    opts.allow_reshaped = (uint32_t)s->new_head;
    if (!s->init_weights[0]) return 0;
    int status = session_find_weights(s->init_weights, file, folder);
    if (status == 0) status = session_check(t->it.ctx, file);
    if (status != 0) return status;
    const vgg_status result = vgg_weights_load(t->it.model, file, &opts, NULL);
    if (result == VGG_OK) return 0;
    const char *why = vgg_last_error();
    if (result == VGG_EMISMATCH && !s->new_head && strstr(why, "classifier.") &&
        strstr(why, "model needs"))
        return fail("--init-weights: %s (--new-head begins such layers anew)", why);
    return fail_vgg("--init-weights");
}

/* What a run is called where it has no name of its own. */
static const char *run_name(const struct settings *s)
{
    return s->preset[0] ? s->preset : s->blocks[0] ? "own" : s->arch;
}

/* What the data is called: pictures by their folder. */
static const char *data_title(const struct settings *s)
{
    const char *slash = strrchr(s->data, '/');
    if (!has_pictures(s)) return dataset_name(s);
    return slash && slash[1] ? slash + 1 : s->data;
}

/* Paths must mean the same when a run is resumed from another folder. */
static void fix_path(char path[TEXT_SIZE])
{
    char *full = path[0] ? realpath(path, NULL) : NULL;
    if (full && strlen(full) < TEXT_SIZE) memcpy(path, full, strlen(full) + 1);
    free(full);
}

static int start_run(struct training *t, struct settings *s)
{
    int status = open_parts(t, s);
    if (status == 0) status = load_initial(t, s);
    if (status == 0) status = open_trainer(t, s);
    if (status == 0) status = run_create(&t->run, s->out, run_name(s));
    if (status == 0) status = args_save(s, run_path(&t->run, "args.json"));
    return status == 0 ? run_logs(&t->run, 0, 0) : status;
}

/* May the run have the number of epochs that the user gave? `path` is its args.json,
 * `epochs` what it is to have. */
static int check_epochs(const struct settings *s, const char *path)
{
    if (SOURCE(s, epochs) != FROM_USER) return 0;
    char *text = file_read(path, NULL);
    if (!text) return STATUS_RUN;
    const double before = json_find_number(text, "epochs", (double)s->epochs);
    free(text);
    if (before == (double)s->epochs || s->sched != VGG_SCHEDULE_COSINE) return 0;
    return misuse("--epochs %llu: the cosine of the run being resumed spans its %.0f "
                  "epochs, and that can't change; a new run with --init-weights begins "
                  "with its weights",
                  (unsigned long long)s->epochs, before);
}

/* The highest epoch in the log, that it began or ended; 0 if there is no log. */
static double logged_epoch(const struct run *run)
{
    double most = 0.0;
    char *text = is_file(run_path(run, "log.jsonl"))
                     ? file_read(run_path(run, "log.jsonl"), NULL)
                     : NULL;
    for (const char *line = text; line && *line;) {
        const double epoch = json_find_number(line, "epoch", 0.0);
        if (epoch > most) most = epoch;
        line = strchr(line, '\n');
        if (line) line++;
    }
    free(text);
    return most;
}

/* Is there enough of a run to go on with? best/ is saved before last/, so that a run
 * killed between the two at its first epoch's end has best/ alone, and begins again. */
static int check_saved(const struct run *run, bool saved)
{
    if (saved || !is_folder(run_path(run, "best")) || logged_epoch(run) == 1.0)
        return 0;
    return fail("%s has best/ but not last/, which a resumed run begins with: put it "
                "back, or start a new run with --init-weights %s",
                run->dir, shell_word(run_path(run, "best")));
}

static int cant_load(const struct run *run, const char *last, vgg_status status)
{
    const bool best = is_folder(run_path(run, "best"));
    return fail("can't resume from %s: %s%s%s%s", last, vgg_last_error(),
                status == VGG_EMISMATCH
                    ? "; put back what was changed in args.json or in the data"
                    : "",
                best ? "; a new run can begin with --init-weights " : "",
                best ? shell_word(run_path(run, "best")) : "");
}

/* Was the run begun with other pictures? */
static bool has_other_pictures(const struct training *t, const char *last)
{
    char file[4096];
    vgg_metadata *saved = NULL;
    vgg_model *model = NULL;
    if (!path_join(file, sizeof file, last, "weights.safetensors") ||
        vgg_model_load(t->it.ctx, file, &saved, &model) != VGG_OK)
        return false; /* for another reason, which loading it will tell */
    const bool same = card_agrees(t->it.metadata, saved, "app.pictures");
    vgg_metadata_free(saved);
    vgg_model_free(model);
    return !same;
}

/* The checkpoint into the trainer. */
static int load_last(struct training *t, const struct settings *s, const char *last)
{
    vgg_metadata *saved = NULL;
    if (has_pictures(s) && has_other_pictures(t, last))
        return fail("%s has other pictures than %s was trained with: put back those "
                    "that there were, or start a new run with --init-weights %s",
                    s->data, t->run.dir, shell_word(last));
    const vgg_status status = vgg_checkpoint_load(t->trainer, last, &saved);
    if (status != VGG_OK) return cant_load(&t->run, last, status);
    const bool same = card_agrees(t->it.metadata, saved, "app.settings");
    vgg_metadata_free(saved);
    if (!same)
        return fail("%s has other settings than %s was trained with: put back what was "
                    "changed in it, or start a new run",
                    run_path(&t->run, "args.json"), last);
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    const uint64_t begun = p->epoch + (p->batch > 0);
    if (SOURCE(s, epochs) != FROM_USER || s->epochs >= begun) return 0;
    return misuse("--epochs %llu: the run being resumed is in its epoch %llu already",
                  (unsigned long long)s->epochs, (unsigned long long)begun);
}

static int resume_run(struct training *t, struct settings *s)
{
    if (s->resume[0] && s->out[0] && strcmp(s->resume, s->out) != 0)
        return misuse("--resume %s and --out %s are two run directories; give one",
                      s->resume, s->out);
    int status = run_find(&t->run, s->resume[0] ? s->resume : s->out);
    if (status == 0) status = args_load(s, run_path(&t->run, "args.json"), true);
    if (status == 0) status = check_epochs(s, run_path(&t->run, "args.json"));
    if (status == 0) status = settings_check(s);
    if (status == 0) status = open_parts(t, s);
    /* A run killed before its first checkpoint begins again from its first batch. */
    const char *last = run_path(&t->run, "last");
    const bool saved = is_folder(last);
    if (status == 0) status = check_saved(&t->run, saved);
    if (status == 0 && !saved) status = load_initial(t, s);
    if (status == 0) status = open_trainer(t, s);
    if (status == 0 && saved) status = load_last(t, s, last);
    if (status != 0) return status;
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    status = run_logs(&t->run, p->epoch, p->batch);
    return status == 0 ? args_save(s, run_path(&t->run, "args.json")) : status;
}

/* Why it is not a better device, and the device's line; that in its parts where it is
 * longer than the terminal is wide. */
static void say_device(struct training *t)
{
    for (const char *line = t->it.passed; *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        bar_line(&t->bar, "%.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
    const char *text = vgg_device_text(t->it.device);
    while (strlen(text) >= bar_columns(&t->bar)) {
        const char *end = strstr(text, "; ");
        if (end == NULL) break;
        bar_line(&t->bar, "%.*s", (int)(end - text), text);
        text = end + 2;
    }
    bar_line(&t->bar, "%s", text);
}

static void say_start(struct training *t, const struct settings *s)
{
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    bar_line(&t->bar, "%s: %s parameters, seed %llu%s%s%s", t->title,
             grouped(vgg_model_parameters(t->it.model)), (unsigned long long)s->seed,
             s->precision != 0 ? ", " : "",
             s->precision != 0 ? flag_find("precision")->choices[s->precision] : "",
             s->deterministic ? ", deterministic" : "");
    bar_line(&t->bar, "%s training and %s test images",
             grouped(vgg_dataset_count(t->it.train)),
             grouped(vgg_dataset_count(t->it.test)));
    say_device(t);
    bar_line(&t->bar, "run directory %s", t->run.dir);
    if (p->step > 0)
        bar_line(&t->bar, "going on in epoch %llu after batch %llu (step %llu)",
                 (unsigned long long)p->epoch + 1, (unsigned long long)p->batch,
                 (unsigned long long)p->step);
}

/* The figures of the end: the last epoch's, or what there is of a first one. */
static struct epoch_row final_row(const struct training *t)
{
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    struct epoch_row row = t->run.last_epoch;
    row.step = p->step;
    row.images_per_s =
        t->all_seconds > 0 ? (double)t->all_images / t->all_seconds : row.images_per_s;
    row.seconds = t->all_seconds;
    if (row.epoch > 0 || p->seen == 0) return row;
    row.loss = p->loss_sum / (double)p->seen;
    row.accuracy = (double)p->correct / (double)p->seen;
    row.test_loss = p->test_loss;
    row.test_accuracy = p->test_accuracy;
    return row;
}

/* Which part of an epoch the figures stand for where it is not the last whole one. */
static void say_part(const vgg_progress *p, const struct epoch_row *row, FILE *out)
{
    if (p->batch == 0) return;
    if (row->epoch > 0)
        fprintf(out, " (of epoch %llu, the last complete one)",
                (unsigned long long)row->epoch);
    else
        fprintf(out, " (of %llu of the %llu batches of epoch 1)",
                (unsigned long long)p->batch, (unsigned long long)p->batches);
}

/* The result in the form of the chapter. */
static void say_result(const struct training *t, FILE *out)
{
    char place[128];
    const struct epoch_row row = final_row(t);
    fprintf(out, "loss %.3f, train acc %.3f", row.loss, row.accuracy);
    if (row.epoch > 0) fprintf(out, ", test acc %.3f", row.test_accuracy);
    say_part(vgg_trainer_progress(t->trainer), &row, out);
    session_place(&t->it, t->s, place, sizeof place);
    fprintf(out, "\n%.1f examples/sec on %s\n", row.images_per_s, place);
    if (row.epoch > 0)
        fprintf(out, "evaluate it: vgg eval %s\n", shell_word(t->run.dir));
}

static void print_summary(const struct training *t, const struct settings *s)
{
    static const char *const stops[] = {"complete", "steps", "signal"};
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    const struct epoch_row row = final_row(t);
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_text(&j, "version", vgg_version());
    json_text(&j, "name", run_name(s));
    json_text(&j, "out", t->run.dir);
    json_text(&j, "stopped", stops[t->stop]);
    json_count(&j, "epochs", p->epoch);
    json_count(&j, "batch", p->batch);
    json_count(&j, "step", p->step);
    json_real(&j, "loss", row.loss);
    json_real(&j, "train_accuracy", row.accuracy);
    json_real(&j, "test_loss", p->test_loss);
    json_real(&j, "test_accuracy", p->test_accuracy);
    json_real(&j, "best_accuracy", p->best_accuracy);
    json_count(&j, "best_epoch", p->best_epoch);
    json_count(&j, "parameters", vgg_model_parameters(t->it.model));
    json_real(&j, "images_per_s", row.images_per_s);
    json_real(&j, "seconds", row.seconds);
    json_count(&j, "peak_rss_bytes", peak_rss_bytes());
    json_text(&j, "device", vgg_device_name(t->it.device));
    json_text(&j, "precision", flag_find("precision")->choices[s->precision]);
    json_count(&j, "threads", vgg_context_threads(t->it.ctx));
    json_end(&j);
}

static void say_end(struct training *t, const struct settings *s)
{
    if (s->format == FORMAT_JSON)
        print_summary(t, s);
    else
        say_result(t, stdout);
    if (s->format == FORMAT_JSON && !s->quiet && t->all_batches > 0)
        say_result(t, stderr);
}

/* Is there nothing left to do? */
static bool finished(struct training *t, const struct settings *s)
{
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    const bool complete = p->epoch >= s->epochs;
    if (complete)
        bar_line(&t->bar, "%s is complete: %llu epoch%s%s", t->run.dir,
                 (unsigned long long)s->epochs, s->epochs == 1 ? "" : "s",
                 s->sched == VGG_SCHEDULE_COSINE ? ""
                                                 : "; --epochs N with more goes on");
    else if (s->steps && p->step >= s->steps)
        bar_line(&t->bar, "%s is at step %llu already", t->run.dir,
                 (unsigned long long)p->step);
    else
        return false;
    t->stop = complete ? STOP_COMPLETE : STOP_STEPS;
    return true;
}

int train_main(struct settings *s)
{
    struct training *t = calloc(1, sizeof *t);
    if (!t) return fail("out of memory");
    t->s = s;
    t->it.bar = &t->bar;
    bar_init(&t->bar, s->quiet != 0, s->no_progress != 0);
    fix_path(s->data);
    fix_path(s->init_weights);
    const bool resumed = SOURCE(s, resume) == FROM_USER;
    int status = resumed ? resume_run(t, s) : start_run(t, s);
    if (status == 0) {
        snprintf(t->title, sizeof t->title, "VGG %.60s on %.60s", run_name(s),
                 data_title(s));
        if (!finished(t, s)) {
            say_start(t, s);
            status = fit(t);
        }
    }
    if (status == 0) {
        say_end(t, s);
        if (t->stop == STOP_SIGNAL) status = 128 + t->signal;
    }
    vgg_trainer_free(t->trainer);
    run_close(&t->run);
    session_close(&t->it);
    free(t);
    return status;
}
