// Attention of many new tokens at once behind a KV cache: the query heads that share a KV head, times the tokens,
// are the rows of two matrix products per block of keys, with an online softmax between them.
// Scores lie as [keys, rows], so that maxima and sums over keys are taken lane by lane, never across lanes.

#pragma once

#include <omp.h>

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace vramble {

// Sums in registers: enough products side by side to hide each one's delay, of as many rows as share a load.
#if defined(__AVX512F__)
constexpr int kTileVectors = 16, kWidestTile = 4;
#else
constexpr int kTileVectors = 4, kWidestTile = 1;
#endif
constexpr int kBlockKeys = 64;      // keys whose scores are kept at once
constexpr float kNothing = -1e30f;  // the highest of no scores

// What chunks.py fills in. Strides are in numbers, that of the mask in bytes.
struct Chunk {
  int32_t format, tokens, seen, heads, kv_heads, head_width, value_width, threads;
  float scale;
  int64_t query_head, query_token, key_head, key_token, value_head, value_token, mask_token;
  const void *queries, *keys, *values;
  const uint8_t* mask;  // [tokens, seen], 1 where a token attends
  void* output;         // [tokens, heads, value_width]
};

// What products are made of: single numbers in fp32.
template <class T>
struct Singles {
  using Unit = float;
  using Many = Vec;
  static constexpr int kDeep = 1;
  // The units of numbers side by side.
  static void take(const T* from, int count, Unit* to) {
    for (int i = 0; i < count; i += kLanes) store(to + i, load(from + i, count - i), count - i);
  }
  // The units of numbers one below the other; there is no second row here.
  static void stack(const T* first, const T*, int count, Unit* to) { take(first, count, to); }
  static void keep(Unit* to, const Vec* powers, int32_t format) { store(to, rounded(powers[0], format), kLanes); }
  static Many many(const Unit* p) { return load(p); }
  static Many one(const Unit* p) { return splat(*p); }
  static Vec add(Vec sum, Many rows, Many one) { return sum + rows * one; }
};

template <class T>
struct UnitsOf { using type = Singles<T>; };

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
// Pairs of bf16 numbers, whose products one instruction adds.
struct Pairs {
  using Unit = uint32_t;
  using Many = __m512i;
  static constexpr int kDeep = 2;
  static void take(const bf16* from, int count, Unit* to) {
    to[(count - 1) / 2] = 0;
    std::memcpy(to, from, count * sizeof(bf16));
  }
  static void stack(const bf16* first, const bf16* second, int count, Unit* to) {
    for (int i = 0; i < count; ++i) to[i] = first[i].bits | (second ? uint32_t(second[i].bits) << 16 : 0);
  }
  static void keep(Unit* to, const Vec* powers, int32_t) {
    alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)powers[1], (__m512)powers[0]);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both));
  }
  static Many many(const Unit* p) { return _mm512_loadu_si512(p); }
  static Many one(const Unit* p) { return _mm512_set1_epi32(int32_t(*p)); }
  static Vec add(Vec sum, Many rows, Many one) {
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)rows, (__m512bh)one);
  }
};

template <>
struct UnitsOf<bf16> { using type = Pairs; };
#endif

// Zeros on whole cache lines.
template <class Unit>
class Lines {
 public:
  explicit Lines(int64_t count) : lines_((count * sizeof(Unit) + sizeof(Line) - 1) / sizeof(Line)) {}
  Unit* data() { return (Unit*)lines_.data(); }

 private:
  struct alignas(64) Line {
    char bytes[64] = {};
  };
  std::vector<Line> lines_;
};

// One thread's piece of work: up to 16 V rows of one KV head, over all keys.
template <class T, int V>
class RowTile {
  using Units = typename UnitsOf<T>::type;
  using Unit = typename Units::Unit;
  static constexpr int kRows = V * kLanes, kSide = kTileVectors / V, kDeep = Units::kDeep;

