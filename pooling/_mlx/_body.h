// Pooling on a GPU: one thread makes a few cells of a canonical result (outer, D, H, W, inner), which differ in outer or inner
// alone: positions and windows are then found once for all of them.
//
// The text is Metal, CUDA C++ and C++17 at once. _kernel.py puts a dialect's few words and the #defines of one call before the
// first part; the second part is what MLX makes a kernel of. A mode comes in as its expressions (LIFT, JOIN, SECOND, FINISH, of
// _modes), never by name. The other #defines:
//
//   REDUCE       values of windows. INDEXED: with the flat index of their cell. LAST: this pass finishes the values.
//                CARRIED: an earlier pass has pooled other axes, and its results are what is read (likewise below)
//                ROUTED: no cell is in two windows, and each is given the gradient of its own where it has been chosen, or 0
//   PAIRWISE     sums in the pairwise order
//   SCALED       the p-norm: once more, divided by the largest cell, where its sum leaves float32's range
//   COUNT        the divisor: 0: given; 1: the product of the taps in the padded extent; 2: of those in the data
//   SCATTER      a cell's gradient from the windows that chose it, which are among those that cover it; or SORTED: in a list
//   WIDE         sums of |x|**p, or of what comes of them, in numbers that do not overflow. NORM: their root; SHARE: what a
//                window gives to each of its cells, by a factor that is the cell's own; SLOPE: multiplied by it
//   ALONG0 1 2   whether an axis is pooled here; if not, cell o is read
//   K0 K1 K2     taps of an axis: at most so many, in loops to unroll; 0: any number
//   DEPTH_FIRST  axes 0, 1, 2 are D, H, W and not W, H, D; 0 is the innermost loop
//   HIGH DEEP    whether the result has more than one cell along H, along D
//   PARTS        cells that a thread makes
//   GAPS         0: every axis slides, and nothing is dilated or spaced: no division is needed; 1: spaced; 2: anything
//
// Template arguments: positions P, working values V (unsigned where sums wrap), accumulators A, finished values F, results R.
// In Metal `kernel` is a keyword, and a pointer's type depends on the size of its array: so no function here takes a pointer.
// NVRTC contracts a * b + c: where the bits matter (values, divisors, gradients of choices) no sum has a product in it.
namespace pooling {

// For n / d without a division, which takes a GPU some twenty instructions: n * factor >> shift, where n is below 2**31.
struct Divisor {
  uint32_t factor, shift;
};

template <typename P>
FUNCTION P quotient(P n, P d, Divisor by) {
  return sizeof(P) > 4 ? n / d : P(uint64_t(n) * by.factor >> by.shift);
}

// A pooled axis: cells are read and outs made. Positions below reach are data, of which every (skip * factor)-th is a cell;
// dilation = step * factor, and inverse * step = 1 modulo skip. padded: where the padding ends. shared: windows share the axis.
template <typename P>
struct Axis {
  P cells, outs, shared, reach, padded, taps, stride, dilation, before, skip, step, factor, inverse;
  Divisor by_outs, by_skip;
};

// Where one window meets the cells of an axis: count times, at tap + i * skip and cell + i * step.
template <typename P>
struct Span {
  P count, cell, step, tap, skip;
};

template <typename P>
FUNCTION P modulo(P a, P n) {
  return (a % n + n) % n;
}

// How many taps of a window lie before a position.
template <typename P>
FUNCTION P taps_before(P limit, Axis<P> a, P start) {
  P room = limit - start;
  P taps = room <= 0 ? P(0) : GAPS < 2 ? room : (room - 1) / a.dilation + 1;
  return taps < a.taps ? taps : a.taps;
}

// How many cells lie before a position, where only every skip-th is one.
template <typename P>
FUNCTION P cells_before(P position, Axis<P> a) {
  return position <= 0 ? P(0) : GAPS ? quotient(position + a.skip - 1, a.skip, a.by_skip) : position;
}

template <typename P>
FUNCTION Span<P> meet(Axis<P> a, P o) {
  if (GAPS == 2 && a.shared) {
    P first = o * a.reach / a.outs, stop = ((o + 1) * a.reach + a.outs - 1) / a.outs;
    return Span<P>{stop - first, first, 1, 0, 1};
  }
  P start = o * a.stride - a.before, stop = taps_before(a.reach, a, start);
  if (GAPS < 2) {  // the cells at positions from `start` or 0 to before start + stop
    P cell = cells_before(start, a), count = cells_before(start + stop, a) - cell;
    return Span<P>{count > 0 ? count : P(0), cell, 1, cell * (GAPS ? a.skip : P(1)) - start, GAPS ? a.skip : P(1)};
  }
  P tap = start >= 0 ? P(0) : (a.dilation - 1 - start) / a.dilation;
  if (a.skip * a.factor > 1) {  // start + tap * dilation must be a cell's position
    if (start % a.factor != 0) return Span<P>{0, 0, 1, 0, 1};
    tap += modulo(modulo(-(start / a.factor), a.skip) * a.inverse % a.skip - tap, a.skip);
  }
  if (tap >= stop) return Span<P>{0, 0, 1, 0, 1};
  return Span<P>{(stop - 1 - tap) / a.skip + 1, (start + tap * a.dilation) / (a.skip * a.factor), a.step, tap, a.skip};
}

template <typename P>
FUNCTION bool holds(Span<P> s, P cell) {
  P ahead = cell - s.cell;
  return ahead >= 0 && ahead % s.step == 0 && ahead / s.step < s.count;
}

// An axis's part of the divisor.
template <typename P>
FUNCTION int64_t counted(Axis<P> a, P o) {
  return COUNT == 1 && !a.shared ? taps_before(a.padded, a, o * a.stride - a.before) : meet(a, o).count;
}

#if REDUCE
template <typename V>
FUNCTION V lift(V x, float p) {
  return LIFT;
}

template <typename F>
FUNCTION F finish(F s, F n, float p) {
  return FINISH;
}

template <typename V>
FUNCTION V join(V a, V b) {
  return JOIN;
}

#if INDEXED
// A value and the index of its cell; -1 where there is none.
template <typename V>
struct Choice {
  V value;
  int32_t at;
};

template <typename V>
FUNCTION bool second(V a, V b) {
  return SECOND;
}

template <typename V>
FUNCTION Choice<V> join(Choice<V> a, Choice<V> b) {
  return (b.at >= 0) & ((a.at < 0) | (b.value != b.value) | second(a.value, b.value)) ? b : a;  // & and |: without a branch
}
#endif

// The partial values of all parts.
template <typename E>
struct Parts {
  E of[PARTS];
};

template <typename E>
FUNCTION Parts<E> join(Parts<E> a, Parts<E> b) {
  Parts<E> both;
  for (uint32_t part = 0; part < PARTS; ++part) both.of[part] = join(a.of[part], b.of[part]);
  return both;
}

// Partial values joined from left to right.
template <typename E, int K>
struct Along {
  E all;
  FUNCTION Along(E identity, uint32_t) { all = identity; }
  FUNCTION void add(E value, uint32_t) { all = join(all, value); }
  FUNCTION E total() { return all; }
};

#if PAIRWISE
// Partial sums in the pairwise order of their taps: S(k) = S(h) + S(k - h), h the largest power of two below k.
// At tap t, level l holds the sum of the 2**l taps before t's own block of 2**l, if bit l of t is set and any of them had a
// value. On the way from one tap to another, all that lies below the highest bit in which they differ becomes one block.
template <typename E>
struct Along<E, 0> {
  E level[31], last;
  uint32_t held, now;
  FUNCTION Along(E identity, uint32_t tap) {
    last = identity;
    held = 0;
    now = tap;
  }
  FUNCTION void add(E value, uint32_t tap) {
    if (tap != now) {
      uint32_t top = 0;
      for (uint32_t change = tap ^ now; change > 1; change >>= 1, ++top)
        if (held >> top & 1) last = join(level[top], last);
      level[top] = last;
      held = (held >> top | 1) << top;
      now = tap;
    }
    last = value;
  }
  FUNCTION E total() {
    E sum = last;
    for (uint32_t l = 0; held >> l; ++l)
      if (held >> l & 1) sum = join(level[l], sum);
    return sum;
  }
};
#endif
#endif

#if WIDE
// A number part * 2**exponent: powers of norms leave float32's range where their products with powers of cells do not.
struct Wide {
  float part;
  int32_t exponent;
};

FUNCTION Wide wide(float x) {
  if (!(fabs(x) > 0 && fabs(x) < INFINITY)) return Wide{x, 0};
  int32_t up = fabs(x) < 1e-30f ? 64 : 0, e = int32_t(BITS(ldexp(x, up)) >> 23 & 255) - 127 - up;
  return Wide{ldexp(x, -e), e};
}

FUNCTION Wide times(Wide a, Wide b) {
  return Wide{a.part * b.part, a.exponent + b.exponent};
}

FUNCTION Wide plus(Wide a, Wide b) {
  if (a.part == 0) return b;
  if (b.part == 0) return a;
  int32_t e = a.exponent > b.exponent ? a.exponent : b.exponent, low = e - 999;
  return Wide{ldexp(a.part, (a.exponent > low ? a.exponent : low) - e) + ldexp(b.part, (b.exponent > low ? b.exponent : low) - e), e};
}

// x**q for x >= 0: 2**(q * exponent) and 2**(q * log2(part)), whole and fraction apart.
FUNCTION Wide power(Wide x, float q) {
  if (q == 0) return Wide{1, 0};
  if (!(x.part > 0 && x.part < INFINITY)) return Wide{pow(x.part, q), 0};
  Wide w = wide(x.part);
  w.exponent += x.exponent;
  if (q == 1) return w;
  if (q == 2) return times(w, w);
  if (q == 0.5f) {
    int32_t odd = w.exponent & 1;
    return Wide{sqrt(odd ? 2 * w.part : w.part), (w.exponent - odd) / 2};
  }
  float a = fmax(-1e8f, fmin(1e8f, q * float(w.exponent))), b = fmax(-1e8f, fmin(1e8f, q * log2(w.part)));
  return Wide{exp2(a - floor(a) + (b - floor(b))), int32_t(floor(a) + floor(b))};
}
#endif

}  // namespace pooling

