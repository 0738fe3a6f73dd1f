// Grouped-query attention of a few new tokens over the KV cache, with an online softmax.
// Work is split by KV head and by stretches of the cache; the stretches are joined afterwards.

#pragma once

#include "operation.h"

namespace vramble {

// Positions whose scores are kept at once: as many as torch's attention takes, whose roundings are then ours.
constexpr int kBlock = 512;
constexpr int kLeastStretch = 512;  // positions that are worth a thread's while
constexpr int kAhead = 64;          // positions between the one computed and the one asked for

// The running maximum, the sum of exponentials, and the weighted sum of values of one query head.
struct Partial {
  float* data;
  float& maximum() const { return data[0]; }
  float& total() const { return data[1]; }
  float* values() const { return data + kLanes; }
};

inline int padded(int width) { return (width + kLanes - 1) / kLanes * kLanes; }

// The positions of the cache that the new token `token` sees: [first, last).
struct Span {
  int first, last;
};

inline Span seen(const Operation& op, int token) {
  const int last = op.cache->length + token + 1;
  return {op.window > 0 && last > op.window ? last - op.window : 0, last};
}

// How many stretches the cache is cut into; the same for every thread.
inline int stretches(const Operation& op, int tokens) {
  const Span last = seen(op, tokens - 1);
  const int fitting = (last.last - last.first + kLeastStretch - 1) / kLeastStretch;
  return fitting < op.splits ? (fitting < 1 ? 1 : fitting) : op.splits;
}

inline Partial partial(const Operation& op, int split, int token, int head) {
  const int64_t width = kLanes + padded(op.value_width);
  return {op.scratch + ((int64_t(split) * kMaxTokens + token) * op.heads + head) * width};
}

template <class T>
inline void prefetch(const T* p, int64_t count) {
  for (int64_t i = 0; i < count * int64_t(sizeof(T)); i += 64) __builtin_prefetch((const char*)p + i, 0, 3);
}

// Whole vectors only, where the widths allow it: the check for the rest would keep sums out of registers.
template <bool kWhole, class T>
inline Vec take(const T* p, int count) {
  if constexpr (kWhole) return load(p);
  else return load(p, count);
}

// scores[h][t] = scale * q[h] . k[t], soft-capped where the model says so, for H heads that share their keys.
// 16 products run side by side: H heads times 16 / H positions; the last position fills the tile up.
template <bool kWhole, class T, int H>
inline void block_scores(const Operation& op, const float* q, const T* keys, int count, float (*scores)[kBlock]) {
  constexpr int P = kLanes / H;
  for (int t = 0; t < count; t += P) {
    const T* key[P];
    for (int p = 0; p < P; ++p) key[p] = keys + int64_t(t + p < count ? t + p : count - 1) * op.head_width;
    prefetch(keys + int64_t(t + kAhead) * op.head_width, P * op.head_width);
    Vec acc[kLanes] = {};
    for (int d = 0; d < op.head_width; d += kLanes)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const Vec k = take<kWhole>(key[p] + d, op.head_width - d);
#pragma GCC unroll 4
        for (int h = 0; h < H; ++h)
          acc[kReversed[h * P + p]] += k * take<kWhole>(q + h * op.head_width + d, op.head_width - d);
      }
    const Vec found = sums(acc) * op.scale;
    for (int h = 0; h < H; ++h) std::memcpy(&scores[h][t], (const float*)&found + h * P, P * sizeof(float));
  }
  if (op.softcap > 0)
    for (int h = 0; h < H; ++h)
      for (int t = 0; t < count; ++t) scores[h][t] = op.softcap * std::tanh(scores[h][t] / op.softcap);
}

// Turns scores into exponentials relative to the running maximum and rescales what was summed before.
inline void fold(const Operation& op, Partial to, float* scores, int count) {
  float highest = to.maximum();
  for (int t = 0; t < count; ++t) highest = scores[t] > highest ? scores[t] : highest;
  const float shrink = std::exp(to.maximum() - highest);
  for (int t = count; t < padded(count); ++t) scores[t] = -INFINITY;
  Vec total = {};
  for (int t = 0; t < count; t += kLanes) {
    const Vec raised = load(scores + t) - highest;
    const Vec powers = raised < -80.0f ? Vec{} : exponential(raised);
    store(scores + t, rounded(powers, op.rounding), kLanes);
    total += powers;
  }
  to.maximum() = highest;
  to.total() = to.total() * shrink + sum(total);
  if (shrink == 1.0f) return;
  for (int d = 0; d < op.value_width; d += kLanes)
    store(to.values() + d, load(to.values() + d) * shrink, kLanes);
}

