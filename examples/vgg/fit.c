/* SPDX-License-Identifier: Apache-2.0 */
/* What happens after every batch and epoch.
 *
 * Order matters: rows go to the logs before the checkpoint that covers them, best/
 * before last/. A run killed between any two of these resumes from the older last/,
 * drops the later rows and makes them again. */
#include "fit.h"
#include "files.h"

#include <math.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static vgg_trainer *volatile trainer_in_signal;

/* The first signal stops after the present batch, the second at once. The library's
 * threads block every signal, so this never runs beside the main thread. */
static void on_signal(int number)
{
    if (caught) {
        static const char line[] = "\nvgg: stopped at once; nothing more was saved\n";
        const ssize_t ignored = write(STDERR_FILENO, line, sizeof line - 1);
        (void)ignored;
        _exit(128 + number);
    }
    caught = number;
    vgg_trainer_cancel(trainer_in_signal);
}

enum { SIGNALS = 3 };
static const int signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

static void watch_signals(vgg_trainer *trainer, struct sigaction before[SIGNALS])
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    trainer_in_signal = trainer;
    for (unsigned i = 0; i < SIGNALS; i++) {
        sigaction(signals[i], NULL, &before[i]);
        /* A program started by nohup or in the background keeps on ignoring. */
        if (before[i].sa_handler != SIG_IGN) sigaction(signals[i], &action, NULL);
    }
}

/* The trainer is about to go: from here on a signal does what it did before. */
static void unwatch_signals(const struct sigaction before[SIGNALS])
{
    for (unsigned i = 0; i < SIGNALS; i++) sigaction(signals[i], &before[i], NULL);
    trainer_in_signal = NULL;
}

int fit_save(struct training *t, const char *name)
{
    int status = run_flush(&t->run);
    if (status != 0) return status;
    const char *dir = run_path(&t->run, name);
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    const double part = p->batches ? (double)p->batch / (double)p->batches : 0.0;
    char epochs[32];
    snprintf(epochs, sizeof epochs, part > 0.0 ? "%.2f" : "%.0f",
             (double)p->epoch + part);
    if (vgg_metadata_set(t->it.metadata, "app.epochs", epochs) != VGG_OK)
        return fail_vgg("metadata of the weights");
    if (vgg_checkpoint_save(t->trainer, dir, t->it.metadata) != VGG_OK)
        status = fail("can't save: %s%s", vgg_last_error(), run_remedy(&t->run));
    t->saved = now_seconds();
    return status;
}

int fit_draw(struct training *t)
{
    return curves_write(&t->run.curves, run_path(&t->run, "curves.svg"), t->title,
                        t->s->epochs);
}

/* Seconds to the end of the run; negative while nothing is known. */
static double time_left(const struct training *t, const vgg_progress *p)
{
    if (t->all_batches < 2) return -1.0;
    const double batch = t->all_seconds / (double)t->all_batches;
    const uint64_t tests = t->s->epochs - p->epoch;
    double batches = (double)(tests * p->batches - p->batch);
    if (t->s->steps) {
        const double limit = (double)(t->s->steps - p->step) * (double)t->s->grad_accum;
        if (limit < batches) return batch * limit;
    }
    /* Before the first test: it costs about a third of a training on as many images. */
    double test = t->test_seconds;
    if (test == 0.0 && t->all_images > 0)
        test = (double)vgg_dataset_count(t->it.test) * t->all_seconds /
               (double)t->all_images / 3.0;
    return batch * batches + test * (double)tests;
}

static void draw(struct training *t, const vgg_progress *p, double now)
{
    const struct bar_state state = {
        .epoch = p->epoch + 1,
        .epochs = t->s->epochs,
        .batch = p->batch,
        .batches = p->batches,
        .loss = p->loss_sum / (double)p->seen,
        .accuracy = (double)p->correct / (double)p->seen,
        .rate = t->epoch_seconds > 0 ? (double)t->epoch_images / t->epoch_seconds : 0.0,
        .eta = time_left(t, p),
        .evaluating = p->batch == p->batches,
    };
    bar_draw(&t->bar, &state, now, p->batch == p->batches);
}

/* Add the last batch to the sums. */
static void account(struct training *t, const vgg_progress *p, double now)
{
    const uint64_t images = p->batch == 1 ? p->seen : p->seen - t->seen;
    const double seconds = now - t->mark;
    t->seen = p->seen;
    t->row_loss += p->batch_loss;
    t->row_batches++;
    t->row_images += images;
    t->row_seconds += seconds;
    t->epoch_images += images;
    t->epoch_seconds += seconds;
    t->all_images += images;
    t->all_seconds += seconds;
    t->all_batches++;
}

/* A step is complete: its row, its point. */
static int end_step(struct training *t, const vgg_progress *p)
{
    const struct step_row row = {
        .epoch = p->epoch + 1,
        .batch = p->batch,
        .step = p->step,
        .loss = t->row_loss / (double)t->row_batches,
        .lr = p->lr,
        .mean_loss = p->loss_sum / (double)p->seen,
        .accuracy = (double)p->correct / (double)p->seen,
        .images_per_s = (double)t->row_images / t->row_seconds,
        .seconds = t->row_seconds,
    };
    t->step = p->step;
    t->row_loss = t->row_seconds = 0.0;
    t->row_batches = t->row_images = 0;
    curves_step(&t->run.curves, row.epoch, row.batch, row.mean_loss, row.accuracy);
    return run_log_step(&t->run, &row);
}

