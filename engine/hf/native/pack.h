// Packs weights as nf4: blocks of 64 numbers, each the nearest of 16 to its share of the block's largest.

#pragma once

#include "vectors.h"

namespace vramble {

constexpr int kPackBlock = 64, kBounds = 15;

// The same steps in the same order as bitsandbytes takes on a CPU, so that every bit is the same.
// `bounds`: ascending midpoints between the 16 values; a number on a bound takes the lower value. What is not
// finite makes the block's largest number NaN.
template <class T>
inline void pack_nf4_block(const T* from, const float* bounds, uint8_t* packed, float* largest) {
  constexpr int parts = kPackBlock / kLanes;
  Vec x[parts];
  float most = 0, damage = 0;
  for (int part = 0; part < parts; ++part) {
    x[part] = load(from + part * kLanes);
    const Vec size = x[part] < 0 ? -x[part] : x[part];
    for (int lane = 0; lane < kLanes; ++lane) {
      most = size[lane] > most ? size[lane] : most;
      damage += size[lane] - size[lane];
    }
  }
  *largest = most + damage;
  const Vec scale = splat(1.0f / (most > 1e-38f ? most : 1e-38f));
  uint8_t chosen[kPackBlock];
  for (int part = 0; part < parts; ++part) {
    Vec share = x[part] * scale;
    share = share > 1 ? splat(1) : share < -1 ? splat(-1) : share;
    Ints passed = {};
    for (int bound = 0; bound < kBounds; ++bound) passed -= share > splat(bounds[bound]);
    for (int lane = 0; lane < kLanes; ++lane) chosen[part * kLanes + lane] = uint8_t(passed[lane]);
  }
  for (int pair = 0; pair < kPackBlock / 2; ++pair)
    packed[pair] = uint8_t(chosen[2 * pair] << 4 | chosen[2 * pair + 1]);
}

template <class T>
inline void pack_nf4(
    const void* from, int64_t blocks, const float* bounds, uint8_t* packed, float* largest, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t block = 0; block < blocks; ++block)
    pack_nf4_block(
        (const T*)from + block * kPackBlock, bounds, packed + block * kPackBlock / 2, largest + block);
}

constexpr int kArrangedRows = 32;

// From rows of nf4 [rows, width] (a byte: an even column in the high bits, the next in the low ones) to what
// bitsandbytes computes with on CPUs, 32 rows at a time: see dot_rows_nf4_packed. All threads.
inline void arrange_nf4(const uint8_t* from, int64_t rows, int64_t width, uint8_t* to, int threads) {
  constexpr int half = kArrangedRows / 2, tile = 64;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t first = 0; first < rows; first += kArrangedRows)
    for (int64_t start = 0; start < width; start += tile) {
      const int64_t end = start + tile < width ? start + tile : width;
      for (int row = 0; row < half; ++row) {
        const uint8_t* low = from + (first + row) * width;
        const uint8_t* high = low + half * width;
        uint8_t* out = to + first * width + 2 * row;
        for (int64_t at = start; at < end; ++at) {
          out[at * kArrangedRows] = uint8_t(low[at] >> 4 | (high[at] & 0xF0));
          out[at * kArrangedRows + 1] = uint8_t((low[at] & 0x0F) | high[at] << 4);
        }
      }
    }
}

}  // namespace vramble
