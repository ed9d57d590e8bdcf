/* A team of threads that compute a step together, without waiting for one another in turn.
 *
 * The work of a phase is cut into pieces, and whoever is free takes the next one. A phase is over
 * when all of its pieces are done, not when all threads have come: a thread that the machine has
 * taken off its core between two pieces holds nobody up. Such a thread may still be on its way
 * through an old step when the next one has begun, so what it takes is marked with its step.
 */
#ifndef TEAM_H
#define TEAM_H
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
    atomic_ullong next, done; /* step << 32 | pieces */
} phase;

typedef struct member member;

/* the first field of what a team works on */
typedef struct {
    void (*run)(const member *); /* all phases of a step */
    int phases, threads, stop;
    phase *phase;
    pthread_t *thread;
    atomic_uint step; /* also what sleepers wait on */
    atomic_int sleeping;
} team;

struct member {
    team *team;
    int thread;
    uint32_t step;
};

/* Steps follow each other within microseconds; waking a sleeper takes longer than that. */
enum { SPINS_OF_A_PHASE = 4000, SPINS_BEFORE_SLEEP = 60000 };

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* the next piece, or -1 */
static inline int claim(const member *me, int at, int pieces) {
    atomic_ullong *next = &me->team->phase[at].next;
    unsigned long long seen = atomic_load_explicit(next, memory_order_relaxed);
    while ((uint32_t)(seen >> 32) == me->step && (int)(uint32_t)seen < pieces)
        if (atomic_compare_exchange_weak_explicit(next, &seen, seen + 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return (int)(uint32_t)seen;
    return -1;
}

static inline void complete(const member *me, int at) {
    atomic_fetch_add_explicit(&me->team->phase[at].done, 1, memory_order_release);
}

/* waits for the others' pieces; false if the step is long over */
static inline int settle(const member *me, int at, int pieces) {
    atomic_ullong *done = &me->team->phase[at].done;
    for (int spins = 0;; spins++) {
        unsigned long long seen = atomic_load_explicit(done, memory_order_acquire);
        if ((uint32_t)(seen >> 32) != me->step) return 0;
        if ((int)(uint32_t)seen >= pieces) return 1;
        if (spins < SPINS_OF_A_PHASE) relax();
        else sched_yield(); /* somebody else has the core that the last one needs */
    }
}

static inline long futex(atomic_uint *at, int operation, uint32_t value) {
    return syscall(SYS_futex, at, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void *work(void *argument) {
    member me = *(member *)argument;
    free(argument);
    team *t = me.team;
    for (;;) {
        for (int spins = 0; atomic_load(&t->step) == me.step; spins++) {
            if (spins < SPINS_BEFORE_SLEEP) { relax(); continue; }
            atomic_fetch_add(&t->sleeping, 1);
            futex(&t->step, FUTEX_WAIT, me.step);
            atomic_fetch_sub(&t->sleeping, 1);
        }
        me.step = atomic_load(&t->step);
        if (t->stop) return NULL;
        t->run(&me);
    }
}

/* zeros, where a line of the cache begins, and a line more than asked for */
static inline void *room(size_t bytes) {
    void *made = NULL;
    if (posix_memalign(&made, 64, bytes + 64)) return NULL;
    memset(made, 0, bytes + 64);
    return made;
}

/* starts all but the thread that calls */
static void gather(team *t, int threads, int phases, void (*run)(const member *)) {
    t->run = run;
    t->threads = threads;
    t->phases = phases;
    t->phase = room(sizeof(phase) * phases);
    t->thread = room(sizeof(pthread_t) * threads);
    for (int i = 1; i < threads; i++) {
        member *made = malloc(sizeof *made);
        *made = (member){.team = t, .thread = i};
        pthread_create(&t->thread[i], NULL, work, made);
    }
}

/* From now on members of the old step can take nothing any more; returns the new one. */
static uint32_t prepare(team *t) {
    uint32_t step = atomic_load(&t->step) + 1;
    for (int i = 0; i < t->phases; i++) {
        atomic_store(&t->phase[i].next, (unsigned long long)step << 32);
        atomic_store(&t->phase[i].done, (unsigned long long)step << 32);
    }
    return step;
}

/* runs a step that is prepared, and all that it reads */
static void perform(team *t, uint32_t step) {
    atomic_store(&t->step, step);
    if (atomic_load(&t->sleeping)) futex(&t->step, FUTEX_WAKE, t->threads);
    t->run(&(member){.team = t, .step = step});
}

static void dismiss(team *t) {
    t->stop = 1;
    atomic_fetch_add(&t->step, 1);
    futex(&t->step, FUTEX_WAKE, t->threads);
    for (int i = 1; i < t->threads; i++) pthread_join(t->thread[i], NULL);
    free(t->phase), free(t->thread);
}

#endif
