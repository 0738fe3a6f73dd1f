// A bf16 matrix times some dozens of tokens: too many to wait for memory alone, too few for what oneDNN is made for.
// A panel of 32 rows is turned until a lane is a row; each pair of its columns then meets that pair of every token.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "vectors.h"

namespace vramble {

// What products.py fills in.
struct Product {
  int32_t rows, columns, tokens, threads;
  const bf16 *weights, *bias, *input;  // [rows, columns]; [rows] or null; [tokens, columns]
  bf16* output;                        // [tokens, rows]
};

constexpr int kMostProductTokens = 48;

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

constexpr int kPanelRows = 2 * kLanes, kPanelPairs = 256;  // a panel fills the first cache, and tokens pass through it
constexpr int kLinePairs = 16, kMostTogether = 12;         // tokens whose sums fit into registers
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

// Adds a panel times T tokens to their sums [T, 32], and asks for 16 rows of what is next.
template <int T, bool kAsks>
inline void add_panel(const uint32_t* panel, const uint32_t* x, int pairs, float* sums, const bf16* ahead, int64_t columns) {
  Vec acc[T][2];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t][0] = load(sums + t * kPanelRows), acc[t][1] = load(sums + t * kPanelRows + kLanes);
  for (int line = 0; line < pairs; line += kLinePairs) {
    const bf16* asked = ahead + 2 * line;
    for (int pair = line; pair < line + kLinePairs; ++pair) {
      if (kAsks) __builtin_prefetch(asked, 0, 2), asked += columns;
      const __m512bh low = (__m512bh)_mm512_load_si512(panel + pair * kPanelRows);
      const __m512bh high = (__m512bh)_mm512_load_si512(panel + pair * kPanelRows + kLanes);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const __m512bh both = (__m512bh)_mm512_set1_epi32(int32_t(x[pair * T + t]));
        acc[t][0] = (Vec)_mm512_dpbf16_ps((__m512)acc[t][0], low, both);
        acc[t][1] = (Vec)_mm512_dpbf16_ps((__m512)acc[t][1], high, both);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
    store(sums + t * kPanelRows, acc[t][0], kLanes), store(sums + t * kPanelRows + kLanes, acc[t][1], kLanes);
}

// Tokens in groups of T, the last one filled up with zeros.
template <int T>
class Multiplication {
 public:
  explicit Multiplication(const Product& product)
      : product_(product), groups_((product.tokens + T - 1) / T), pairs_(product.columns / 2), columns_(product.columns),
        tokens_(int64_t(groups_) * pairs_ * T) {}

  void run() {
    const int fair = product_.rows / (product_.threads * 4) / kPanelRows * kPanelRows;
    const int piece = std::clamp(fair, kLeastRows, kMostRows);
    std::atomic<int> taken(0);
#pragma omp parallel num_threads(product_.threads)
    {
#pragma omp for
      for (int pair = 0; pair < pairs_; ++pair) arrange(pair);
      for (int at = taken.fetch_add(piece); at < product_.rows; at = taken.fetch_add(piece))
        for (int row = at; row < std::min(product_.rows, at + piece); row += kPanelRows) multiply(row);
    }
  }

 private:
  // One pair of columns of all tokens, side by side within a group.
  void arrange(int pair) {
    for (int t = 0; t < product_.tokens; ++t)
      std::memcpy(group(t / T, pair) + t % T, product_.input + t * columns_ + 2 * pair, sizeof(uint32_t));
  }

  uint32_t* group(int number, int pair) { return tokens_.data() + (int64_t(number) * pairs_ + pair) * T; }

  void multiply(int row) {
    const int rows = std::min(kPanelRows, product_.rows - row);
    const bf16* weights = product_.weights + row * columns_;
    alignas(64) uint32_t panel[kPanelPairs * kPanelRows];
    alignas(64) float sums[kMostProductTokens * kPanelRows] = {};
    for (int first = 0; first < pairs_; first += kPanelPairs) {
      const int pairs = std::min(kPanelPairs, pairs_ - first);
      const bf16* ahead = behind(row, first);
      turn(weights + 2 * first, rows, pairs, panel, ahead);
      for (int g = 0; g < groups_; ++g) {
        float* of = sums + g * T * kPanelRows;
        if (g == 0) add_panel<T, true>(panel, group(g, first), pairs, of, ahead + kLanes * columns_, columns_);
        else add_panel<T, false>(panel, group(g, first), pairs, of, nullptr, columns_);
      }
    }
    finish(row, rows, sums);
  }

  // Where the panel behind this one begins; of the last one, itself: what is asked for twice costs nothing.
  const bf16* behind(int row, int first) const {
    const bool ends = first + 2 * kPanelPairs > pairs_, is_last = row + 2 * kPanelRows > product_.rows;
    const int64_t to = ends ? (is_last ? row : row + kPanelRows) : row;
    return product_.weights + to * columns_ + (ends ? 0 : 2 * (first + kPanelPairs));
  }

  void turn(const bf16* weights, int rows, int pairs, uint32_t* panel, const bf16* ahead) const {
    for (int half = 0; half < kPanelRows; half += kLanes, weights += kLanes * columns_, ahead += kLanes / 2 * columns_)
      for (int pair = 0; pair < pairs; pair += kLinePairs)
        turn_pairs(weights + 2 * pair, columns_, rows - half, panel + pair * kPanelRows + half, ahead + 2 * pair);
  }

  void finish(int row, int rows, const float* sums) {
    for (int t = 0; t < product_.tokens; ++t)
      for (int half = 0; half < rows; half += kLanes) {
        const int count = std::min(kLanes, rows - half);
        Vec found = load(sums + t * kPanelRows + half);
        if (product_.bias) found += load(product_.bias + row + half, count);
        const __m256bh rounded = _mm512_cvtneps_pbh((__m512)found);
        std::memcpy(product_.output + int64_t(t) * product_.rows + row + half, &rounded, count * sizeof(bf16));
      }
  }

  const Product& product_;
  const int groups_, pairs_;
  const int64_t columns_;
  std::vector<uint32_t> tokens_;
};

inline void multiply(const Product& product) {
  const int groups = (product.tokens + kMostTogether - 1) / kMostTogether;
  const int together = (product.tokens + groups - 1) / groups;
  if (together <= 6) Multiplication<6>(product).run();
  else if (together <= 8) Multiplication<8>(product).run();
  else if (together <= 10) Multiplication<10>(product).run();
  else Multiplication<12>(product).run();
}

#else

inline void multiply(const Product&) {}

#endif

}  // namespace vramble