 public:
  RowTile(const Chunk& chunk, int kv_head, int first)
      : chunk_(chunk), kv_head_(kv_head), first_(first), group_(chunk.heads / chunk.kv_heads),
        rows_(std::min(kRows, group_ * chunk.tokens - first)),
        depth_((chunk.head_width + kDeep - 1) / kDeep), width_((chunk.value_width + kSide - 1) / kSide * kSide),
        queries_(int64_t(depth_) * kRows), keys_(int64_t(kBlockKeys) * depth_),
        values_(int64_t(kBlockKeys) / kDeep * width_), sums_(int64_t(width_) * kRows) {
    for (int v = 0; v < V; ++v) highest_[v] = splat(kNothing), total_[v] = Vec{};
    for (int row = 0; row < rows_; ++row) {
      Units::take(query(row), chunk.head_width, keys_.data());
      for (int k = 0; k < depth_; ++k) queries_.data()[int64_t(k) * kRows + row] = keys_.data()[k];
    }
  }

  void attend() {
    for (int at = 0; at < chunk_.seen; at += kBlockKeys) {
      const int count = std::min(kBlockKeys, chunk_.seen - at);
      const Sight sight = look(at, count);
      if (!sight.any) continue;
      take_keys(at, count);
      product<false>(queries_.data(), keys_.data(), depth_, 1, depth_, kBlockKeys, scores_);
      if (!sight.all) hide(at, count);
      fold();
      take_values(at, count);
      product<true>(powers_, values_.data(), 1, width_, kBlockKeys / kDeep, width_, sums_.data());
    }
    write();
  }

 private:
  struct Sight {
    bool any, all;
  };

  int token(int row) const { return (first_ + row) % chunk_.tokens; }
  int head(int row) const { return kv_head_ * group_ + (first_ + row) / chunk_.tokens; }
  const uint8_t* mask(int row, int at) const { return chunk_.mask + token(row) * chunk_.mask_token + at; }

  const T* query(int row) const {
    return (const T*)chunk_.queries + head(row) * chunk_.query_head + token(row) * chunk_.query_token;
  }

  // Whether any of these rows sees any of these keys, and whether all rows see a whole block.
  Sight look(int at, int count) const {
    uint8_t any = 0, all = count == kBlockKeys;
    for (int row = 0; row < rows_; ++row) {
      uint8_t seen[kBlockKeys] = {}, some = 0, every = 1;
      if (count == kBlockKeys) std::memcpy(seen, mask(row, at), kBlockKeys);
      else std::memcpy(seen, mask(row, at), count);
      for (int t = 0; t < kBlockKeys; ++t) some |= seen[t], every &= seen[t];
      any |= some, all &= every;
    }
    return {any != 0, all != 0};
  }

  void take_keys(int at, int count) {
    const T* keys = (const T*)chunk_.keys + kv_head_ * chunk_.key_head + at * chunk_.key_token;
    for (int t = 0; t < count; ++t)
      Units::take(keys + t * chunk_.key_token, chunk_.head_width, keys_.data() + int64_t(t) * depth_);
  }

  void take_values(int at, int count) {
    const T* values = (const T*)chunk_.values + kv_head_ * chunk_.value_head + at * chunk_.value_token;
    Unit* to = values_.data();
    for (int t = 0; t < kBlockKeys; t += kDeep, values += kDeep * chunk_.value_token, to += width_)
      if (t < count) Units::stack(values, t + 1 < count ? values + chunk_.value_token : nullptr, chunk_.value_width, to);
      else std::fill(to, to + width_, Unit(0));
  }

  // to[n][rows] = or += the sum over k of a[k][rows] * b[n * across + k * along]; `count` is a multiple of kSide.
  template <bool kGoesOn>
  static void product(const Unit* a, const Unit* b, int64_t across, int64_t along, int depth, int count, float* to) {
    for (int n = 0; n < count; n += kSide, b += kSide * across, to += kSide * kRows) {
      Vec sum[kSide][V] = {};
      if (kGoesOn)
        for (int i = 0; i < kSide; ++i)
          for (int v = 0; v < V; ++v) sum[i][v] = load(to + i * kRows + v * kLanes);
      for (int k = 0; k < depth; ++k) {
        typename Units::Many rows[V];
        for (int v = 0; v < V; ++v) rows[v] = Units::many(a + int64_t(k) * kRows + v * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kSide; ++i) {
          const auto one = Units::one(b + i * across + k * along);
          for (int v = 0; v < V; ++v) sum[i][v] = Units::add(sum[i][v], rows[v], one);
        }
      }
      for (int i = 0; i < kSide; ++i)
        for (int v = 0; v < V; ++v) store(to + i * kRows + v * kLanes, sum[i][v], kLanes);
    }
  }