// ---- the kernel ----
const uint32_t number = thread_position_in_grid.x;
if (number >= uint32_t(axes[0])) return;

#define AXIS(i) \
  pooling::Axis<P>{axes[i], axes[i + 1], axes[i + 2], axes[i + 3], axes[i + 4], axes[i + 5], axes[i + 6], \
                   axes[i + 7], axes[i + 8], axes[i + 9], axes[i + 10], axes[i + 11], axes[i + 12], DIVISOR(i + 13), \
                   DIVISOR(i + 15)}
#define DIVISOR(i) pooling::Divisor{uint32_t(axes[i]), uint32_t(axes[i + 1])}
const pooling::Axis<P> D = AXIS(7), H = AXIS(24), W = AXIS(41);
const P lanes = axes[1], inner = axes[2], made_apart = axes[3], read_apart = axes[4];
const P row = pooling::quotient(P(number), lanes, DIVISOR(5)), lane = P(number) - row * lanes, place = row * inner + lane;
const P plane = pooling::quotient(row, W.outs, W.by_outs), volume = HIGH ? pooling::quotient(plane, H.outs, H.by_outs) : plane;
const P outer = DEEP ? pooling::quotient(volume, D.outs, D.by_outs) : volume;
const P oW = row - plane * W.outs, oH = HIGH ? plane - volume * H.outs : 0, oD = DEEP ? volume - outer * D.outs : 0;
const P base = outer * D.cells * H.cells * W.cells * inner + lane;

