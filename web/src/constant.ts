// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

/**
 * What the compiler says when a name is not written out in the source code.
 * Only constants become names, so that nothing a user typed can end up in one.
 */
export interface MustBeAConstant {
  readonly mustBeAConstant: never
}

/** What the compiler says when a feature or an action breaks the rule for names. */
export interface MustBeLettersDotsAndDashesAfterASmallLetter {
  readonly mustBeLettersDotsAndDashesAfterASmallLetter: never
}

/**
 * T if it is one constant, or one of several. A type that stands for texts
 * without end, such as `string` or `\`item-${string}\``, makes no key that must be
 * there; that tells it from a constant.
 */
export type Constant<T extends string> = T extends unknown ? ({} extends Record<T, 1> ? MustBeAConstant : T) : never

/**
 * T if it is a constant that may be a feature or an action: a small letter
 * first, then letters, dots and dashes. The backend refuses all others, and
 * names of more than 64 letters.
 */
export type Name<T extends string> = Constant<T> extends string ? Ruled<T> : MustBeAConstant

/** What an object of type T must be, so that its keys are constants and its values V. */
export type ConstantKeys<T, V> = {
  [K in keyof T]: K extends string ? (Constant<K> extends string ? V : MustBeAConstant) : never
}

type Ruled<T> = T extends `${Small}${infer Rest}`
  ? Rest extends ''
    ? MustBeLettersDotsAndDashesAfterASmallLetter
    : HasOnly<Rest, Small | Uppercase<Small> | '.' | '-'> extends true
      ? T
      : MustBeLettersDotsAndDashesAfterASmallLetter
  : MustBeLettersDotsAndDashesAfterASmallLetter

type HasOnly<T, Characters> = T extends `${infer First}${infer Rest}`
  ? First extends Characters
    ? HasOnly<Rest, Characters>
    : false
  : true

type Small =
  | 'a' | 'b' | 'c' | 'd' | 'e' | 'f' | 'g' | 'h' | 'i' | 'j' | 'k' | 'l' | 'm'
  | 'n' | 'o' | 'p' | 'q' | 'r' | 's' | 't' | 'u' | 'v' | 'w' | 'x' | 'y' | 'z'
