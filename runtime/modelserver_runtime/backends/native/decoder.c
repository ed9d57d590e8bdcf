/* Decoder-only transformers on CPUs: one call computes one step.
 *
 * A step is a list of rows. A row is one token of one sequence: the next token of an answer, or one
 * of a prompt's. Every row is computed by the same instructions in the same order whatever other
 * rows there are, so that an answer does not depend, in any bit, on who else is asking, nor on how
 * its prompt was cut.
 * Weights lie as matrix.h says.
 * Keys and values lie in blocks of 64 tokens, which sequences may share; see `struct block`.
 */
#define _GNU_SOURCE
#include <math.h>
#include "matrix.h"

enum { BLOCK = 64, CHUNK = 64, WIDEST_HEAD = 256 };

/* ---------------------------------------------------------------- what Python hands over */

typedef struct {
    matrix qkv, out, gate_up, down;
    const float *input_norm, *post_norm;
    const float *query_norm, *key_norm; /* or NULL */
} layer;

typedef struct {
    int32_t layers, hidden, heads, kv_heads, head, intermediate, vocabulary;
    float epsilon, scale;
    const layer *layer;
    const float *final_norm;
    matrix embedding;    /* [vocabulary, hidden] */
    matrix vocabulary_head;
    const float *cosine, *sine; /* [positions][head / 2] */
    bf16 *pool;          /* [block][layer][kv head][keys, values] */
} model;

typedef struct {
    int32_t rows, chosen;
    const int32_t *token, *position, *sequence; /* of each row */
    const int32_t *const *table;  /* of each sequence: its blocks */
    const int32_t *chosen_rows;   /* whose logits are wanted */
    float *logits;                /* [chosen][vocabulary] */
} batch;

#include "team.h"

/* ---------------------------------------------------------------- the team of threads */

typedef struct {
    team team;
    const model *model;
    const batch *batch;
    int rows, chosen, groups, attended; /* pieces, also for whoever comes too late to ask */
    float *x, *wide;       /* [rows][hidden]; [rows][queries, keys, values] */
    bf16 *narrow, *queries, *inner; /* inputs of products */
    int32_t *group;        /* first row of each group of rows of one sequence, and the end */
    float *logits, **scores; /* of the batch; of each thread */
    bf16 **weights, **unpacked; /* of each thread: of its attention; one panel of integers */
} decoder;

INLINE decoder *of(const member *me) { return (decoder *)me->team; }

/* ---------------------------------------------------------------- products of matrices */

typedef enum { STORE, ADD, GATED } effect;

typedef struct {
    effect effect;
    float *wide;      /* STORE, ADD */
    bf16 *narrow;     /* GATED: silu(first half of the panel) * second half */
    long stride;
    int columns;      /* STORE, ADD */
} epilogue;

INLINE void finish(const epilogue *e, int row, int panel, v16 first, v16 second) {
    if (e->effect == GATED) {
        v16 gate = first / (exponential(-first) + 1.0f);
        store_narrowed(e->narrow + row * e->stride + panel * LANES, gate * second);
        return;
    }
    int column = panel * PANEL, left = e->columns - column;
    float *to = e->wide + row * e->stride + column;
    if (e->effect == ADD) {
        first += load_first(left, to);
        second += load_first(left - LANES, to + LANES);
    }
    store_first(left, to, first);
    store_first(left - LANES, to + LANES, second);
}

INLINE bf16 *unpacked_of(const member *me) { return of(me)->unpacked[me->thread]; }

#include "products.h"

/* ---------------------------------------------------------------- attention */

static inline bf16 *keys_of(const model *m, int block, int layer, int head) {
    long part = (long)BLOCK * m->head;
    return m->pool + (((long)block * m->layers + layer) * m->kv_heads + head) * 2 * part;
}

/* Keys: panels of 16 tokens, pairs of dimensions together. Values: pairs of tokens together. */
static void remember(const model *m, bf16 *block, int at, const float *key, const float *value) {
    bf16 *keys = block + (long)(at / LANES) * LANES * m->head + (at % LANES) * 2;
    bf16 *values = block + (long)BLOCK * m->head + (long)(at / 2) * 2 * m->head + at % 2;
    for (int d = 0; d < m->head; d += 2) {
        keys[d * LANES] = narrowed(key[d]);
        keys[d * LANES + 1] = narrowed(key[d + 1]);
    }
    for (int d = 0; d < m->head; d++) {
        values[2 * d] = narrowed(value[d]);
        if (at % 2 == 0) values[2 * d + 1] = 0; /* what was there may be no number */
    }
}

