// Sixteen floats at a time: loads from every stored type, roundings, sums and exponentials.
// GCC's vector extensions keep one source for AVX2, AVX-512 and others; intrinsics only where they pay.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace vramble {

constexpr int kLanes = 16;

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

struct bf16 { uint16_t bits; };
struct fp16 { uint16_t bits; };

// What numbers are stored as, and what results are rounded to; the values are those of native.py.
enum Format : int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2, kInt8 = 3, kNf4 = 4, kNf4Packed = 5 };

inline Vec splat(float x) { return Vec{} + x; }

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline Vec load(const bf16* p) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return (Vec)(__builtin_convertvector(h, Words) << 16);
}

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

#if defined(__F16C__)
inline float to_float(fp16 x) { return _cvtsh_ss(x.bits); }
inline fp16 to_fp16(float x) { return {uint16_t(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT))}; }
#else
inline float to_float(fp16 x) {
  _Float16 half;
  std::memcpy(&half, &x, sizeof half);
  return float(half);
}
inline fp16 to_fp16(float x) {
  const _Float16 half = _Float16(x);
  fp16 bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}
#endif

inline Vec load(const fp16* p) {
#if defined(__AVX512F__)
  return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#else
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = to_float(p[i]);
  return v;
#endif
}

// The first `count` numbers at `p`, zeros behind them.
template <class T>
inline Vec load(const T* p, int count) {
  if (count >= kLanes) return load(p);
  T part[kLanes] = {};
  std::memcpy(part, p, count * sizeof(T));
  return load(part);
}

inline void store(float* p, Vec v, int count) { std::memcpy(p, &v, sizeof(float) * (count < kLanes ? count : kLanes)); }

inline bf16 to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t((bits >> 16) | 0x40)};
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline void put(float* p, float x) { *p = x; }
inline void put(bf16* p, float x) { *p = to_bf16(x); }
inline void put(fp16* p, float x) { *p = to_fp16(x); }

// Many numbers to bf16 at once.
inline void narrow(const float* from, bf16* to, int64_t count) {
  int64_t i = 0;
#if defined(__AVX512BF16__)
  for (; i + kLanes <= count; i += kLanes) {
    const __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
    std::memcpy(to + i, &half, sizeof half);
  }
#endif
  for (; i < count; ++i) to[i] = to_bf16(from[i]);
}

// The nearest number of the dtype that the model computes in.
inline float rounded(float x, int32_t format) {
  if (format == kBFloat16) return to_float(to_bf16(x));
  if (format == kFloat16) return to_float(to_fp16(x));
  return x;
}

inline Vec rounded(Vec v, int32_t format) {
  if (format == kFloat32) return v;
  if (format == kBFloat16) {
    const Words bits = (Words)v;
    const Words nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    return v == v ? (Vec)nearest : v;
  }
#if defined(__AVX512F__)
  return (Vec)_mm512_cvtph_ps(_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes; ++i) v[i] = to_float(to_fp16(v[i]));
  return v;
#endif
}

inline float sum(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
#endif
}

#if defined(__clang__)
#define VRAMBLE_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VRAMBLE_PICK(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif

// Where the sum of each of 16 vectors is found after `sums`: their numbers' bits reversed.
constexpr int kReversed[kLanes] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};

// Lane kReversed[i] is the sum of v[i]: halves are added until one lane is left of each.
inline Vec sums(Vec* v) {
  for (int i = 0; i < 8; ++i)
    v[i] = VRAMBLE_PICK(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           VRAMBLE_PICK(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  for (int i = 0; i < 4; ++i)
    v[i] = VRAMBLE_PICK(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           VRAMBLE_PICK(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  for (int i = 0; i < 2; ++i)
    v[i] = VRAMBLE_PICK(v[i], v[i + 2], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
           VRAMBLE_PICK(v[i], v[i + 2], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
  return VRAMBLE_PICK(v[0], v[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         VRAMBLE_PICK(v[0], v[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// exp(x) to about 2 units in the last place: 2^n times a polynomial of the remainder (Cody and Waite).
inline Vec exponential(Vec x) {
  const Vec low = splat(-87.0f), high = splat(88.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vec magic = splat(12582912.0f);
  const Vec n = (x * 1.44269504f + magic) - magic;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = p * r + c;
  p = p * r * r + r + 1.0f;
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  return p * (Vec)power;
}

}  // namespace vramble
