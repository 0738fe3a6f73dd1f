// One matrix times a few vectors, row by row, for every storage of the weights.
// x is [tokens, columns] fp32; every weight is read once and used for all tokens.

#pragma once

#include "vectors.h"

namespace vramble {

constexpr int kMaxTokens = 8;
// How far ahead memory is asked for; measured: the packed formats take longer over each byte.
constexpr int kPrefetchBytes = 4096;
constexpr int kPackedPrefetchBytes = 8192;
constexpr int kPackedRows = 32;

// The 16 values of NormalFloat4 (Dettmers et al., QLoRA, appendix E).
constexpr float kNf4Values[16] = {
    -1.0f,         -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

// How a stretch of a row meets a stretch of x: `kWide` products at a time, summed in 16 lanes.
template <class W>
struct FloatDot {
  using Weight = W;
  using X = float;
  static constexpr int kWide = kLanes;
  static Vec weights(const W* w, int count) { return load(w, count); }
  static Vec weights(const W* w) { return load(w); }
  static Vec add(Vec sum, Vec w, const float* x) { return sum + w * load(x); }
  static Vec add(Vec sum, Vec w, const float* x, int count) { return sum + w * load(x, count); }
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
struct BFloat16Dot {
  using Weight = bf16;
  using X = bf16;
  static constexpr int kWide = 32;
  static __mmask32 first(int count) { return count >= 32 ? ~__mmask32(0) : (__mmask32(1) << count) - 1; }
  static __m512i weights(const bf16* w, int count) { return _mm512_maskz_loadu_epi16(first(count), w); }
  static __m512i weights(const bf16* w) { return _mm512_loadu_si512(w); }
  static Vec add(Vec sum, __m512i w, const bf16* x) { return products(sum, w, _mm512_loadu_si512(x)); }
  static Vec add(Vec sum, __m512i w, const bf16* x, int count) {
    return products(sum, w, _mm512_maskz_loadu_epi16(first(count), x));
  }
  static Vec products(Vec sum, __m512i w, __m512i x) {
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
  }
};
#endif

// R rows of weights times T vectors, U independent sums for each: y[r * T + t].
template <class Dot, int R, int T, int U>
inline void dot_rows(const typename Dot::Weight* w, const typename Dot::X* x, int columns, float* y) {
  constexpr int kAhead = kPrefetchBytes / int(sizeof *w), kLine = 64 / int(sizeof *w);
  Vec acc[R][T][U] = {};
  int i = 0;
  for (; i + U * Dot::kWide <= columns; i += U * Dot::kWide) {
    const int64_t ahead = i + kAhead < columns ? i + kAhead : int64_t(R - 1) * columns + i + kAhead;
    for (int r = 0; r < R; ++r)
      for (int b = 0; b < U * Dot::kWide; b += kLine) __builtin_prefetch(w + int64_t(r) * columns + ahead + b, 0, 3);
    for (int u = 0; u < U; ++u)
      for (int r = 0; r < R; ++r) {
        const auto weights = Dot::weights(w + int64_t(r) * columns + i + u * Dot::kWide);
        for (int t = 0; t < T; ++t)
          acc[r][t][u] = Dot::add(acc[r][t][u], weights, x + int64_t(t) * columns + i + u * Dot::kWide);
      }
  }
  for (; i < columns; i += Dot::kWide)
    for (int r = 0; r < R; ++r) {
      const auto weights = Dot::weights(w + int64_t(r) * columns + i, columns - i);
      for (int t = 0; t < T; ++t)
        acc[r][t][0] = Dot::add(acc[r][t][0], weights, x + int64_t(t) * columns + i, columns - i);
    }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) {
      for (int u = 1; u < U; ++u) acc[r][t][0] += acc[r][t][u];
      y[r * T + t] = sum(acc[r][t][0]);
    }
}

// Row-major nf4: two numbers a byte, the first in the high bits; one fp32 scale per block of a row.
template <int T>
inline void dot_row_nf4(const uint8_t* w, const float* scales, int block, const float* x, int columns, float* y) {
  for (int t = 0; t < T; ++t) y[t] = 0;
  for (int start = 0; start < columns; start += block) {
    float part[T] = {};
    const int end = start + block < columns ? start + block : columns;
    for (int i = start; i < end; ++i) {
      const float value = kNf4Values[i % 2 ? w[i / 2] & 15 : w[i / 2] >> 4];
      for (int t = 0; t < T; ++t) part[t] += value * x[int64_t(t) * columns + i];
    }
    for (int t = 0; t < T; ++t) y[t] += part[t] * scales[start / block];
  }
}

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
// 32 rows at once of nf4 as bitsandbytes packs it for CPUs: for each pair of columns 32 bytes, byte j holding
// column j % 2 of row j / 2 (low bits) and of row 16 + j / 2 (high bits); scales are bf16 [columns / block, rows].
// x is bf16 [tokens, columns]; y is [tokens, 32].
template <int T>
inline void dot_rows_nf4_packed(const uint8_t* w, const bf16* scales, int rows, int block, const bf16* x,
                                int columns, float* y) {
  constexpr int U = T == 1 ? 4 : T == 2 ? 2 : 1;
  alignas(64) uint16_t table[32];
  for (int i = 0; i < 32; ++i) table[i] = to_bf16(kNf4Values[i % 16]).bits;
  const __m512i values = _mm512_load_si512(table);
  Vec total[T][2] = {};
  for (int start = 0; start < columns; start += block) {
    Vec part[T][U][2] = {};
    for (int i = start; i < start + block; i += 2 * U) {
      for (int b = 0; b < 32 * U; b += 64) __builtin_prefetch(w + int64_t(i) * 16 + kPackedPrefetchBytes + b, 0, 3);
#pragma GCC unroll 4
      for (int u = 0; u < U; ++u) {
        const __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)(w + int64_t(i + 2 * u) * 16)));
        const __m512i low = _mm512_permutexvar_epi16(both, values);
        const __m512i high = _mm512_permutexvar_epi16(_mm512_srli_epi16(both, 4), values);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          int32_t pair;
          std::memcpy(&pair, x + int64_t(t) * columns + i + 2 * u, sizeof pair);
          part[t][u][0] = BFloat16Dot::products(part[t][u][0], low, _mm512_set1_epi32(pair));
          part[t][u][1] = BFloat16Dot::products(part[t][u][1], high, _mm512_set1_epi32(pair));
        }
      }
    }
    const bf16* scale = scales + int64_t(start / block) * rows;
    __builtin_prefetch(scale + kPackedRows, 0, 2);
    for (int t = 0; t < T; ++t)
      for (int h = 0; h < 2; ++h) {
        for (int u = 1; u < U; ++u) part[t][0][h] += part[t][u][h];
        total[t][h] += part[t][0][h] * load(scale + h * kLanes);
      }
  }
  for (int t = 0; t < T; ++t)
    for (int h = 0; h < 2; ++h) store(y + t * kPackedRows + h * kLanes, total[t][h], kLanes);
}
#endif

// A row of int8 times vectors quantized to int8 (kept as int16, zeros behind the last column up to 32).
template <int T>
inline void dot_row_int8(const int8_t* w, const int16_t* x, int stride, int columns, int32_t* y) {
  int32_t total[T] = {};
  int i = 0;
#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
  __m512i acc[T];
  for (int t = 0; t < T; ++t) acc[t] = _mm512_setzero_si512();
  for (; i + 32 <= columns; i += 32) {
    __builtin_prefetch(w + i + kPackedPrefetchBytes, 0, 3);
    const __m512i weights = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(w + i)));
    for (int t = 0; t < T; ++t)
      acc[t] = _mm512_dpwssd_epi32(acc[t], weights, _mm512_loadu_si512(x + int64_t(t) * stride + i));
  }
  for (int t = 0; t < T; ++t) total[t] = _mm512_reduce_add_epi32(acc[t]);
#endif
  for (; i < columns; ++i)
    for (int t = 0; t < T; ++t) total[t] += int32_t(w[i]) * x[int64_t(t) * stride + i];
  for (int t = 0; t < T; ++t) y[t] = total[t];
}

}  // namespace vramble
