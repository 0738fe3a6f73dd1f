// The linear layers of a program: pieces of rows, whatever the weights are stored as.

#pragma once

#include <algorithm>
#include <vector>

#include "operation.h"

namespace vramble {

constexpr int64_t kLeastPiece = 1 << 15, kLargestPiece = 1 << 19;
constexpr int kPiecesEach = 8;
constexpr float kOutlier = 6.0f;             // LLM.int8: larger inputs are not quantized
constexpr float kInt8Product = 6.200124e-05f; // 1 / 127^2, as bitsandbytes has it
constexpr float kInt8Step = 7.874015718698502e-3f;

// One input as a kernel wants it, made once by each thread for each operation.
struct Prepared {
  int64_t run = -1;
  const Operation* op = nullptr;
  std::vector<bf16> narrow;
  std::vector<int16_t> quantized;
  std::vector<int> outliers;
  float largest[kMaxTokens];
  int stride = 0;
};

inline int64_t row_bytes(const Operation& op) {
  switch (op.format) {
    case kFloat32: return int64_t(op.columns) * 4;
    case kInt8: return op.columns;
    case kNf4:
    case kNf4Packed: return (op.columns + 1) / 2;
    default: return int64_t(op.columns) * 2;
  }
}

// Long pieces, for what is asked for ahead at their ends is wasted; several for each thread, to end together.
inline int rows_in_piece(const Operation& op, int threads) {
  const int unit = op.format == kNf4Packed ? kPackedRows : 1;
  const int64_t fair = row_bytes(op) * op.rows / (int64_t(threads) * kPiecesEach);
  const int64_t units = std::clamp(fair, kLeastPiece, kLargestPiece) / (row_bytes(op) * unit);
  return unit * int(units < 1 ? 1 : units);
}

inline int linear_pieces(const Operation& op, int threads) {
  const int rows = rows_in_piece(op, threads);
  return (op.rows + rows - 1) / rows;
}

// The number of the expert whose matrix a token needs, or 0 where there is only one matrix.
inline int expert(const Operation& op, int token) {
  return op.selected ? op.selected[token * op.choices + op.slot] : 0;
}

inline float parameter(const void* values, int32_t format, int64_t at) {
  if (format == kBFloat16) return to_float(((const bf16*)values)[at]);
  if (format == kFloat16) return to_float(((const fp16*)values)[at]);
  return ((const float*)values)[at];
}

// Sixteen of a small vector's numbers, zeros behind its end.
inline Vec parameters(const void* values, int32_t format, int64_t at, int count) {
  if (format == kBFloat16) return load((const bf16*)values + at, count);
  if (format == kFloat16) return load((const fp16*)values + at, count);
  return load((const float*)values + at, count);
}

// Puts one result where it belongs; `late` is what the model's code adds after the first rounding.
inline void finish(const Operation& op, int token, int row, float value, float late = 0) {
  const int64_t at = int64_t(token) * op.rows + row;
  if (op.bias) value += parameter(op.bias, op.parameters, row);
  value = rounded(value, op.rounding);
  if (late != 0) value = rounded(value + late, op.rounding);
  op.output[at] = op.residual ? rounded(op.residual[at] + value, op.rounding) : value;
}

// Calls `kernel` with the number of tokens as a constant.
template <class Kernel>
inline void for_tokens(int tokens, Kernel kernel) {
  switch (tokens) {
    case 1: return kernel(std::integral_constant<int, 1>());
    case 2: return kernel(std::integral_constant<int, 2>());
    case 3: return kernel(std::integral_constant<int, 3>());
    case 4: return kernel(std::integral_constant<int, 4>());
    case 5: return kernel(std::integral_constant<int, 5>());
    case 6: return kernel(std::integral_constant<int, 6>());
    case 7: return kernel(std::integral_constant<int, 7>());
    default: return kernel(std::integral_constant<int, 8>());
  }
}

// The tokens one pass over the rows serves: all that share a matrix.
struct Batch {
  int first, tokens;
};

template <class Dot>
inline void float_rows(const Operation& op, Batch batch, int begin, int end, const typename Dot::X* x) {
  const auto* weights = (const typename Dot::Weight*)((const char*)op.weights + expert(op, batch.first) * op.expert_bytes);
  for_tokens(batch.tokens, [&](auto tokens) {
    constexpr int T = tokens(), R = T == 1 ? 1 : 2, U = T == 1 ? 4 : T == 2 ? 2 : 1;
    int row = begin;
    float y[R * T];
    for (; row + R <= end; row += R) {
      dot_rows<Dot, R, T, U>(weights + int64_t(row) * op.columns, x, op.columns, y);
      for (int i = 0; i < R * T; ++i) finish(op, batch.first + i % T, row + i / T, y[i]);
    }
    for (; row < end; ++row) {
      dot_rows<Dot, 1, T, U>(weights + int64_t(row) * op.columns, x, op.columns, y);
      for (int t = 0; t < T; ++t) finish(op, batch.first + t, row, y[t]);
    }
  });
}

inline void nf4_rows(const Operation& op, int tokens, int begin, int end) {
  const int64_t blocks = (op.columns + op.block - 1) / op.block;
  for_tokens(tokens, [&](auto many) {
    for (int row = begin; row < end; ++row) {
      float y[many()];
      const uint8_t* w = (const uint8_t*)op.weights + int64_t(row) * op.columns / 2;
      dot_row_nf4<many()>(w, (const float*)op.scales + row * blocks, op.block, op.input, op.columns, y);
      for (int t = 0; t < many(); ++t) finish(op, t, row, y[t]);
    }
  });
}

inline void nf4_packed_rows(const Operation& op, int tokens, int begin, int end, const bf16* x) {
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  for_tokens(tokens, [&](auto many) {
    for (int row = begin; row < end; row += kPackedRows) {
      alignas(64) float y[many() * kPackedRows];
      const uint8_t* w = (const uint8_t*)op.weights + int64_t(row) * op.columns / 2;
      dot_rows_nf4_packed<many()>(w, (const bf16*)op.scales + row, op.rows, op.block, x, op.columns, y);
      for (int t = 0; t < many(); ++t)
        for (int r = 0; r < kPackedRows; ++r)
          finish(op, t, row + r, rounded(y[t * kPackedRows + r], kBFloat16));
    }
  });
#endif
}

inline float outlier_part(const Operation& op, const Prepared& ready, int token, int row) {
  float total = 0;
  for (const int column : ready.outliers) {
    const float scale = ((const float*)op.scales)[row];
    const int8_t weight = ((const int8_t*)op.weights)[int64_t(row) * op.columns + column];
    total += op.input[int64_t(token) * op.columns + column] * rounded(weight * scale * kInt8Step, op.rounding);
  }
  return total;
}

inline void int8_rows(const Operation& op, int tokens, int begin, int end, const Prepared& ready) {
  for_tokens(tokens, [&](auto many) {
    for (int row = begin; row < end; ++row) {
      int32_t y[many()];
      const int8_t* w = (const int8_t*)op.weights + int64_t(row) * op.columns;
      dot_row_int8<many()>(w, ready.quantized.data(), ready.stride, op.columns, y);
      for (int t = 0; t < many(); ++t) {
        const float value = float(y[t]) * (ready.largest[t] * ((const float*)op.scales)[row]) * kInt8Product;
        finish(op, t, row, value, outlier_part(op, ready, t, row));
      }
    }
  });
}

// The largest number of a token that is no outlier; the outliers' columns are noted.
inline float largest_within(const Operation& op, const float* x, std::vector<int>& outliers) {
  float largest = 0;
  for (int i = 0; i < op.columns; ++i) {
    const float size = std::fabs(rounded(x[i], kFloat16));
    if (size >= kOutlier) outliers.push_back(i);
    else largest = std::max(largest, size);
  }
  return largest;
}

// Each token to int8, relative to its largest number. A column with an outlier in any of them is left to
// outlier_part for all of them, as bitsandbytes does.
inline void quantize(const Operation& op, int tokens, Prepared& ready) {
  ready.stride = (op.columns + 31) / 32 * 32;
  ready.quantized.assign(int64_t(tokens) * ready.stride, 0);
  ready.outliers.clear();
  for (int t = 0; t < tokens; ++t)
    ready.largest[t] = largest_within(op, op.input + int64_t(t) * op.columns, ready.outliers);
  std::sort(ready.outliers.begin(), ready.outliers.end());
  ready.outliers.erase(std::unique(ready.outliers.begin(), ready.outliers.end()), ready.outliers.end());
  for (int t = 0; t < tokens; ++t) {
    const float* x = op.input + int64_t(t) * op.columns;
    int16_t* to = ready.quantized.data() + int64_t(t) * ready.stride;
    const float inverse = ready.largest[t] > 0 ? 1.0f / ready.largest[t] * 127.0f : 0;  // torch's 127 / x
    for (int i = 0; i < op.columns; ++i) to[i] = int16_t(std::nearbyintf(rounded(x[i], kFloat16) * inverse));
    for (const int i : ready.outliers) to[i] = 0;
  }
}

// Products of bf16 pairs lose nothing where the inputs are bf16 numbers anyway.
inline bool has_narrow_input(const Operation& op) {
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  return op.format == kNf4Packed || (op.format == kBFloat16 && op.rounding == kBFloat16);
#else
  return false;
#endif
}

inline const Prepared& prepared(const Operation& op, const Step& step) {
  static thread_local Prepared ready;
  if (ready.run == step.run && ready.op == &op) return ready;
  ready.run = step.run;
  ready.op = &op;
  if (has_narrow_input(op)) {
    ready.narrow.resize(int64_t(step.tokens) * op.columns);
    narrow(op.input, ready.narrow.data(), int64_t(ready.narrow.size()));
  } else if (op.format == kInt8) {
    quantize(op, step.tokens, ready);
  }
  return ready;
}

inline void float_linear(const Operation& op, const Step& step, Batch batch, int begin, int end) {
  const int64_t at = int64_t(batch.first) * op.columns;
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  if (has_narrow_input(op))
    return float_rows<BFloat16Dot>(op, batch, begin, end, prepared(op, step).narrow.data() + at);
#endif
  if (op.format == kBFloat16) float_rows<FloatDot<bf16>>(op, batch, begin, end, op.input + at);
  else if (op.format == kFloat16) float_rows<FloatDot<fp16>>(op, batch, begin, end, op.input + at);
  else float_rows<FloatDot<float>>(op, batch, begin, end, op.input + at);
}

inline void linear(const Operation& op, const Step& step, int piece) {
  const int rows = rows_in_piece(op, step.threads), begin = piece * rows;
  const int end = std::min(op.rows, begin + rows);
  if (op.format == kNf4) return nf4_rows(op, step.tokens, begin, end);
  if (op.format == kNf4Packed) return nf4_packed_rows(op, step.tokens, begin, end, prepared(op, step).narrow.data());
  if (op.format == kInt8) return int8_rows(op, step.tokens, begin, end, prepared(op, step));
  if (!op.selected) return float_linear(op, step, {0, step.tokens}, begin, end);
  for (int t = 0; t < step.tokens; ++t) float_linear(op, step, {t, 1}, begin, end);
}

}  // namespace vramble
