/**
 * The words that answers hold beside mathematics: units, functions, Greek letters, signs of Unicode.
 *
 * Units are dropped after a value, as by the graders of Hendrycks et al. (arXiv 2103.03874) and Math-Verify, so that
 * `5 cm` is 5, and 5 m too. A unit of one letter is one only inside \text{...}.
 */

/** Words that are dropped after a value even where no \text{...} stands around them; singular. */
const UNITS = new Set(
  (
    'degree deg radian rad cm mm km nm centimeter centimetre millimeter millimetre kilometer kilometre meter metre ' +
    'inch foot feet ft yard yd mile mi mph kph second sec minute min hour hr day week month year cent dollar euro ' +
    'pound lb lbs ounce oz gram kg mg kilogram liter litre ml gallon quart pint unit square sq cubic usd percentage ' +
    'per people ways way point student apple egg book times hz newton joule watt volt'
  ).split(' '),
);

/** A word after a value that says nothing about the value. */
export function isUnit(word: string): boolean {
  const small = word.toLowerCase();
  return UNITS.has(small) || UNITS.has(small.replace(/s$/, '')) || UNITS.has(small.replace(/es$/, ''));
}

export const SCALES: ReadonlyMap<string, bigint> = new Map([
  ['hundred', 100n],
  ['thousand', 1000n],
  ['million', 10n ** 6n],
  ['billion', 10n ** 9n],
  ['trillion', 10n ** 12n],
]);

/** Functions of one argument, by how they may be written. */
export const FUNCTIONS: ReadonlyMap<string, string> = new Map([
  ...[
    'sin',
    'cos',
    'tan',
    'cot',
    'sec',
    'csc',
    'sinh',
    'cosh',
    'tanh',
    'exp',
    'ln',
    'log',
    'abs',
    'floor',
  ].map((name) => [name, name] as const),
  ...['sin', 'cos', 'tan', 'cot'].flatMap((name) => [
    [`arc${name}`, `arc${name}`] as const,
    [`a${name}`, `arc${name}`] as const,
  ]),
  ['ceil', 'ceil'],
  ['lg', 'log'],
  ['det', 'det'],
  ['arg', 'arg'],
  ['gcd', 'gcd'],
  ['lcm', 'lcm'],
  ['max', 'max'],
  ['min', 'min'],
  ['deg', 'deg'],
  ['Re', 'Re'],
  ['Im', 'Im'],
]);

export const GREEK: ReadonlySet<string> = new Set(
  (
    'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau ' +
    'upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar'
  ).split(' '),
);

/** Signs that are read as others; what they stand for is read in turn. */
export const UNICODE: ReadonlyMap<string, string> = new Map([
  ...'−–—‐‑'.split('').map((sign) => [sign, '-'] as const),
  ...'×⋅·∙•∗'.split('').map((sign) => [sign, '*'] as const),
  ...'′’'.split('').map((sign) => [sign, "'"] as const),
  ...'（［｛'.split('').map((sign, i) => [sign, '([{'.charAt(i)] as const),
  ...'）］｝'.split('').map((sign, i) => [sign, ')]}'.charAt(i)] as const),
  ...'⁰¹²³⁴⁵⁶⁷⁸⁹'.split('').map((sign, i) => [sign, `^{${i}}`] as const),
  ...'₀₁₂₃₄₅₆₇₈₉'.split('').map((sign, i) => [sign, `_{${i}}`] as const),
  ['÷', '/'],
  ['∕', '/'],
  ['⁄', '/'],
  ['，', ','],
  ['：', ':'],
  ['＝', '='],
  ['％', '%'],
  ['½', ' \\frac{1}{2}'],
  ['⅓', ' \\frac{1}{3}'],
  ['⅔', ' \\frac{2}{3}'],
  ['¼', ' \\frac{1}{4}'],
  ['¾', ' \\frac{3}{4}'],
  ['√', '\\sqrt '],
  ['∛', '\\sqrt[3]'],
  ['π', '\\pi '],
  ['θ', '\\theta '],
  ['α', '\\alpha '],
  ['β', '\\beta '],
  ['γ', '\\gamma '],
  ['λ', '\\lambda '],
  ['μ', '\\mu '],
  ['φ', '\\phi '],
  ['ω', '\\omega '],
  ['∞', '\\infty '],
  ['°', '\\degree '],
  ['≤', '\\le '],
  ['≥', '\\ge '],
  ['≠', '\\ne '],
  ['≈', '\\approx '],
  ['∪', '\\cup '],
  ['∩', '\\cap '],
  ['∈', '\\in '],
  ['∅', '\\emptyset '],
  ['±', '\\pm '],
  ['∓', '\\mp '],
  ['ℝ', '\\mathbb{R}'],
  ['⟨', '\\langle '],
  ['⟩', '\\rangle '],
]);