#include "attention.h"

/* weighted sums of C times 16 columns of the values of R rows */
#define MIX(R, C)                                                                                \
    static void mix_##R##_##C(const model *m, const int32_t *table, int layer, int head,         \
                              int column, const bf16 *weights, long stride, int tokens,          \
                              float (*out)[CHUNK]) {                                             \
        v16 sum[R][C];                                                                           \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                                  \
                sum[r][i] = zeros();                                                             \
        for (int begin = 0; begin < tokens; begin += BLOCK) {                                    \
            const bf16 *values = keys_of(m, table[begin / BLOCK], layer, head)                   \
                                 + (long)BLOCK * m->head + 2 * column;                           \
            int left = tokens - begin < BLOCK ? tokens - begin : BLOCK;                          \
            for (int p = 0; p < (left + 1) / 2; p++, values += 2 * m->head) {                    \
                twin value[C];                                                                   \
                _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                              \
                    value[i] = load_twin(values + 2 * LANES * i);                                \
                _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                           \
                    twin x = spread_twin(weights + r * stride + begin + 2 * p);                  \
                    _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                          \
                        sum[r][i] = dot(sum[r][i], value[i], x);                                 \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                                  \
                store(out[r] + LANES * i, sum[r][i]);                                            \
    }
MIX(1, 2) MIX(2, 2) MIX(3, 2) MIX(4, 2) MIX(5, 2) MIX(6, 2) MIX(7, 2) MIX(8, 2) MIX(9, 2)
MIX(10, 2) MIX(11, 2) MIX(12, 2) MIX(1, 4) MIX(2, 4) MIX(3, 4) MIX(4, 4) MIX(5, 4) MIX(6, 4)
typedef void mixing(const model *, const int32_t *, int, int, int, const bf16 *, long, int,
                    float (*)[CHUNK]);
static mixing *const MIXINGS[] = {0, mix_1_2, mix_2_2, mix_3_2, mix_4_2, mix_5_2, mix_6_2,
                                  mix_7_2, mix_8_2, mix_9_2, mix_10_2, mix_11_2, mix_12_2};
static mixing *const WIDE_MIXINGS[] = {0, mix_1_4, mix_2_4, mix_3_4, mix_4_4, mix_5_4, mix_6_4};
enum { MOST_WIDE_ROWS = 6 }; /* more sums than 24 do not fit the registers */

/* Consecutive rows of one sequence, and all query heads that share one head of keys. */
static void attend(decoder *t, int thread, int layer, int begin, int end, int head) {
    const model *m = t->model;
    const batch *b = t->batch;
    int repeats = m->heads / m->kv_heads;
    const int32_t *table = b->table[b->sequence[begin]];
    int tokens = b->position[end - 1] + 1;
    int padded = (tokens + BLOCK - 1) / BLOCK * BLOCK;
    float *scores = t->scores[thread], sums[MOST_ROWS];
    bf16 *weights = t->weights[thread];
    long width = (long)m->heads * m->head;
    bf16 queries[MOST_ROWS * WIDEST_HEAD]; /* [row][repeat]: of one row they follow each other */
    int count = (end - begin) * repeats;
    for (int row = begin; row < end; row++)
        memcpy(queries + (row - begin) * repeats * m->head,
               t->queries + row * width + (long)head * repeats * m->head,
               repeats * m->head * sizeof(bf16));
    for (int at = 0; at < tokens; at += BLOCK) {
        int left = tokens - at < BLOCK ? tokens - at : BLOCK;
        /* values lie behind the keys of their block */
        SCORINGS[count](queries, m->head, keys_of(m, table[at / BLOCK], layer, head),
                        (long)BLOCK * m->head, m->head, ceiling(left, LANES), scores + at, padded);
    }
    for (int i = 0; i < count; i++) {
        int seen = b->position[begin + i / repeats] + 1;
        sums[i] = softmax(scores + (long)i * padded, weights + (long)i * padded, seen, padded, m->scale);
    }
    for (int column = 0, columns; column < m->head; column += columns) {
        float mixed[MOST_ROWS][CHUNK];
        int is_wide = count <= MOST_WIDE_ROWS && m->head - column >= CHUNK;
        columns = is_wide ? CHUNK : PANEL;
        (is_wide ? WIDE_MIXINGS : MIXINGS)[count](m, table, layer, head, column, weights, padded,
                                                  tokens, mixed);
        for (int i = 0; i < count; i++) {
            v16 factor = spread(1.0f / sums[i]);
            bf16 *to = t->inner + (begin + i / repeats) * width
                       + (long)(head * repeats + i % repeats) * m->head + column;
            for (int at = 0; at < columns; at += LANES)
                store_narrowed(to + at, load(mixed[i] + at) * factor);
        }
    }
}

/* ---------------------------------------------------------------- what is done row by row */

static void normalize(const float *x, const float *weight, int n, float epsilon, bf16 *to) {
    v16 sum = zeros();
    for (int i = 0; i < n; i += LANES) sum = fused(load(x + i), load(x + i), sum);
    v16 factor = spread(1.0f / sqrtf(total(sum) / n + epsilon));
    for (int i = 0; i < n; i += LANES)
        store_narrowed(to + i, load(x + i) * factor * load(weight + i));
}

static void normalize_head(float *x, const float *weight, int n, float epsilon) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    float factor = 1.0f / sqrtf(sum / n + epsilon);
    for (int i = 0; i < n; i++) x[i] *= factor * weight[i];
}

static void rotate(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        v16 a = load(x + i), b = load(x + half + i), c = load(cosine + i), s = load(sine + i);
        store(x + i, fused(a, c, -(b * s)));
        store(x + half + i, fused(b, c, a * s));
    }
}