  void hide(int at, int count) {
    for (int row = 0; row < rows_; ++row) {
      const uint8_t* seen = mask(row, at);
      for (int t = 0; t < kBlockKeys; ++t)
        if (t >= count || !seen[t]) scores_[t * kRows + row] = -INFINITY;
    }
  }

  // Turns scores into exponentials relative to the running maximum and rescales what was summed before.
  void fold() {
    Vec highest[V], total[V] = {};
    for (int v = 0; v < V; ++v) highest[v] = highest_[v];
    for (int t = 0; t < kBlockKeys; ++t)
      for (int v = 0; v < V; ++v) {
        const Vec score = load(scores_ + t * kRows + v * kLanes) * chunk_.scale;
        highest[v] = score > highest[v] ? score : highest[v];
      }
    for (int v = 0; v < V; ++v) rescale(v, highest[v]);
    for (int t = 0; t < kBlockKeys; t += kDeep)
      for (int v = 0; v < V; ++v) {
        Vec powers[kDeep];
        for (int i = 0; i < kDeep; ++i) {
          const Vec raised = load(scores_ + (t + i) * kRows + v * kLanes) * chunk_.scale - highest[v];
          powers[i] = raised < -80.0f ? Vec{} : exponential(raised);
          total[v] += powers[i];
        }
        Units::keep(powers_ + t / kDeep * kRows + v * kLanes, powers, chunk_.format);
      }
    for (int v = 0; v < V; ++v) total_[v] += total[v];
  }

  void rescale(int v, Vec highest) {
    const Vec change = highest_[v] - highest;
    highest_[v] = highest;
    if (sum(change) == 0.0f) return;
    const Vec shrink = change < -80.0f ? Vec{} : exponential(change);
    total_[v] *= shrink;
    for (int d = 0; d < width_; ++d) {
      float* to = sums_.data() + int64_t(d) * kRows + v * kLanes;
      store(to, load(to) * shrink, kLanes);
    }
  }

  // A row that sees nothing is zero, as torch has it.
  void write() {
    for (int row = 0; row < rows_; ++row) {
      T* to = (T*)chunk_.output + (int64_t(token(row)) * chunk_.heads + head(row)) * chunk_.value_width;
      const float total = total_[row / kLanes][row % kLanes], share = total > 0 ? 1.0f / total : 0.0f;
      for (int d = 0; d < chunk_.value_width; ++d) put(to + d, sums_.data()[int64_t(d) * kRows + row] * share);
    }
  }

  const Chunk& chunk_;
  const int kv_head_, first_, group_, rows_, depth_, width_;
  Lines<Unit> queries_, keys_, values_;
  Lines<float> sums_;
  Vec highest_[V], total_[V];
  alignas(64) float scores_[kBlockKeys * kRows];
  alignas(64) Unit powers_[kBlockKeys / kDeep * kRows];
};

// A tile as wide as there are rows left of a KV head.
template <class T, int V = kWidestTile>
inline void attend_tile(const Chunk& chunk, int kv_head, int first, int rows) {
  if constexpr (V > 1)
    if (rows <= V / 2 * kLanes) return attend_tile<T, V / 2>(chunk, kv_head, first, rows);
  RowTile<T, V>(chunk, kv_head, first).attend();
}

template <class T>
inline void attend_chunk(const Chunk& chunk) {
  constexpr int kWidest = kWidestTile * kLanes;
  const int rows = chunk.heads / chunk.kv_heads * chunk.tokens, tiles = (rows + kWidest - 1) / kWidest;
#pragma omp parallel for schedule(dynamic) num_threads(chunk.threads)
  for (int piece = 0; piece < chunk.kv_heads * tiles; ++piece) {
    const int first = piece % tiles * kWidest;
    attend_tile<T>(chunk, piece / tiles, first, rows - first);
  }
}

}  // namespace vramble
