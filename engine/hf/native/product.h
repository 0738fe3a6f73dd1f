// A matrix times some dozens of tokens: too many to wait for memory alone, too few for what oneDNN is made for.
// A panel is 32 rows of some pairs of columns, a lane for each row; each pair then meets that pair of every token.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "dots.h"

namespace vramble {

// What products.py fills in.
struct Product {
  int32_t format, rows, columns, tokens, block, threads;  // block: columns that share a scale
  const void* weights;                                    // [rows, columns], bf16 or nf4 as bitsandbytes packs it
  const bf16 *scales, *bias, *input;                      // [columns / block, rows]; [rows] or null; [tokens, columns]
  bf16* output;                                           // [tokens, rows]
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

constexpr int kPanelRows = 2 * kLanes, kPanelPairs = 128;  // a panel stays in the first cache while tokens pass through it
constexpr int kLinePairs = 16, kMostTogether = 10;         // tokens whose sums fit into registers
constexpr int kMostSums = 8 * kMostTogether;               // tokens that pass through a panel
constexpr int kLeastRows = 32, kMostRows = 256;            // that a thread takes at once

// Turns 16 rows of 16 pairs: to[pair * 32 + row] is from[row * columns + 2 * pair]. Asks for 8 rows of what is next.
inline void turn_pairs(const bf16* from, int64_t columns, int rows, uint32_t* to, const bf16* ahead) {
  __m512i a[16], b[16];
#pragma GCC unroll 8
  for (int r = 0; r < kLanes / 2; ++r) __builtin_prefetch(ahead + r * columns, 0, 2);
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) a[r] = r < rows ? _mm512_loadu_si512(from + r * columns) : _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int r = 0; r < 16; r += 2) {
    b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
    b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < 16; r += 4)
    for (int half = 0; half < 2; ++half) {
      a[r + 2 * half] = _mm512_unpacklo_epi64(b[r + half], b[r + half + 2]);
      a[r + 2 * half + 1] = _mm512_unpackhi_epi64(b[r + half], b[r + half + 2]);
    }
  // Quarter q of a[r + c] is pair 4 q + c of rows r to r + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i even = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88), odd = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    const __m512i more = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
    const __m512i rest = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
    _mm512_store_si512(to + c * kPanelRows, _mm512_shuffle_i32x4(even, more, 0x88));
    _mm512_store_si512(to + (4 + c) * kPanelRows, _mm512_shuffle_i32x4(odd, rest, 0x88));
    _mm512_store_si512(to + (8 + c) * kPanelRows, _mm512_shuffle_i32x4(even, more, 0xdd));
    _mm512_store_si512(to + (12 + c) * kPanelRows, _mm512_shuffle_i32x4(odd, rest, 0xdd));
  }
}

// Adds a panel times T tokens, times their rows' scales, to sums [T, 32]; `asked` is called at every pair.
template <int T, class Ask>
inline void add_panel(const uint32_t* panel, const uint32_t* x, int pairs, Vec low_scale, Vec high_scale, float* sums, Ask asked) {
  Vec low[T] = {}, high[T] = {};
  for (int pair = 0; pair < pairs; ++pair) {
    asked(pair);
    const __m512bh first = (__m512bh)_mm512_load_si512(panel + pair * kPanelRows);
    const __m512bh second = (__m512bh)_mm512_load_si512(panel + pair * kPanelRows + kLanes);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const __m512bh both = (__m512bh)_mm512_set1_epi32(int32_t(x[pair * T + t]));
      low[t] = (Vec)_mm512_dpbf16_ps((__m512)low[t], first, both);
      high[t] = (Vec)_mm512_dpbf16_ps((__m512)high[t], second, both);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t, sums += kPanelRows) {
    store(sums, load(sums) + low[t] * low_scale, kLanes);
    store(sums + kLanes, load(sums + kLanes) + high[t] * high_scale, kLanes);
  }
}

// Panels of a bf16 matrix. While one is used, memory is asked for the next: half of it as rows are turned.
class PlainPanels {
 public:
  explicit PlainPanels(const Product& product) : product_(product), columns_(product.columns) {}

  int pairs() const { return kPanelPairs; }

  void fill(int row, int first, int pairs, uint32_t* panel) {
    const int rows = std::min(kPanelRows, product_.rows - row);
    const bf16 *from = at(row, first), *next = behind(row, first);
    ahead_ = next + kLanes * columns_;
    for (int half = 0; half < kPanelRows; half += kLanes, from += kLanes * columns_, next += kLanes / 2 * columns_)
      for (int pair = 0; pair < pairs; pair += kLinePairs)
        turn_pairs(from + 2 * pair, columns_, rows - half, panel + pair * kPanelRows + half, next + 2 * pair);
  }

  template <int T>
  void add(int, int, int group, const uint32_t* panel, const uint32_t* x, int pairs, float* sums) const {
    const Vec one = splat(1.0f);
    if (group > 0) return add_panel<T>(panel, x, pairs, one, one, sums, [](int) {});
    add_panel<T>(panel, x, pairs, one, one, sums, [this](int pair) {
      __builtin_prefetch(ahead_ + pair % kLinePairs * columns_ + pair / kLinePairs * 2 * kLinePairs, 0, 2);
    });
  }

 private:
  const bf16* at(int row, int pair) const { return (const bf16*)product_.weights + row * columns_ + 2 * pair; }

  // Where the panel behind this one begins; of the last one, itself: what is asked for twice costs nothing.
  const bf16* behind(int row, int first) const {
    if (first + 2 * kPanelPairs <= product_.columns / 2) return at(row, first + kPanelPairs);
    return at(row + 2 * kPanelRows > product_.rows ? row : row + kPanelRows, 0);
  }

