// Runs a decode program: every thread walks the same list of operations and takes pieces of each.

#include <omp.h>

#include <atomic>
#include <climits>
#include <memory>

#include "attention.h"
#include "chunk.h"
#include "linear.h"
#include "pack.h"
#include "product.h"
#include "small.h"

namespace vramble {

// How many pieces an operation falls into.
static int pieces(const Operation& op, const Step& step) {
  switch (op.kind) {
    case kLinear: return linear_pieces(op, step.threads);
    case kAttend: return op.kv_heads * stretches(op, step.tokens);
    case kJoin: return step.tokens * op.heads;
    case kStore: return op.kv_heads;
    case kActivate: return (op.columns + kSmallPiece - 1) / kSmallPiece;
    default: return 1;
  }
}

static void attend(const Operation& op, const Step& step, int piece) {
  const int split = piece / op.kv_heads, kv_head = piece % op.kv_heads;
  if (op.format == kBFloat16) attend_stretch<bf16>(op, step.tokens, split, kv_head);
  else if (op.format == kFloat16) attend_stretch<fp16>(op, step.tokens, split, kv_head);
  else attend_stretch<float>(op, step.tokens, split, kv_head);
}

static void run_piece(const Operation& op, const Step& step, int piece) {
  switch (op.kind) {
    case kEmbed: return embed(op, step);
    case kRmsNorm: return rms_norm(op, step);
    case kLayerNorm: return layer_norm(op, step);
    case kLinear: return linear(op, step, piece);
    case kRotate: return rotate(op, step);
    case kStore: return append(op, step, piece);
    case kAttend: return attend(op, step, piece);
    case kJoin: return join(op, step.tokens, piece / op.heads, piece % op.heads);
    case kActivate: return activate(op, step, piece);
    case kAdd: return add(op, step);
    case kRoute: return route(op, step);
    case kMix: return mix(op, step);
  }
}

// Counters that all threads share: the next piece of each operation, and where a cancel was noticed.
struct Progress {
  std::unique_ptr<std::atomic<int>[]> taken;
  std::atomic<int> stop{INT_MAX};
};

static void walk(const Operation* ops, int count, const Step& step, Progress& progress) {
  for (int at = 0; at < count; ++at) {
    std::atomic<int>& taken = progress.taken[at];
    const int all = pieces(ops[at], step);
    for (int piece = taken++; piece < all; piece = taken++) run_piece(ops[at], step, piece);
    if (ops[at].flags & kGoesOn) continue;
    if (omp_get_thread_num() == 0 && *step.cancelled) progress.stop = at;
#pragma omp barrier
    // A later operation's number may be there already when a slow thread looks: all leave at the same one.
    if (progress.stop <= at) return;
  }
}

}  // namespace vramble

extern "C" {

// Runs a program for 1 to 8 tokens. Returns 0, or 1 when it was cancelled on the way.
int vramble_run(const vramble::Operation* ops, int32_t count, const vramble::Step* step) {
  vramble::Progress progress;
  progress.taken.reset(new std::atomic<int>[count]());
#pragma omp parallel num_threads(step->threads)
  vramble::walk(ops, count, *step, progress);
  return progress.stop != INT_MAX;
}

// Attends for a chunk of new tokens in one layer.
void vramble_attend(const vramble::Chunk* chunk) {
  if (chunk->format == vramble::kBFloat16) vramble::attend_chunk<vramble::bf16>(*chunk);
  else if (chunk->format == vramble::kFloat16) vramble::attend_chunk<vramble::fp16>(*chunk);
  else vramble::attend_chunk<float>(*chunk);
}

// Multiplies a matrix with some dozens of tokens; only where the abilities name it.
void vramble_multiply(const vramble::Product* product) { vramble::multiply(*product); }

// Reads `bytes` with all threads the way the kernels do; the result only keeps the compiler honest.
float vramble_read(const void* from, int64_t bytes, int32_t threads) {
  const int64_t piece = 1 << 18, pieces = bytes / piece;
  std::atomic<int64_t> taken(0);
  float total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
  for (int64_t at = taken++; at < pieces; at = taken++) {
    const float* p = (const float*)((const char*)from + at * piece);
    vramble::Vec acc[4] = {};
    for (int64_t i = 0; i < piece / 4; i += 4 * vramble::kLanes)
      for (int u = 0; u < 4; ++u) {
        __builtin_prefetch((const char*)(p + i + u * vramble::kLanes) + vramble::kPrefetchBytes, 0, 3);
        acc[u] += vramble::load(p + i + u * vramble::kLanes);
      }
    total += vramble::sum(acc[0] + acc[1] + acc[2] + acc[3]);
  }
  return total;
}

// Packs whole blocks of 64 numbers as nf4: two to a byte, and the largest of each block.
void vramble_pack_nf4(
    const void* from, int32_t format, int64_t blocks, const float* bounds, uint8_t* packed, float* largest,
    int32_t threads) {
  using namespace vramble;
  if (format == kBFloat16) pack_nf4<bf16>(from, blocks, bounds, packed, largest, threads);
  else if (format == kFloat16) pack_nf4<fp16>(from, blocks, bounds, packed, largest, threads);
  else pack_nf4<float>(from, blocks, bounds, packed, largest, threads);
}

// Arranges rows of nf4, a multiple of 32, as bitsandbytes computes with them on CPUs.
void vramble_arrange_nf4(const uint8_t* from, int64_t rows, int64_t width, uint8_t* to, int32_t threads) {
  vramble::arrange_nf4(from, rows, width, to, threads);
}

// What this build can do: 1 = nf4 as bitsandbytes packs it for CPUs, 2 = attention of chunks faster than torch's,
// 4 = products of some dozens of tokens.
int vramble_abilities() {
  int found = 0;
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  found |= 1 | 4;
#endif
#if defined(__AVX512F__)
  found |= 2;
#endif
  return found;
}

// Sizes of the structures, which native.py compares with its own.
int vramble_sizes(int32_t which) {
  switch (which) {
    case 0: return sizeof(vramble::Operation);
    case 1: return sizeof(vramble::Cache);
    case 2: return sizeof(vramble::Step);
    case 3: return sizeof(vramble::Chunk);
    default: return sizeof(vramble::Product);
  }
}
}