static void embed(const model *m, int token, float *to) {
    const bf16 *from = m->embedding.panels + (long)(token / PANEL) * PANEL * m->hidden
                       + (token % PANEL) * 2;
    for (int k = 0; k < m->hidden; k += 2, from += 2 * PANEL) {
        to[k] = widened(from[0]);
        to[k + 1] = widened(from[1]);
    }
}

static void place(decoder *t, int layer_index, int row) {
    const model *m = t->model;
    const batch *b = t->batch;
    const layer *l = &m->layer[layer_index];
    int half = m->head / 2, position = b->position[row];
    const float *cosine = m->cosine + (long)position * half, *sine = m->sine + (long)position * half;
    float *query = t->wide + (long)row * (m->heads + 2 * m->kv_heads) * m->head;
    float *key = query + (long)m->heads * m->head, *value = key + (long)m->kv_heads * m->head;
    bf16 *to = t->queries + (long)row * m->heads * m->head;
    for (int h = 0; h < m->heads; h++) {
        float *x = query + (long)h * m->head;
        if (l->query_norm) normalize_head(x, l->query_norm, m->head, m->epsilon);
        rotate(x, cosine, sine, half);
        for (int d = 0; d < m->head; d += LANES)
            store_narrowed(to + (long)h * m->head + d, load(x + d));
    }
    int block = b->table[b->sequence[row]][position / BLOCK];
    for (int h = 0; h < m->kv_heads; h++) {
        float *x = key + (long)h * m->head;
        if (l->key_norm) normalize_head(x, l->key_norm, m->head, m->epsilon);
        rotate(x, cosine, sine, half);
        remember(m, keys_of(m, block, layer_index, h), position % BLOCK, x, value + (long)h * m->head);
    }
}

/* ---------------------------------------------------------------- a step */

/* Two rows of one pair of values may not be written by two threads: pieces are whole groups. */
static int place_all(const member *me, int at, int layer) {
    decoder *t = of(me);
    for (int g; (g = claim(me, at, t->groups)) >= 0; complete(me, at))
        for (int row = t->group[g]; row < t->group[g + 1]; row++) place(t, layer, row);
    return settle(me, at, t->groups);
}

