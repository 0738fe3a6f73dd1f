// What native.py fills in: one operation of a decode program, and the KV cache of one layer.
// Activations are fp32 arrays [tokens, width] whose numbers are those of the model's own dtype.

#pragma once

#include "dots.h"

namespace vramble {

enum Kind : int32_t {
  kEmbed = 0,     // output = scale * table[token id]
  kRmsNorm = 1,   // per group of `columns`
  kLayerNorm = 2,
  kLinear = 3,    // output = weights input + bias, then + residual
  kRotate = 4,    // in place on output, by position
  kStore = 5,     // input is the keys and other the values of the new tokens: append them to the cache
  kAttend = 6,    // input is the queries
  kJoin = 7,      // the second half of kAttend
  kActivate = 8,  // output = activation(input) * other
  kAdd = 9,       // output = input + other
  kRoute = 10,    // output = the weights of the chosen experts, selected = their numbers
  kMix = 11,      // output += input of the chosen expert `slot`, weighted by other
};

enum Flag : int32_t {
  kGoesOn = 1,       // the next operation needs nothing of this one
  kOnePlus = 2,      // a norm multiplies by 1 + weight, in fp32
  kInterleaved = 4,  // rotary pairs are neighbours
  kNormalized = 8,   // the chosen experts' weights add up to one
};

enum Activation : int32_t { kSilu = 0, kGelu = 1, kGeluTanh = 2, kRelu = 3 };

// Keys and values [kv_heads, capacity, width] of one layer; `length` tokens are in it.
struct Cache {
  void* keys;
  void* values;
  int32_t capacity, length;
};

struct Operation {
  int32_t kind, flags, format, rounding, parameters;  // formats: of the matrix or the cache, results, small vectors
  int32_t columns, rows;                              // of the matrix; of a norm: group width, groups
  int32_t heads, kv_heads, head_width, value_width, window, splits;
  int32_t activation, choices, slot, block;
  float scale, softcap;
  const float *input, *other, *residual;
  float *output, *scratch;
  const void *weights, *scales, *bias;
  int32_t* selected;
  int64_t expert_bytes;
  const Cache* cache;
  const float *cosines, *sines;
};

// What changes from call to call.
struct Step {
  const int32_t* token_ids;
  int32_t tokens, position, threads;
  const volatile int32_t* cancelled;
  int64_t run;  // different in every call
};

}  // namespace vramble