  const Product& product_;
  const int64_t columns_;
  const bf16* ahead_ = nullptr;
};

// Panels of a matrix of nf4 as dots.h reads it, one for each block of columns.
class Nf4Panels {
 public:
  explicit Nf4Panels(const Product& product) : product_(product) {
    for (int i = 0; i < 32; ++i) table_[i] = to_bf16(kNf4Values[i % 16]).bits;
  }

  int pairs() const { return product_.block / 2; }

  void fill(int row, int first, int pairs, uint32_t* panel) const {
    const uint8_t* from = (const uint8_t*)product_.weights + int64_t(row) * product_.columns / 2 + int64_t(first) * kPanelRows;
    const __m512i values = _mm512_load_si512(table_);
    for (int pair = 0; pair < pairs; ++pair, from += kPanelRows, panel += kPanelRows) {
      if (pair % 2 == 0) __builtin_prefetch(from + kPackedPrefetchBytes, 0, 3);
      const __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)from));
      _mm512_store_si512(panel, _mm512_permutexvar_epi16(both, values));
      _mm512_store_si512(panel + kLanes, _mm512_permutexvar_epi16(_mm512_srli_epi16(both, 4), values));
    }
  }

  template <int T>
  void add(int row, int first, int, const uint32_t* panel, const uint32_t* x, int pairs, float* sums) const {
    const bf16* scales = product_.scales + int64_t(2 * first / product_.block) * product_.rows + row;
    add_panel<T>(panel, x, pairs, load(scales), load(scales + kLanes), sums, [](int) {});
  }

 private:
  const Product& product_;
  alignas(64) uint16_t table_[32];
};

// Tokens in groups of T, the last one filled up with zeros.
template <int T, class Panels>
class Multiplication {
 public:
  Multiplication(const Product& product, uint32_t* room)
      : product_(product), groups_((product.tokens + T - 1) / T), pairs_(product.columns / 2), tokens_(room) {}

  void run() {
    const int fair = product_.rows / (product_.threads * 4) / kPanelRows * kPanelRows;
    const int piece = std::clamp(fair, kLeastRows, kMostRows);
    std::atomic<int> taken(0);
#pragma omp parallel num_threads(product_.threads)
    {
#pragma omp for
      for (int pair = 0; pair < pairs_; ++pair) arrange(pair);
      Panels panels(product_);
      for (int at = taken.fetch_add(piece); at < product_.rows; at = taken.fetch_add(piece))
        for (int row = at; row < std::min(product_.rows, at + piece); row += kPanelRows) multiply(row, panels);
    }
  }

 private:
  uint32_t* group(int number, int pair) const { return tokens_ + (int64_t(number) * pairs_ + pair) * T; }

  // One pair of columns of all tokens, side by side within a group.
  void arrange(int pair) const {
    for (int t = 0; t < groups_ * T; ++t) {
      uint32_t* to = group(t / T, pair) + t % T;
      if (t < product_.tokens) std::memcpy(to, product_.input + int64_t(t) * product_.columns + 2 * pair, sizeof *to);
      else *to = 0;
    }
  }

  void multiply(int row, Panels& panels) const {
    alignas(64) uint32_t panel[kPanelPairs * kPanelRows];
    alignas(64) float sums[kMostSums * kPanelRows];
    std::fill(sums, sums + groups_ * T * kPanelRows, 0.0f);
    for (int first = 0; first < pairs_; first += panels.pairs()) {
      const int pairs = std::min(panels.pairs(), pairs_ - first);
      panels.fill(row, first, pairs, panel);
      for (int g = 0; g < groups_; ++g)
        panels.template add<T>(row, first, g, panel, group(g, first), pairs, sums + g * T * kPanelRows);
    }
    finish(row, sums);
  }

  // A bias is added to the rounded sum where the weights are packed, as bitsandbytes does.
  void finish(int row, const float* sums) const {
    for (int t = 0; t < product_.tokens; ++t)
      for (int at = row; at < std::min(product_.rows, row + kPanelRows); at += kLanes) {
        const int count = std::min(kLanes, product_.rows - at);
        Vec found = load(sums + t * kPanelRows + at - row);
        if (product_.format == kNf4Packed) found = rounded(found, kBFloat16);
        if (product_.bias) found += load(product_.bias + at, count);
        const __m256bh narrow = _mm512_cvtneps_pbh((__m512)found);
        std::memcpy(product_.output + int64_t(t) * product_.rows + at, &narrow, count * sizeof(bf16));
      }
  }

  const Product& product_;
  const int groups_, pairs_;
  uint32_t* const tokens_;
};

template <class Panels>
inline void multiply_few(const Product& product) {
  static thread_local std::vector<uint32_t> room;
  const int groups = (product.tokens + kMostTogether - 1) / kMostTogether;
  const int together = (product.tokens + groups - 1) / groups;
  room.resize(std::max(room.size(), size_t(groups) * kMostTogether * (product.columns / 2)));
  if (together <= 6) Multiplication<6, Panels>(product, room.data()).run();
  else if (together <= 8) Multiplication<8, Panels>(product, room.data()).run();
  else Multiplication<10, Panels>(product, room.data()).run();
}

inline void multiply(Product product) {
  for (int left = product.tokens; left > 0; left -= kMostSums) {
    product.tokens = std::min(left, kMostSums);
    if (product.format == kNf4Packed) multiply_few<Nf4Panels>(product);
    else multiply_few<PlainPanels>(product);
    product.input += int64_t(kMostSums) * product.columns;
    product.output += int64_t(kMostSums) * product.rows;
  }
}

#else

inline void multiply(const Product&) {}

#endif

}  // namespace vramble
