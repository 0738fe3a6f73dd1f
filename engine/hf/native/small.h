// Everything between the matrices: norms, rotary positions, activations, the choice of experts.
// Roundings follow the model's own code, so that results agree to the last bit but for the order of sums.

#pragma once

#include "linear.h"

namespace vramble {

constexpr int kSmallPiece = 2048;

inline void embed(const Operation& op, const Step& step) {
  for (int t = 0; t < step.tokens; ++t)
    for (int i = 0; i < op.columns; i += kLanes) {
      const Vec row = parameters(op.weights, op.format, int64_t(step.token_ids[t]) * op.columns + i, op.columns - i);
      store(op.output + int64_t(t) * op.columns + i, rounded(row * op.scale, op.rounding), op.columns - i);
    }
}

inline void rms_norm_group(const Operation& op, const float* x, float* y) {
  Vec squares = {};
  for (int i = 0; i < op.columns; i += kLanes) {
    const Vec v = load(x + i, op.columns - i);
    squares += v * v;
  }
  const float factor = 1.0f / std::sqrt(sum(squares) / op.columns + op.scale);
  const bool one_plus = op.flags & kOnePlus;
  for (int i = 0; i < op.columns; i += kLanes) {
    const int left = op.columns - i;
    const Vec normal = load(x + i, left) * factor;
    const Vec weight = op.weights ? parameters(op.weights, op.parameters, i, left) : splat(1.0f);
    const Vec scaled = one_plus ? normal * (1.0f + weight) : weight * rounded(normal, op.rounding);
    store(y + i, rounded(scaled, op.rounding), left);
  }
}

inline void rms_norm(const Operation& op, const Step& step) {
  for (int64_t group = 0; group < int64_t(step.tokens) * op.rows; ++group)
    rms_norm_group(op, op.input + group * op.columns, op.output + group * op.columns);
}

inline void layer_norm_group(const Operation& op, const float* x, float* y) {
  double total = 0, squares = 0;
  for (int i = 0; i < op.columns; ++i) total += x[i];
  const float mean = float(total / op.columns);
  for (int i = 0; i < op.columns; ++i) squares += double(x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(float(squares / op.columns) + op.scale);
  for (int i = 0; i < op.columns; ++i) {
    float value = (x[i] - mean) * factor;
    if (op.weights) value *= parameter(op.weights, op.parameters, i);
    if (op.bias) value += parameter(op.bias, op.parameters, i);
    y[i] = rounded(value, op.rounding);
  }
}

inline void layer_norm(const Operation& op, const Step& step) {
  for (int64_t group = 0; group < int64_t(step.tokens) * op.rows; ++group)
    layer_norm_group(op, op.input + group * op.columns, op.output + group * op.columns);
}

// (a, b) turned by an angle, with the roundings of q * cos + rotate_half(q) * sin.
template <class V>
inline void turn(V& a, V& b, V cosine, V sine, int32_t format) {
  const V left = a, right = b;
  a = rounded(rounded(left * cosine, format) - rounded(right * sine, format), format);
  b = rounded(rounded(right * cosine, format) + rounded(left * sine, format), format);
}

inline void rotate_neighbours(const Operation& op, float* x, const float* cosines, const float* sines) {
  for (int i = 0; i < op.head_width / 2; ++i) turn(x[2 * i], x[2 * i + 1], cosines[i], sines[i], op.rounding);
}

inline void rotate_halves(const Operation& op, float* x, const float* cosines, const float* sines) {
  const int half = op.head_width / 2;
  for (int i = 0; i < half; i += kLanes) {
    Vec a = load(x + i, half - i), b = load(x + half + i, half - i);
    turn(a, b, load(cosines + i, half - i), load(sines + i, half - i), op.rounding);
    store(x + i, a, half - i);
    store(x + half + i, b, half - i);
  }
}

inline void rotate(const Operation& op, const Step& step) {
  for (int t = 0; t < step.tokens; ++t) {
    const int64_t at = int64_t(step.position + t) * (op.head_width / 2);
    for (int head = 0; head < op.rows; ++head) {
      float* x = op.output + (int64_t(t) * op.rows + head) * op.columns;
      if (op.flags & kInterleaved) rotate_neighbours(op, x, op.cosines + at, op.sines + at);
      else rotate_halves(op, x, op.cosines + at, op.sines + at);
    }
  }
}

template <class T>
inline void append_head(const Operation& op, int tokens, int head) {
  const int64_t row = int64_t(head) * op.cache->capacity + op.cache->length;
  for (int t = 0; t < tokens; ++t) {
    const int64_t from = int64_t(t) * op.kv_heads + head;
    for (int i = 0; i < op.head_width; ++i)
      put((T*)op.cache->keys + (row + t) * op.head_width + i, op.input[from * op.head_width + i]);
    for (int i = 0; i < op.value_width; ++i)
      put((T*)op.cache->values + (row + t) * op.value_width + i, op.other[from * op.value_width + i]);
  }
}

inline void append(const Operation& op, const Step& step, int head) {
  if (op.format == kBFloat16) append_head<bf16>(op, step.tokens, head);
  else if (op.format == kFloat16) append_head<fp16>(op, step.tokens, head);
  else append_head<float>(op, step.tokens, head);
}

inline Vec activation(Vec x, int32_t kind) {
  if (kind == kSilu) return x / (1.0f + exponential(-x));
  if (kind == kRelu) return x > 0.0f ? x : Vec{};
  if (kind == kGeluTanh) {
    const Vec inner = 1.5957691216f * (x + 0.044715f * x * x * x);
    return x - x / (1.0f + exponential(inner));
  }
  Vec y = x;
  for (int i = 0; i < kLanes; ++i) y[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
  return y;
}

inline void activate(const Operation& op, const Step& step, int piece) {
  const int begin = piece * kSmallPiece, end = std::min(op.columns, begin + kSmallPiece);
  for (int t = 0; t < step.tokens; ++t)
    for (int i = begin; i < end; i += kLanes) {
      const int64_t at = int64_t(t) * op.columns + i;
      const Vec value = rounded(activation(load(op.input + at, end - i), op.activation), op.rounding);
      const Vec result = op.other ? rounded(value * load(op.other + at, end - i), op.rounding) : value;
      store(op.output + at, result, end - i);
    }
}

inline void add(const Operation& op, const Step& step) {
  const int64_t all = int64_t(step.tokens) * op.columns;
  for (int64_t i = 0; i < all; i += kLanes) {
    const int left = int(std::min<int64_t>(kLanes, all - i));
    store(op.output + i, rounded(load(op.input + i, left) + load(op.other + i, left), op.rounding), left);
  }
}

// The experts with the largest probabilities of one token, and their weights.
inline void route_token(const Operation& op, const float* logits, int32_t* chosen, float* weights) {
  const float highest = *std::max_element(logits, logits + op.columns);
  float all = 0, kept = 0;
  for (int e = 0; e < op.columns; ++e) all += std::exp(logits[e] - highest);
  for (int c = 0; c < op.choices; ++c) {
    int best = -1;
    for (int e = 0; e < op.columns; ++e)
      if (std::find(chosen, chosen + c, e) == chosen + c && (best < 0 || logits[e] > logits[best])) best = e;
    chosen[c] = best;
    weights[c] = std::exp(logits[best] - highest) / all;
    kept += weights[c];
  }
  for (int c = 0; c < op.choices; ++c)
    weights[c] = rounded(op.flags & kNormalized ? weights[c] / kept : weights[c], op.rounding);
}

inline void route(const Operation& op, const Step& step) {
  for (int t = 0; t < step.tokens; ++t)
    route_token(op, op.input + int64_t(t) * op.columns, op.selected + t * op.choices, op.output + t * op.choices);
}

// Adds one chosen expert's result, times its weight; the first of them replaces what was there.
inline void mix(const Operation& op, const Step& step) {
  for (int t = 0; t < step.tokens; ++t)
    for (int i = 0; i < op.columns; ++i) {
      const int64_t at = int64_t(t) * op.columns + i;
      const float part = rounded(op.input[at] * op.other[t * op.choices + op.slot], op.rounding);
      op.output[at] = op.slot ? rounded(op.output[at] + part, op.rounding) : part;
    }
}

}  // namespace vramble