static int on_batch(void *cookie, const vgg_progress *p)
{
    struct training *t = cookie;
    const double now = now_seconds();
    const bool stepped = p->step != t->step;
    const bool within = p->batch < p->batches; /* the end of an epoch is on_epoch's */
    account(t, p, now);
    if (stepped) t->status = end_step(t, p);
    draw(t, p, now);
    if (t->status == 0 && stepped && within &&
        now - t->saved >= 60.0 * t->s->save_every)
        t->status = fit_save(t, "last");
    if (t->s->steps && p->step >= t->s->steps && within) t->stop = STOP_STEPS;
    t->mark = now_seconds();
    return t->status != 0 || t->stop != STOP_COMPLETE;
}

static int end_epoch(struct training *t, const vgg_progress *p,
                     const struct epoch_row *row)
{
    int status = run_log_epoch(&t->run, row);
    curves_test(&t->run.curves, row->epoch, row->test_accuracy);
    if (status == 0) status = fit_draw(t);
    if (status == 0 && p->best_epoch == p->epoch) status = fit_save(t, "best");
    return status == 0 ? fit_save(t, "last") : status;
}

/* The line of an epoch; on a narrow terminal without what the logs have anyway, and
 * without a speed where a run that was stopped in an evaluation goes on with it. */
static void say_epoch(struct training *t, const struct epoch_row *row)
{
    char figures[160], extra[80], seconds[32] = "";
    const int length =
        snprintf(figures, sizeof figures,
                 "epoch %llu/%llu  loss %.3f  acc %.3f  test loss %.3f  test acc %.3f",
                 (unsigned long long)row->epoch, (unsigned long long)t->s->epochs,
                 row->loss, row->accuracy, row->test_loss, row->test_accuracy);
    int more = snprintf(extra, sizeof extra, "  lr %.4g", row->lr), time = 0;
    if (row->seconds > 0) {
        more += snprintf(extra + more, sizeof extra - (size_t)more, "  %.*f img/s",
                         row->images_per_s < 100 ? 1 : 0, row->images_per_s);
        time = snprintf(seconds, sizeof seconds, "  %.1f s", row->seconds);
    }
    if ((unsigned)(length + more + time) > bar_columns(&t->bar)) extra[0] = '\0';
    bar_line(&t->bar, "%s%s%s", figures, extra, seconds);
}

static int on_epoch(void *cookie, const vgg_progress *p, const vgg_metrics *metrics)
{
    struct training *t = cookie;
    vgg_class_metrics macro = {0};
    vgg_metrics_mean(metrics, VGG_AVERAGE_MACRO, &macro);
    const struct epoch_row row = {
        .epoch = p->epoch,
        .step = p->step,
        .loss = p->loss_sum / (double)p->seen,
        .accuracy = (double)p->correct / (double)p->seen,
        .test_loss = p->test_loss,
        .test_accuracy = p->test_accuracy,
        .macro_f1 = macro.f1,
        .lr = p->lr,
        .images_per_s =
            t->epoch_seconds > 0 ? (double)t->epoch_images / t->epoch_seconds : 0.0,
        .seconds = t->epoch_seconds,
    };
    t->test_seconds = now_seconds() - t->mark;
    t->epoch_seconds = 0.0;
    t->epoch_images = 0;
    say_epoch(t, &row);
    t->status = end_epoch(t, p, &row);
    if (t->s->steps && p->step >= t->s->steps && p->epoch < t->s->epochs)
        t->stop = STOP_STEPS;
    t->mark = now_seconds();
    return t->status != 0 || t->stop != STOP_COMPLETE;
}

/* A loss that is no number: what happened where, and what usually helps. */
static int diverged(const struct training *t)
{
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    const bool saved = is_folder(run_path(&t->run, "last"));
    return fail("step %llu: %s; %s: start a new run with a lower --lr than %g, "
                "--warmup-epochs 1 or --clip-norm 1",
                (unsigned long long)p->step + 1, vgg_last_error(),
                saved ? "the checkpoints are as they were" : "there is no checkpoint",
                t->s->lr);
}

/* A run stopped between two epochs' ends: save where it stands. */
static int end_early(struct training *t)
{
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    int status = 0;
    if (p->batch > 0 || p->epoch == 0) {
        status = fit_save(t, "last");
        if (status == 0) status = fit_draw(t);
    }
    if (status != 0) return status;
    bar_line(&t->bar,
             "stopped in epoch %llu after batch %llu (step %llu); go on with: "
             "vgg train --resume %s",
             (unsigned long long)p->epoch + 1, (unsigned long long)p->batch,
             (unsigned long long)p->step, shell_word(t->run.dir));
    return 0;
}

static int run_fit(struct training *t)
{
    const vgg_callbacks callbacks = {t, on_batch, on_epoch};
    const vgg_status result =
        vgg_trainer_fit(t->trainer, t->it.train_loader, t->it.test_loader, &callbacks);
    bar_clear(&t->bar);
    if (t->status != 0) return t->status;
    if (result == VGG_ECANCELED && caught) {
        t->stop = STOP_SIGNAL;
        t->signal = caught;
    }
    if (result == VGG_ENONFINITE) return diverged(t);
    if (result == VGG_EIO && has_pictures(t->s))
        return fail("%s; put a sound picture of this name there and go on with: vgg "
                    "train --resume %s",
                    vgg_last_error(), shell_word(t->run.dir));
    if (result != VGG_OK && result != VGG_ECANCELED) return fail_vgg("training");
    return t->stop == STOP_COMPLETE ? 0 : end_early(t);
}

int fit(struct training *t)
{
    struct sigaction before[SIGNALS];
    const vgg_progress *p = vgg_trainer_progress(t->trainer);
    t->step = p->step;
    t->seen = p->seen;
    t->saved = t->mark = now_seconds();
    /* A run that was stopped in an evaluation begins with it. */
    if (p->batch > 0 && p->batch == p->batches) draw(t, p, t->mark);
    watch_signals(t->trainer, before);
    const int status = run_fit(t);
    unwatch_signals(before);
    return status;
}