// Adds the values of a block, weighted, to W vectors of each head at once.
template <bool kWhole, class T, int H, int W>
inline void add_columns(const Operation& op, Partial* to, const T* values, int count, float (*scores)[kBlock], int d) {
  Vec acc[H][W];
  for (int h = 0; h < H; ++h)
    for (int w = 0; w < W; ++w) acc[h][w] = load(to[h].values() + d + w * kLanes);
  for (int t = 0; t < count; ++t) {
    prefetch(values + int64_t(t + kAhead) * op.value_width + d, W * kLanes);
    for (int w = 0; w < W; ++w) {
      const int at = d + w * kLanes;
      const Vec v = take<kWhole>(values + int64_t(t) * op.value_width + at, op.value_width - at);
      for (int h = 0; h < H; ++h) acc[h][w] += v * scores[h][t];
    }
  }
  for (int h = 0; h < H; ++h)
    for (int w = 0; w < W; ++w) store(to[h].values() + d + w * kLanes, acc[h][w], kLanes);
}

template <bool kWhole, class T, int H>
inline void add_values(const Operation& op, Partial* to, const T* values, int count, float (*scores)[kBlock]) {
  int d = 0;
  for (; d + 4 * kLanes <= op.value_width; d += 4 * kLanes) add_columns<kWhole, T, H, 4>(op, to, values, count, scores, d);
  for (; d < op.value_width; d += kLanes) add_columns<kWhole, T, H, 1>(op, to, values, count, scores, d);
}

template <bool kWhole, class T, int H>
inline void attend_heads(const Operation& op, const float* q, Partial* to, const T* keys, const T* values, int count) {
  alignas(64) float scores[H][kBlock];
  block_scores<kWhole, T, H>(op, q, keys, count, scores);
  for (int h = 0; h < H; ++h) fold(op, to[h], scores[h], count);
  add_values<kWhole, T, H>(op, to, values, count, scores);
}

// One token's query heads of one KV head over one block of positions.
template <bool kWhole, class T>
inline void attend_block(const Operation& op, int token, int split, int kv_head, int begin, int count) {
  const int group = op.heads / op.kv_heads;
  const int64_t row = int64_t(kv_head) * op.cache->capacity + begin;
  const T* keys = (const T*)op.cache->keys + row * op.head_width;
  const T* values = (const T*)op.cache->values + row * op.value_width;
  int head = kv_head * group;
  const int end = head + group;
  while (head < end) {
    const float* q = op.input + (int64_t(token) * op.heads + head) * op.head_width;
    Partial to[4];
    const int many = end - head >= 4 ? 4 : end - head >= 2 ? 2 : 1;
    for (int h = 0; h < many; ++h) to[h] = partial(op, split, token, head + h);
    if (many == 4) attend_heads<kWhole, T, 4>(op, q, to, keys, values, count);
    else if (many == 2) attend_heads<kWhole, T, 2>(op, q, to, keys, values, count);
    else attend_heads<kWhole, T, 1>(op, q, to, keys, values, count);
    head += many;
  }
}

inline void clear(const Operation& op, int tokens, int split, int kv_head) {
  const int group = op.heads / op.kv_heads;
  for (int token = 0; token < tokens; ++token)
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const Partial to = partial(op, split, token, head);
      std::memset(to.data, 0, sizeof(float) * (kLanes + padded(op.value_width)));
      to.maximum() = -1e30f;
    }
}

// One KV head over one stretch of the cache, for all tokens.
template <class T>
inline void attend_stretch(const Operation& op, int tokens, int split, int kv_head) {
  clear(op, tokens, split, kv_head);
  const int first = seen(op, 0).first, last = seen(op, tokens - 1).last, parts = stretches(op, tokens);
  const int begin = first + int(int64_t(last - first) * split / parts);
  const int end = first + int(int64_t(last - first) * (split + 1) / parts);
  const bool whole = op.head_width % kLanes == 0 && op.value_width % kLanes == 0;
  for (int at = begin; at < end; at += kBlock) {
    for (int token = 0; token < tokens; ++token) {
      const Span span = seen(op, token);
      const int from = at > span.first ? at : span.first;
      const int stop = at + kBlock < end ? at + kBlock : end;
      const int to = stop < span.last ? stop : span.last;
      if (from >= to) continue;
      if (whole) attend_block<true, T>(op, token, split, kv_head, from, to - from);
      else attend_block<false, T>(op, token, split, kv_head, from, to - from);
    }
  }
}

// Joins the stretches of one head of one token into its output.
inline void join(const Operation& op, int tokens, int token, int head) {
  const int parts = stretches(op, tokens);
  float highest = -1e30f, total = 0;
  for (int s = 0; s < parts; ++s) highest = std::fmax(highest, partial(op, s, token, head).maximum());
  Partial to = partial(op, 0, token, head);
  for (int s = 0; s < parts; ++s) {
    const Partial from = partial(op, s, token, head);
    const float share = std::exp(from.maximum() - highest);
    total += from.total() * share;
    for (int d = 0; d < op.value_width; d += kLanes)
      store(to.values() + d, (s ? load(to.values() + d) : Vec{}) + load(from.values() + d) * share, kLanes);
  }
  float* out = op.output + (int64_t(token) * op.heads + head) * op.value_width;
  for (int d = 0; d < op.value_width; d += kLanes)
    store(out + d, rounded(load(to.values() + d) / total, op.rounding), op.value_width - d);
}

}  // namespace vramble