const pooling::Axis<P> axis0 = DEPTH_FIRST ? D : W, axis1 = H, axis2 = DEPTH_FIRST ? W : D;
const P o0 = DEPTH_FIRST ? oD : oW, o1 = oH, o2 = DEPTH_FIRST ? oW : oD;
const P far = H.cells * W.cells, apart0 = DEPTH_FIRST ? far : 1, apart1 = W.cells, apart2 = DEPTH_FIRST ? 1 : far;

// The loop over the taps of an axis; where they are few the compiler knows how many, and unrolls it.
#define SPAN(i) const pooling::Span<P> span##i = ALONG##i ? pooling::meet(axis##i, o##i) : pooling::Span<P>{1, o##i, 1, 0, 1};
#define TAPS(i) \
  for (P tap##i = 0; tap##i < (K##i ? P(K##i) : span##i.count); ++tap##i) \
    if (K##i == 0 || tap##i < span##i.count)
#define TAP(i) uint32_t(span##i.tap + tap##i * span##i.skip)
#define CELL(i) (span##i.cell + tap##i * span##i.step) * apart##i
#define EACH for (uint32_t part = 0; part < PARTS; ++part)
SPAN(0)
SPAN(1)
SPAN(2)

#if REDUCE
#if INDEXED
typedef pooling::Choice<V> E;
const E identity = {V(IDENTITY), -1};
#else
typedef V E;
const E identity = V(IDENTITY);
#endif
pooling::Parts<E> nothing;
EACH nothing.of[part] = identity;
const float p = reals[0];
#if SCALED
V scale = 1;
for (bool again = false, done = true;; again = true) {
  V largest = 0;
#endif
  pooling::Along<pooling::Parts<E>, K2> all(nothing, uint32_t(span2.tap));
  TAPS(2) {
    pooling::Along<pooling::Parts<E>, K1> some(nothing, uint32_t(span1.tap));
    TAPS(1) {
      pooling::Along<pooling::Parts<E>, K0> few(nothing, uint32_t(span0.tap));
      TAPS(0) {
        const P index = CELL(0) + CELL(1) + CELL(2), first = base + index * inner;
        pooling::Parts<E> cells;
        EACH {
          const P at = first + P(part) * read_apart;
          V value = V(READ(x[at]));
#if SCALED
          largest = fabs(value) > largest ? fabs(value) : largest;
          value = again ? value / scale : value;
#endif
#if INDEXED && CARRIED
          cells.of[part] = E{pooling::lift(value, p), chosen[at]};
#elif INDEXED
          cells.of[part] = E{pooling::lift(value, p), int32_t(index)};
#else
          cells.of[part] = pooling::lift(value, p);
#endif
        }
        few.add(cells, TAP(0));
      }
      some.add(few.total(), TAP(1));
    }
    all.add(some.total(), TAP(2));
  }
  const pooling::Parts<E> found = all.total();
#if ROUTED
  // A window's cells, and those behind it that are in none: up to the next window's, or to the end.
  // Every window holds a position of the data, as there is less padding than a window reaches: so they all begin before the end,
  // and where they are apart, all but the first behind the begin.
#define FIRST(a, o) (o == 0 ? P(0) : o * a.stride - a.before)
#define BEHIND(a, o) (o + 1 == a.outs ? a.cells : (o + 1) * a.stride - a.before)
  A more[PARTS];
  EACH more[part] = A(0) + A(g[place + P(part) * made_apart]);
  for (P d = FIRST(D, oD); d < BEHIND(D, oD); ++d)
    for (P h = FIRST(H, oH); h < BEHIND(H, oH); ++h)
      for (P w = FIRST(W, oW); w < BEHIND(W, oW); ++w) {
        const P index = (d * H.cells + h) * W.cells + w, at = base + index * inner;
        EACH y[at + P(part) * read_apart] = R(found.of[part].at == index ? more[part] : A(0));
      }
#else
#if LAST
  const int64_t taps = COUNT ? pooling::counted(D, oD) * pooling::counted(H, oH) * pooling::counted(W, oW) : 0;
#endif
  EACH {
    const P at = place + P(part) * made_apart;
#if INDEXED
    const V value = found.of[part].value;
    indices[at] = found.of[part].at;
#else
    const V value = found.of[part];
#endif
#if LAST
    F result = pooling::finish(F(A(value)), COUNT ? F(taps) : F(reals[1]), p);
#else
    V result = value;
#endif
#if SCALED
    done = again || value != value || (value > 1e-18f && value < INFINITY) || !(largest > 0 && largest < INFINITY);
    if (!done) {
      scale = largest;
      break;
    }
    result = again ? scale * result : result;
#endif
    y[at] = R(result);
  }
#if SCALED
  if (done) return;
}
#endif
#endif
#endif

#if SORTED
// The keys of a plane are cell * windows + window, sorted: each cell's windows stand together, in row-major order.
const P windows = D.cells * H.cells * W.cells;
const int64_t first = int64_t((oD * H.outs + oH) * W.outs + oW) * windows;
P low = 0, high = windows;
while (low < high) {
  const P middle = low + (high - low) / 2;
  if (keys[base + middle * inner] < first) low = middle + 1;
  else high = middle;
}
A sum = 0;
for (; low < windows && keys[base + low * inner] < first + windows; ++low) {
  const P window = P(keys[base + low * inner] - first);
  const P w = window % W.cells, h = window / W.cells % H.cells, d = window / W.cells / H.cells;
  if (pooling::holds(span0, w) && pooling::holds(span1, h) && pooling::holds(span2, d)) sum = sum + A(g[base + window * inner]);
}
y[place] = R(sum);
#endif

#if SCATTER
// Windows in row-major order, left to right.
const P own = (oD * H.outs + oH) * W.outs + oW;
A sum[PARTS];
EACH sum[part] = 0;
TAPS(2) TAPS(1) TAPS(0) {
  const P first = base + (CELL(0) + CELL(1) + CELL(2)) * inner;
  EACH {
    const P at = first + P(part) * read_apart;
    const A more = sum[part] + A(g[at]);  // read whether it is wanted or not: a branch would wait for `chosen`
    sum[part] = chosen[at] == own ? more : sum[part];
  }
}
EACH y[place + P(part) * made_apart] = R(sum[part]);
#endif

#if WIDE
const float p = reals[0];
pooling::Wide all = {0, 0};
TAPS(2) TAPS(1) TAPS(0) {
  const P at = base + (CELL(0) + CELL(1) + CELL(2)) * inner;
#if CARRIED
  all = pooling::plus(all, pooling::Wide{part[at], exponent[at]});
#else
  all = pooling::plus(all, pooling::power(pooling::wide(fabs(float(x[at]))), p));
#endif
}
#if NORM
const pooling::Wide norm = pooling::power(all, 1 / p);
y[place] = R(ldexp(norm.part, norm.exponent));
#elif SLOPE
const float own = float(x[place]);
const pooling::Wide result = pooling::times(pooling::power(pooling::wide(fabs(own)), p - 1), all);
const bool none = own == 0 || pooling::counted(D, oD) * pooling::counted(H, oH) * pooling::counted(W, oW) == 0;
const float size = none ? 0.0f : own == own ? ldexp(result.part, result.exponent) : own;
y[place] = R(own < 0 ? -size : size);
#else
#if SHARE
if (all.part != 0) all = pooling::times(pooling::wide(float(g[place])), pooling::power(all, (1 - p) / p));
#endif
parts[place] = all.part;
exponents[place] = all.exponent;
#endif
#endif
