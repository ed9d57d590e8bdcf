/* Encoders of the BERT kind on CPUs: one call computes the tokens' vectors.
 *
 * Texts follow each other without padding: a row is one token of one text. Linear layers see all rows
 * as one matrix, attention sees each text by itself. Every row is computed by the same instructions
 * in the same order whatever other rows there are, so that a text's vectors do not depend, in any
 * bit, on which other texts are computed with it.
 *
 * Factors of products are bf16; sums, norms, softmax and what passes from layer to layer are float32.
 * Weights lie as matrix.h says.
 */
#define _GNU_SOURCE
#include <math.h>
#include "matrix.h"

/* Rows of a piece of a norm: enough that taking a piece costs nothing beside it. */
enum { ROWS_OF_NORM = 16 };

/* ---------------------------------------------------------------- what Python hands over */

typedef struct {
    const float *weight, *bias;
} norm;

typedef struct {
    matrix qkv, out, up, down;
    norm attended, finished;
} layer;

typedef enum { GELU, GELU_BY_TANH, RELU } activation;

typedef struct {
    int32_t layers, hidden, heads, head, intermediate, activation;
    float epsilon, scale;
    const layer *layer;
    const float *words, *positions; /* rows of `hidden` */
    const float *kind;              /* what every row gets: that of the first segment; or NULL */
    norm embedded;
    const float *nearness; /* [heads][2 * reach + 1 + 16]: added to scores, by key - query + reach;
                              or NULL */
    int64_t reach;
} model;

typedef struct {
    int32_t rows, texts;
    const int32_t *token, *position; /* of each row */
    const int32_t *begin;            /* the first row of each text, and the end */
    float *vectors;                  /* [rows][hidden]: the answer */
} batch;

/* ---------------------------------------------------------------- small arithmetic */

/* Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7 for x >= 0 */
INLINE v16 error_function(v16 x) {
    v16 t = 1.0f / fused(x, spread(0.3275911f), spread(1.0f));
    v16 p = spread(1.061405429f);
    p = fused(p, t, spread(-1.453152027f));
    p = fused(p, t, spread(1.421413741f));
    p = fused(p, t, spread(-0.284496736f));
    p = fused(p, t, spread(0.254829592f));
    return fused(-(p * t), exponential(-(x * x)), spread(1.0f));
}

INLINE v16 activated(activation kind, v16 x) {
    if (kind == RELU) return larger(x, zeros());
    if (kind == GELU_BY_TANH) { /* (1 + tanh u) / 2 = 1 / (1 + exp -2u) */
        v16 inner = fused(x * x, spread(0.044715f), spread(1.0f));
        return x / (exponential(x * inner * -1.5957691216f) + 1.0f);
    }
    v16 half = x * 0.5f, part = error_function(larger(x, -x) * 0.70710678f);
    return larger(half, -half) * part + half; /* the error function is odd, as x is */
}

/* ---------------------------------------------------------------- what a step works on */
#include "team.h"

typedef struct {
    team team;
    const model *model;
    const batch *batch;
    int rows, texts;
    float *x;                     /* [rows][hidden]: the batch's vectors */
    bf16 *narrow, *qkv, *inner;   /* [rows][hidden], [rows][3 * hidden], [rows][intermediate] */
    float **scores;               /* of each thread, as the three that follow */
    bf16 **weights, **keys, **values;
} encoder;

INLINE encoder *of(const member *me) { return (encoder *)me->team; }

/* ---------------------------------------------------------------- products of matrices */

typedef enum { NARROW, ACTIVATE, ADD } effect;

typedef struct {
    effect effect;
    activation activation;
    bf16 *narrow; /* NARROW, ACTIVATE */
    float *wide;  /* ADD */
    long stride;
} epilogue;

INLINE void finish_lanes(const epilogue *e, long at, v16 sum) {
    if (e->effect == ADD) store(e->wide + at, sum + load(e->wide + at));
    else store_narrowed(e->narrow + at, e->effect == ACTIVATE ? activated(e->activation, sum) : sum);
}

INLINE void finish(const epilogue *e, int row, int panel, v16 first, v16 second) {
    long at = row * e->stride + panel * PANEL;
    finish_lanes(e, at, first);
    finish_lanes(e, at + LANES, second);
}

/* encoders have no weights of integers */
INLINE bf16 *unpacked_of(const member *me) {
    (void)me;
    return NULL;
}

#include "products.h"

/* ---------------------------------------------------------------- attention */
#include "attention.h"

/* panels of 16 tokens, pairs of dimensions together; what is behind the last token is zero */
static void lay_keys(const bf16 *from, long stride, int tokens, int head, bf16 *to) {
    int padded = ceiling(tokens, LANES) * LANES;
    for (int t = 0; t < padded; t++) {
        uint32_t *panel = (uint32_t *)(to + (long)(t / LANES) * LANES * head) + t % LANES;
        const uint32_t *source = (const uint32_t *)(from + t * stride);
        for (int p = 0; p < head / 2; p++) panel[p * LANES] = t < tokens ? source[p] : 0;
    }
}

