// SPDX-License-Identifier: Apache-2.0
// Elementary functions over any vector type V (vector_math_avx2.h, vector_math_avx512.h), so that
// every ISA computes the same bits. Pure functions.
//
// V offers F, Set, Add, Sub, Mul, Div, Fmadd(a, b, c) = a * b + c, Fnmadd = -a * b + c, both rounded
// once, Max and Min (the second operand when either is NaN), Abs, Round (to nearest even),
// ScaleByPowerOfTwo(a, n) = a 2^n and SelectNegative(x, negative, other).
#pragma once

#define TRIREME_ALWAYS_INLINE inline __attribute__((always_inline))

namespace trireme::kernels {

// e^x, 1 ulp or so; 0 for -inf, infinity from 88.73 on, NaN for NaN.
template <typename V>
TRIREME_ALWAYS_INLINE typename V::F VectorExp(typename V::F x) {
  using F = typename V::F;
  // Past the bounds the scaling below gives 0 and infinity by itself; they keep n in its range.
  x = V::Min(V::Set(89.0f), V::Max(V::Set(-104.0f), x));
  const F n = V::Round(V::Mul(x, V::Set(1.44269504f)));
  // ln 2 in two parts; the first has enough zero bits for n * it to be exact.
  F r = V::Fnmadd(n, V::Set(0.693359375f), x);
  r = V::Fmadd(n, V::Set(2.12194440e-4f), r);
  // e^r = 1 + r + r^2 q(r); q is a minimax fit on |r| <= ln(2) / 2, error 3e-9.
  F q = V::Set(0.0013814466f);
  q = V::Fmadd(q, r, V::Set(0.0083687808f));
  q = V::Fmadd(q, r, V::Set(0.0416683927f));
  q = V::Fmadd(q, r, V::Set(0.1666651964f));
  q = V::Fmadd(q, r, V::Set(0.4999999404f));
  const F tail = V::Fmadd(V::Mul(r, r), q, r);
  return V::ScaleByPowerOfTwo(V::Add(tail, V::Set(1.0f)), n);
}

// 1 / (1 + e^-x).
template <typename V>
TRIREME_ALWAYS_INLINE typename V::F VectorSigmoid(typename V::F x) {
  const typename V::F one = V::Set(1.0f);
  return V::Div(one, V::Add(one, VectorExp<V>(V::Sub(V::Set(0.0f), x))));
}

// An odd polynomial where |x| is small, 1 - 2 / (e^2x + 1) elsewhere: no cancellation in either.
template <typename V>
TRIREME_ALWAYS_INLINE typename V::F VectorTanh(typename V::F x) {
  using F = typename V::F;
  const F one = V::Set(1.0f);
  const F magnitude = V::Abs(x);
  const F e = VectorExp<V>(V::Add(magnitude, magnitude));
  const F large = V::Sub(one, V::Div(V::Set(2.0f), V::Add(e, one)));
  const F square = V::Mul(x, x);
  F p = V::Set(-0.0056668599f);
  p = V::Fmadd(p, square, V::Set(0.0206060763f));
  p = V::Fmadd(p, square, V::Set(-0.0537299775f));
  p = V::Fmadd(p, square, V::Set(0.1333133131f));
  p = V::Fmadd(p, square, V::Set(-0.3333327770f));
  const F small = V::Fmadd(V::Mul(magnitude, square), p, magnitude);
  const F result = V::SelectNegative(V::Sub(magnitude, V::Set(0.625f)), small, large);
  return V::SelectNegative(x, V::Sub(V::Set(0.0f), result), result);
}

template <typename V>
TRIREME_ALWAYS_INLINE typename V::F VectorSilu(typename V::F x) {
  return V::Div(x, V::Add(V::Set(1.0f), VectorExp<V>(V::Sub(V::Set(0.0f), x))));
}

// x Phi(x), Phi the normal distribution, from erfc(z) = e^(-z^2) t P(t), t = 1 / (1 + 0.35 z) for
// z >= 0: P is a minimax fit on 0 <= z <= 10.5, relative error 8e-9.
template <typename V>
TRIREME_ALWAYS_INLINE typename V::F VectorGelu(typename V::F x) {
  using F = typename V::F;
  const F z = V::Mul(V::Abs(x), V::Set(0.7071067812f));
  const F t = V::Div(V::Set(1.0f), V::Fmadd(z, V::Set(0.35f), V::Set(1.0f)));
  F p = V::Set(0.0390820764f);
  p = V::Fmadd(p, t, V::Set(-0.1627322943f));
  p = V::Fmadd(p, t, V::Set(0.1906869262f));
  p = V::Fmadd(p, t, V::Set(-0.0404337123f));
  p = V::Fmadd(p, t, V::Set(0.0980073586f));
  p = V::Fmadd(p, t, V::Set(0.1398970187f));
  p = V::Fmadd(p, t, V::Set(0.1534082443f));
  p = V::Fmadd(p, t, V::Set(0.1874022633f));
  p = V::Fmadd(p, t, V::Set(0.1972018480f));
  p = V::Fmadd(p, t, V::Set(0.1974803209f));
  const F tail = V::Mul(V::Mul(t, p), VectorExp<V>(V::Sub(V::Set(0.0f), V::Mul(z, z))));
  // erfc(-x / sqrt 2); as a factor, so that infinity meets 2 and not 0.
  const F erfc = V::SelectNegative(x, tail, V::Sub(V::Set(2.0f), tail));
  return V::Mul(V::Mul(x, V::Set(0.5f)), erfc);
}

// x / 2 (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <typename V>
TRIREME_ALWAYS_INLINE typename V::F VectorGeluTanh(typename V::F x) {
  using F = typename V::F;
  const F inner = V::Fmadd(V::Mul(x, x), V::Set(0.0713548163f), V::Set(1.5957691216f));
  return V::Mul(x, VectorSigmoid<V>(V::Mul(x, inner)));
}

}  // namespace trireme::kernels
