/* Products of queries with keys: panels of 16 tokens, pairs of dimensions together. */
#ifndef ATTENTION_H
#define ATTENTION_H
#include "vectors.h"

enum { MOST_ROWS = 12 }; /* whose sums fit into registers */

/* Products of R rows with P panels of keys. What lies `ahead` of the keys is asked of memory. */
#define SCORE(R, P)                                                                              \
    INLINE void score_##R##_##P(const bf16 *q, long q_stride, const bf16 *keys, long ahead,      \
                                int head, float *to, long stride) {                              \
        v16 sum[R][P];                                                                           \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < P; i++) sum[r][i] = zeros();             \
        for (int d = 0; d < head; d += 2) {                                                      \
            twin key[P];                                                                         \
            _Pragma("GCC unroll 4") for (int i = 0; i < P; i++) {                                \
                const bf16 *line = keys + i * LANES * head + LANES * d;                          \
                key[i] = load_twin(line);                                                        \
                prefetch_soon(line + ahead);                                                     \
            }                                                                                    \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                               \
                twin x = spread_twin(q + r * q_stride + d);                                      \
                _Pragma("GCC unroll 4") for (int i = 0; i < P; i++)                              \
                    sum[r][i] = dot(sum[r][i], key[i], x);                                       \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < P; i++)                                  \
                store(to + r * stride + i * LANES, sum[r][i]);                                   \
    }
/* Few rows are many short sums that wait for each other: so P panels at once while there are. */
#define SCORES(R, P)                                                                             \
    SCORE(R, P)                                                                                  \
    static void scores_##R(const bf16 *q, long q_stride, const bf16 *keys, long ahead, int head, \
                           int panels, float *to, long stride) {                                 \
        int at = 0;                                                                              \
        for (; at + P <= panels; at += P)                                                        \
            score_##R##_##P(q, q_stride, keys + (long)at * LANES * head, ahead, head,            \
                            to + at * LANES, stride);                                            \
        for (; at < panels; at++)                                                                \
            score_##R##_1(q, q_stride, keys + (long)at * LANES * head, ahead, head,              \
                          to + at * LANES, stride);                                              \
    }
typedef void scoring(const bf16 *, long, const bf16 *, long, int, int, float *, long);
SCORE(1, 1) SCORE(2, 1) SCORE(3, 1) SCORE(4, 1) SCORE(5, 1) SCORE(6, 1)
SCORES(1, 4) SCORES(2, 4) SCORES(3, 4) SCORES(4, 2) SCORES(5, 2) SCORES(6, 2) SCORES(7, 1)
SCORES(8, 1) SCORES(9, 1) SCORES(10, 1) SCORES(11, 1) SCORES(12, 1)
static scoring *const SCORINGS[] = {0, scores_1, scores_2, scores_3, scores_4, scores_5, scores_6,
                                    scores_7, scores_8, scores_9, scores_10, scores_11, scores_12};

#endif