/* pairs of tokens together; the partner of a last odd one is zero */
static void lay_values(const bf16 *from, long stride, int tokens, int head, bf16 *to) {
    for (int t = 0; t < tokens; t += 2)
        for (int d = 0; d < head; d += LANES) {
            const bf16 *first = from + t * stride + d;
            words16 low = __builtin_convertvector(*(const loose_narrow16 *)first, words16), high = {0};
            if (t + 1 < tokens)
                high = __builtin_convertvector(*(const loose_narrow16 *)(first + stride), words16);
            *(loose_words16 *)(to + (long)t * head + 2 * d) = low | (high << 16);
        }
}

/* 32 dimensions of the values, mixed by weights and multiplied by each row's factor */
#define MIX(R)                                                                                   \
    static void mix_##R(const bf16 *values, int head, const bf16 *weights, long stride,          \
                        int pairs, const float *factors, bf16 *to, long to_stride) {             \
        v16 sum[R][2];                                                                           \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            sum[r][0] = sum[r][1] = zeros();                                                     \
        for (int p = 0; p < pairs; p++, values += 2 * head) {                                    \
            twin first = load_twin(values), second = load_twin(values + PANEL);                  \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                               \
                twin x = spread_twin(weights + r * stride + 2 * p);                              \
                sum[r][0] = dot(sum[r][0], first, x);                                            \
                sum[r][1] = dot(sum[r][1], second, x);                                           \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                                   \
            store_narrowed(to + r * to_stride, sum[r][0] * factors[r]);                          \
            store_narrowed(to + r * to_stride + LANES, sum[r][1] * factors[r]);                  \
        }                                                                                        \
    }
MIX(1) MIX(2) MIX(3) MIX(4) MIX(5) MIX(6) MIX(7) MIX(8) MIX(9) MIX(10) MIX(11) MIX(12)
typedef void mixing(const bf16 *, int, const bf16 *, long, int, const float *, bf16 *, long);
static mixing *const MIXINGS[] = {0, mix_1, mix_2, mix_3, mix_4, mix_5, mix_6,
                                  mix_7, mix_8, mix_9, mix_10, mix_11, mix_12};

/* scores become scaled sums with what nearness adds to them */
static void add_nearness(float *scores, int padded, float scale, const float *nearness) {
    v16 factor = spread(scale);
    for (int i = 0; i < padded; i += LANES)
        store(scores + i, fused(load(scores + i), factor, load(nearness + i)));
}

/* one head of one text */
static void attend(encoder *t, int thread, int begin, int end, int head) {
    const model *m = t->model;
    int tokens = end - begin, padded = ceiling(tokens, LANES) * LANES;
    long stride = 3L * m->hidden;
    const bf16 *queries = t->qkv + begin * stride + (long)head * m->head;
    bf16 *keys = t->keys[thread], *values = t->values[thread], *weights = t->weights[thread];
    float *scores = t->scores[thread], factors[MOST_ROWS];
    const float *near = !m->nearness ? NULL
                        : m->nearness + head * (2 * m->reach + 1 + LANES) + m->reach;
    lay_keys(queries + m->hidden, stride, tokens, m->head, keys);
    lay_values(queries + 2L * m->hidden, stride, tokens, m->head, values);
    for (int row = 0, count; row < tokens; row += count) {
        count = spread_rows(tokens - row, MOST_ROWS);
        SCORINGS[count](queries + row * stride, stride, keys, 0, m->head, padded / LANES, scores,
                        padded);
        for (int r = 0; r < count; r++) {
            if (near) add_nearness(scores + (long)r * padded, padded, m->scale, near - row - r);
            factors[r] = 1.0f / softmax(scores + (long)r * padded, weights + (long)r * padded,
                                        tokens, padded, near ? 1.0f : m->scale);
        }
        bf16 *to = t->narrow + (long)(begin + row) * m->hidden + (long)head * m->head;
        for (int column = 0; column < m->head; column += PANEL)
            MIXINGS[count](values + 2 * column, m->head, weights, padded, ceiling(tokens, 2),
                           factors, to + column, m->hidden);
    }
}

static int attend_all(const member *me, int at) {
    encoder *t = of(me);
    int heads = t->model->heads, pieces = t->texts * heads;
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        const int32_t *begin = t->batch->begin + piece / heads;
        attend(t, me->thread, begin[0], begin[1], piece % heads);
    }
    return settle(me, at, pieces);
}

/* ---------------------------------------------------------------- what is done row by row */