static int normalize_all(const member *me, int at, const float *weight) {
    decoder *t = of(me);
    int n = t->model->hidden;
    for (int row; (row = claim(me, at, t->rows)) >= 0; complete(me, at))
        normalize(t->x + (long)row * n, weight, n, t->model->epsilon, t->narrow + (long)row * n);
    return settle(me, at, t->rows);
}

/* rows of one group whose queries fit the registers */
static inline int rows_at_once(const model *m) { return MOST_ROWS / (m->heads / m->kv_heads); }

static inline int parts_of(const decoder *t, int group) {
    int most = rows_at_once(t->model);
    return ceiling(t->group[group + 1] - t->group[group], most);
}

static int attend_all(const member *me, int at, int layer) {
    decoder *t = of(me);
    int heads = t->model->kv_heads, most = rows_at_once(t->model), g = 0, before = 0;
    for (int piece; (piece = claim(me, at, t->attended)) >= 0; complete(me, at)) {
        for (; piece / heads >= before + parts_of(t, g); g++) before += parts_of(t, g);
        int begin = t->group[g] + (piece / heads - before) * most;
        int end = begin + most < t->group[g + 1] ? begin + most : t->group[g + 1];
        attend(t, me->thread, layer, begin, end, piece % heads);
    }
    return settle(me, at, t->attended);
}

static int embed_all(const member *me, int at) {
    decoder *t = of(me);
    int n = t->model->hidden;
    for (int row; (row = claim(me, at, t->rows)) >= 0; complete(me, at))
        embed(t->model, t->batch->token[row], t->x + (long)row * n);
    return settle(me, at, t->rows);
}

static int choose_all(const member *me, int at) {
    decoder *t = of(me);
    const model *m = t->model;
    for (int i; (i = claim(me, at, t->chosen)) >= 0; complete(me, at))
        normalize(t->x + (long)t->batch->chosen_rows[i] * m->hidden, m->final_norm, m->hidden,
                  m->epsilon, t->narrow + (long)i * m->hidden);
    return settle(me, at, t->chosen);
}

enum { PHASES_OF_A_LAYER = 8 };

static int compute_layer(const member *me, int at, int index) {
    decoder *t = of(me);
    const model *m = t->model;
    const layer *l = &m->layer[index];
    int n = l->qkv.n, hidden = m->hidden;
    epilogue qkv = {STORE, .wide = t->wide, .stride = n, .columns = n};
    epilogue out = {ADD, .wide = t->x, .stride = hidden, .columns = hidden};
    epilogue gated = {GATED, .narrow = t->inner, .stride = m->intermediate};
    epilogue down = {ADD, .wide = t->x, .stride = hidden, .columns = hidden};
    return normalize_all(me, at, l->input_norm)
        && multiply(me, at + 1, &l->qkv, t->narrow, t->rows, &qkv)
        && place_all(me, at + 2, index)
        && attend_all(me, at + 3, index)
        && multiply(me, at + 4, &l->out, t->inner, t->rows, &out)
        && normalize_all(me, at + 5, l->post_norm)
        && multiply(me, at + 6, &l->gate_up, t->narrow, t->rows, &gated)
        && multiply(me, at + 7, &l->down, t->inner, t->rows, &down);
}

/* A member that comes late finds everything done, and leaves as soon as the next step has begun;
 * it touches nothing of a batch without a piece, because only with one is the batch still there. */
static void run(const member *me) {
    decoder *t = of(me);
    const model *m = t->model;
    if (!embed_all(me, 0)) return;
    for (int i = 0; i < m->layers; i++)
        if (!compute_layer(me, 1 + i * PHASES_OF_A_LAYER, i)) return;
    int at = 1 + m->layers * PHASES_OF_A_LAYER;
    if (!choose_all(me, at)) return;
    int n = m->vocabulary;
    epilogue logits = {STORE, .wide = t->logits, .stride = n, .columns = n};
    multiply(me, at + 1, &m->vocabulary_head, t->narrow, t->chosen, &logits);
}

/* ---------------------------------------------------------------- the interface */