static void normalize(float *x, const norm *by, int n, float epsilon, bf16 *narrow) {
    v16 sum = zeros(), squares = zeros();
    for (int i = 0; i < n; i += LANES) sum += load(x + i);
    v16 mean = spread(total(sum) / n);
    for (int i = 0; i < n; i += LANES) {
        v16 v = load(x + i) - mean;
        squares = fused(v, v, squares);
    }
    v16 factor = spread(1.0f / sqrtf(total(squares) / n + epsilon));
    for (int i = 0; i < n; i += LANES) {
        v16 v = fused((load(x + i) - mean) * factor, load(by->weight + i), load(by->bias + i));
        store(x + i, v);
        store_narrowed(narrow + i, v);
    }
}

static void embed(const model *m, const batch *b, int row, float *to) {
    const float *word = m->words + (long)b->token[row] * m->hidden;
    const float *position = m->positions + (long)b->position[row] * m->hidden;
    for (int i = 0; i < m->hidden; i += LANES) {
        v16 x = load(word + i) + load(position + i);
        store(to + i, m->kind ? x + load(m->kind + i) : x);
    }
}

/* Sums of the products before are in x; or, `embeds`, nothing yet. */
static int normalize_all(const member *me, int at, const norm *by, int embeds) {
    encoder *t = of(me);
    const model *m = t->model;
    int pieces = ceiling(t->rows, ROWS_OF_NORM);
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        int row = piece * ROWS_OF_NORM, left = t->rows - row;
        int end = row + (left < ROWS_OF_NORM ? left : ROWS_OF_NORM);
        for (; row < end; row++) {
            float *x = t->x + (long)row * m->hidden;
            if (embeds) embed(m, t->batch, row, x);
            normalize(x, by, m->hidden, m->epsilon, t->narrow + (long)row * m->hidden);
        }
    }
    return settle(me, at, pieces);
}

/* ---------------------------------------------------------------- a step */

enum { PHASES_OF_A_LAYER = 7 };

static int compute_layer(const member *me, int at, const layer *l) {
    encoder *t = of(me);
    epilogue qkv = {NARROW, .narrow = t->qkv, .stride = l->qkv.n};
    epilogue out = {ADD, .wide = t->x, .stride = l->out.n};
    epilogue up = {ACTIVATE, t->model->activation, t->inner, .stride = l->up.n};
    epilogue down = {ADD, .wide = t->x, .stride = l->down.n};
    return multiply(me, at, &l->qkv, t->narrow, t->rows, &qkv)
        && attend_all(me, at + 1)
        && multiply(me, at + 2, &l->out, t->narrow, t->rows, &out)
        && normalize_all(me, at + 3, &l->attended, 0)
        && multiply(me, at + 4, &l->up, t->narrow, t->rows, &up)
        && multiply(me, at + 5, &l->down, t->inner, t->rows, &down)
        && normalize_all(me, at + 6, &l->finished, 0);
}

/* A member that comes late finds everything done, and leaves as soon as the next step has begun;
 * it touches nothing of a batch without a piece, because only with one is the batch still there. */
static void run(const member *me) {
    const model *m = of(me)->model;
    if (!normalize_all(me, 0, &m->embedded, 1)) return;
    for (int i = 0; i < m->layers; i++)
        if (!compute_layer(me, 1 + i * PHASES_OF_A_LAYER, &m->layer[i])) return;
}

/* ---------------------------------------------------------------- the interface */

encoder *encoder_start(const model *m, int threads, int most_rows, int longest) {
    encoder *t = room(sizeof *t);
    long padded = ceiling(longest, LANES) * LANES;
    t->model = m;
    t->narrow = room(sizeof(bf16) * most_rows * m->hidden);
    t->qkv = room(sizeof(bf16) * most_rows * 3 * m->hidden);
    t->inner = room(sizeof(bf16) * most_rows * m->intermediate);
    t->scores = room(sizeof(float *) * threads);
    t->weights = room(sizeof(bf16 *) * threads);
    t->keys = room(sizeof(bf16 *) * threads);
    t->values = room(sizeof(bf16 *) * threads);
    for (int i = 0; i < threads; i++) {
        t->scores[i] = room(sizeof(float) * MOST_ROWS * padded);
        t->weights[i] = room(sizeof(bf16) * MOST_ROWS * padded);
        t->keys[i] = room(sizeof(bf16) * padded * m->head);
        t->values[i] = room(sizeof(bf16) * padded * m->head);
    }
    gather(&t->team, threads, 1 + PHASES_OF_A_LAYER * m->layers, run);
    return t;
}

void encoder_step(encoder *t, const batch *b) {
    uint32_t step = prepare(&t->team);
    t->batch = b;
    t->x = b->vectors;
    t->rows = b->rows;
    t->texts = b->texts;
    perform(&t->team, step);
}

void encoder_stop(encoder *t) {
    dismiss(&t->team);
    for (int i = 0; i < t->team.threads; i++)
        free(t->scores[i]), free(t->weights[i]), free(t->keys[i]), free(t->values[i]);
    free(t->narrow), free(t->qkv), free(t->inner), free(t->scores);
    free(t->weights), free(t->keys), free(t->values), free(t);
}

void encoder_pack(const bf16 *from, int n, int k, bf16 *to) { pack(from, n, k, to); }