decoder *decoder_start(const model *m, int threads, int most_rows, int longest) {
    decoder *t = room(sizeof *t);
    int padded = ceiling(longest, BLOCK) * BLOCK;
    long attended = (long)m->heads * m->head;
    long inner = m->intermediate > attended ? m->intermediate : attended;
    t->model = m;
    t->x = room(sizeof(float) * most_rows * m->hidden);
    t->wide = room(sizeof(float) * most_rows * (m->heads + 2 * m->kv_heads) * m->head);
    t->narrow = room(sizeof(bf16) * most_rows * m->hidden);
    t->queries = room(sizeof(bf16) * most_rows * attended);
    t->inner = room(sizeof(bf16) * most_rows * inner);
    t->group = room(sizeof(int32_t) * (most_rows + 1));
    t->scores = room(sizeof(float *) * threads);
    t->weights = room(sizeof(bf16 *) * threads);
    t->unpacked = room(sizeof(bf16 *) * threads);
    long rows = inner > m->hidden ? inner : m->hidden;
    for (int i = 0; i < threads; i++) {
        t->unpacked[i] = room(sizeof(bf16) * PANEL * rows);
        t->scores[i] = room(sizeof(float) * MOST_ROWS * padded);
        t->weights[i] = room(sizeof(bf16) * MOST_ROWS * padded);
    }
    gather(&t->team, threads, PHASES_OF_A_LAYER * m->layers + 3, run);
    return t;
}

void decoder_step(decoder *t, const batch *b) {
    uint32_t step = prepare(&t->team);
    t->batch = b;
    t->logits = b->logits;
    t->rows = b->rows;
    t->chosen = b->chosen;
    t->groups = 0;
    for (int row = 0; row < b->rows; row++)
        if (!row || b->sequence[row] != b->sequence[row - 1]) t->group[t->groups++] = row;
    t->group[t->groups] = b->rows;
    t->attended = 0;
    for (int g = 0; g < t->groups; g++) t->attended += parts_of(t, g) * t->model->kv_heads;
    perform(&t->team, step);
}

void decoder_stop(decoder *t) {
    dismiss(&t->team);
    for (int i = 0; i < t->team.threads; i++)
        free(t->scores[i]), free(t->weights[i]), free(t->unpacked[i]);
    free(t->x), free(t->wide), free(t->narrow), free(t->queries), free(t->inner), free(t->group);
    free(t->scores), free(t->weights), free(t->unpacked), free(t);
}

void decoder_pack(const bf16 *from, int n, int k, bf16 *to) { pack(from, n, k, to); }

/* as decoder_pack, of two matrices: 16 columns of each in a panel */
void decoder_pack_gated(const bf16 *gate, const bf16 *up, int n, int k, bf16 *to) {
    for (int panel = 0; panel < n / LANES; panel++)
        for (int c = 0; c < PANEL; c++) {
            int column = panel * LANES + c % LANES;
            uint32_t *pairs = (uint32_t *)(to + (long)panel * PANEL * k) + c;
            const uint32_t *source = (const uint32_t *)((c < LANES ? gate : up) + (long)column * k);
            for (int p = 0; p < k / 2; p++) pairs[(long)p * PANEL] = source[p];
        }
}

/* panels of bf16 -> integers of 8 bits and the scales of their columns: the largest becomes 127 */
void decoder_pack_integers(const bf16 *panels, int n, int k, int8_t *to, float *scales) {
    for (int panel = 0; panel < ceiling(n, PANEL); panel++, scales += PANEL) {
        const bf16 *from = panels + (long)panel * PANEL * k;
        for (int c = 0; c < PANEL; c++) {
            float most = 0;
            for (int i = 0; i < k; i++)
                most = fmaxf(most, fabsf(widened(from[(long)(i / 2) * 2 * PANEL + 2 * c + i % 2])));
            scales[c] = most / 127;
        }
        for (int i = 0; i < k; i++)
            for (int c = 0; c < PANEL; c++) {
                float x = widened(from[(long)(i / 2) * 2 * PANEL + 2 * c + i % 2]);
                int8_t *pair = to + (long)panel * PANEL * k + (long)(i / 2) * 2 * PANEL;
                pair[c / LANES * 2 * LANES + i % 2 * LANES + c % LANES] =
                    scales[c] ? (int8_t)lrintf(x / scales[c]) : 0;
            }
    }
}
