import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readings, sameMathAnswer } from './math-answer.ts';

/** Golds of the kinds that MATH has. */
const GOLDS = [
  '\\left( 3, \\frac{\\pi}{2} \\right)',
  'p - q',
  '\\frac{14}{3}',
  '\\text{Evelyn}',
  '90^\\circ',
  '3\\sqrt{13}',
  '6 - 5i',
  'x=5',
  '1,-2',
  '52_8',
  'x^5 - x^4 + x^3 - x^2 + x - 1',
  '\\cot x',
  '1 \\pm \\sqrt{19}',
  '\\begin{pmatrix} -1/3 \\\\ 2/3 \\\\ 5/3 \\end{pmatrix}',
  '(3,4]',
  '.0000672',
  '10,\\!080',
  '\\text{(C)}',
  '\\$32,\\!348',
  '864 \\mbox{ inches}^2',
  '1\\frac{4}{5}',
  '(-\\infty, 2) \\cup (3, \\infty)',
  'x \\in [-2,7]',
  '\\{1\\pm\\sqrt{5},-2\\}',
  'y = 2x + 3',
];

const SAME: readonly (readonly [string, string])[] = [
  ['\\frac{1}{2}', '0.5'],
  ['1/2', '\\dfrac12'],
  ['2/4', '1/2'],
  ['1{,}000', '1000'],
  ['10,\\!080', '10080'],
  ['\\$36', '36'],
  ['36 dollars', '36'],
  ['5\\text{ cm}^2', '5'],
  ['5 cm', '5'],
  ['5 cm^2', '5 \\text{ cm}^2'],
  ['90^\\circ', '90'],
  ['90°', '90'],
  ['50\\%', '50'],
  ['50\\%', '0.5'],
  ['50%', '\\frac12'],
  ['50 percent', '50\\%'],
  ['1\\frac{4}{5}', '9/5'],
  ['1 4/5', '1.8'],
  ['137 \\frac{1}{2}', '137.5'],
  ['\\sqrt{12}', '2\\sqrt3'],
  ['\\frac{1}{\\sqrt{3}}', '\\frac{\\sqrt{3}}{3}'],
  ['sqrt(12)', '2*sqrt(3)'],
  ['\\sqrt[3]{54}', '3\\sqrt[3]{2}'],
  ['2^{1/3}\\cdot 3', '3\\sqrt[3]{2}'],
  ['\\sqrt{3+2\\sqrt2}', '1+\\sqrt2'],
  ['3\\pi', '\\pi\\cdot3'],
  ['3π', '3\\pi'],
  ['x=5', '5'],
  ['5', 'x = 5'],
  ['y=2x+3', '2x+3'],
  ['y=2x+3', '2x-y+3=0'],
  ['x\\in[-2,7]', '[-2,7]'],
  ['-2\\le x\\le 7', '[-2,7]'],
  ['x>5', '(5,\\infty)'],
  ['x>5', '5<x'],
  ['x \\geq 5', 'x>=5'],
  ['1,-2', '-2,1'],
  ['1 \\pm \\sqrt{19}', '1+\\sqrt{19}, 1-\\sqrt{19}'],
  ['\\{1\\pm\\sqrt{5},-2\\}', '-2, 1-\\sqrt5, 1+\\sqrt5'],
  ['x=1 \\text{ or } x=2', '1,2'],
  ['3, 5, 7', '7, 5, 3'],
  ['(3, \\pi/2)', '\\left( 3, \\frac{\\pi}{2} \\right)'],
  ['(a+5)(b+2)', 'ab+2a+5b+10'],
  ['x^3+3x-6', '-6+3x+x^3'],
  ['\\cot x', '\\frac{\\cos x}{\\sin x}'],
  ['2 \\sin b \\cos a', '\\sin(a+b)-\\sin(a-b)'],
  ['\\frac{11+9a}{20}', '\\frac{9a+11}{20}'],
  ['\\frac{20000}{\\pi}', '20000/\\pi'],
  ['\\text{(C)}', 'C'],
  ['\\text{(C)}', '(C)'],
  ['C', '\\textbf{(C)}'],
  ['\\text{(B)}', '\\textbf{(B)}\\ 12'],
  ['\\text{Evelyn}', 'Evelyn'],
  ['\\text{Evelyn}', 'evelyn'],
  ['\\text{odd}', 'odd'],
  ['even', '\\text{even}'],
  [
    '\\begin{pmatrix} -1/3 \\\\ 2/3 \\\\ 5/3 \\end{pmatrix}',
    '\\begin{bmatrix} -\\frac13 \\\\ \\frac23 \\\\ \\frac{5}{3} \\end{bmatrix}',
  ],
  [
    '\\frac13\\begin{pmatrix} -1\\\\2\\\\5\\end{pmatrix}',
    '\\begin{pmatrix} -1/3 \\\\ 2/3 \\\\ 5/3 \\end{pmatrix}',
  ],
  ['52_8', '52_{8}'],
  ['42_{10}', '42'],
  ['(-\\infty, 2) \\cup (3, \\infty)', '(3,\\infty)\\cup(-\\infty,2)'],
  ['(-\\infty,2)\\cup(3,\\infty)', '(-oo,2) U (3,oo)'],
  ['x<2 \\text{ or } x>3', '(-\\infty,2)\\cup(3,\\infty)'],
  ['0.\\overline{3}', '1/3'],
  ['0.1\\overline{6}', '1/6'],
  ['.5', '0.5'],
  ['5.0', '5'],
  ['1.2\\times 10^{5}', '120000'],
  ['5 million', '5000000'],
  ['1.5e3', '1500'],
  ['1.5e-3', '0.0015'],
  ['2e3', '2000'],
  ['2e-3', '2e - 3'],
  ['7:32', '7/32'],
  ['1:2:3', '2:4:6'],
  ['|x|', '\\sqrt{x^2}'],
  ['\\log_2 8', '3'],
  ['\\sin 30', '\\sin(30)'],
  ['\\cos\\frac{\\pi}{3}', '\\frac12'],
  ['e^{2}', 'e\\cdot e'],
  ['2^{n}\\cdot 2', '2^{n+1}'],
  ['n!', 'n!'],
  ['\\binom{5}{2}', '10'],
  ['5!', '120'],
  ['\\infty', '+\\infty'],
  ['-\\infty', '-\\infty'],
  ['6-5i', '-5i+6'],
  ['\\frac{1}{1+i}', '\\frac{1-i}{2}'],
  ['x^{-1}', '\\frac1x'],
  ['\\emptyset', '\\{\\}'],
  ['f(2) < f(1) < f(4)', 'f(4)>f(1)>f(2)'],
  ['(x,y)=(5,8)', '(5,8)'],
  ['x=5,y=8', '(5,8)'],
  ['a=4,-8,-10', '-10,-8,4'],
  ['12\\text{ and }13', '12, 13'],
  ['\\left\\{1,2\\right\\}', '{2,1}'],
  ['5x - 7y + 11z + 4 = 0', '-5x+7y-11z-4=0'],
  ['2x \\text{ cm}', '2x'],
  ['\\mathbb{R}', '(-\\infty,\\infty)'],
  ['\\tfrac{3}{4}', '0.75'],
  ['3\\frac{1}{2}\\text{ inches}', '3.5'],
  ['\\frac{\\sqrt{21}}{5}', '\\sqrt{\\frac{21}{25}}'],
  ['1000', '1 000'],
  ['-\\frac{3}{8}', '\\frac{-3}{8}'],
  ['-\\frac{3}{8}', '-0.375'],
  ['−5', '-5'],
  ['\\$18.90', '18.9'],
  ['18.90', '\\$18.90'],
  ['8n^2+4n+1', '1 + 4n + 8n^2'],
  ['\\text{6 and 8}', '6, 8'],
  ['\\boxed{5}', '5'],
  ['p - q', '-(q-p)'],
  ['\\frac{\\pi r}{h+r}', '\\frac{r\\pi}{r+h}'],
  ['x \\approx 11', '11'],
  ['\\frac{1}{2} \\approx 0.5', '0.5'],
  ['10 \\text{ hours}', '10'],
  ['5 \\text{ m/s}', '5'],
  ['5 m/s', '5m/s'],
  ['k = \\frac{3}{2}', '1.5'],
  ['(1,2),(3,4)', '(3,4), (1,2)'],
  ['\\frac{x+2}{x^2-4}', '\\frac{1}{x-2}'],
  ['\\sqrt{xy}', '\\sqrt{x}\\sqrt{y}'],
  ['2\\sqrt{x+1}', '\\sqrt{4x+4}'],
  ['\\langle 1,2,3\\rangle', '(1,2,3)'],
  ['11\\sqrt2', '11 \\sqrt{2}'],
  ['\\text{ellipse}', 'an ellipse'],
  ['\\text{ellipse}', '\\text{An ellipse}'],
  ['90\\text{ degrees}', '90^{\\circ}'],
  ['1, 2, 3', '\\{1,2,3\\}'],
  ['4\\text{ or }5', '4,5'],
  ['\\tan^{-1} 1', '\\arctan 1'],
  ['2\\%', '2 \\%'],
  ['25 square units', '25'],
  ['x = -5, 3', '-5, 3'],
  ['\\frac 59', '5/9'],
  ['\\frac9{19}', '9/19'],
  ['2k', 'k*2'],
  ['(2,12) \\cup (12,102)', '(2,12)\\cup(12,102)'],
  ['6+9i', '9i+6'],
  ['\\mathrm{e}', 'e'],
  ['10^{-3}', '0.001'],
  ['\\sqrt{-4}', '2i'],
  ['x \\in [-2,7]', '-2 \\le x \\le 7'],
  ['{1,3}', '(1,3)'],
  ['3{:}45', '3:45'],
  ['10101_{\\text{two}}', '10101_2'],
  [
    '\\left[\\begin{array}{cc}1 & 2 \\\\ 3 & 4\\end{array}\\right]',
    '\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}',
  ],
  ['\\ln{(9)}^{2}', '4\\ln(3)^2'],
  ['$1$ and $2$ or $3$', '1,2,3'],
  ['6-5i', '6 - 5 \\mathrm{i}'],
];

const DIFFERENT: readonly (readonly [string, string])[] = [
  ['30', '5\\text{ feet }6\\text{ inches}'],
  ['11', '5\\text{ feet} + 6\\text{ inches}'],
  ['900', '18 dollars 50 cents'],
  ['6', '18\\text{ m}/3'],
  ['5', '5\\text{ or more}'],
  ['5', '5\\text{ is wrong}'],
  ['1,000', '1, 0'],
  ['4E3_{16}', '4000'],
  ['0.333', '1/3'],
  ['0.333333', '1/3'],
  ['3.14', '\\pi'],
  ['1.41421356237', '\\sqrt2'],
  ['(3,4]', '(3,4)'],
  ['(3,4)', '[3,4]'],
  ['(1,2)', '(2,1)'],
  ['1,2', '1,3'],
  ['1,2', '1,2,3'],
  ['x=5', 'x=6'],
  ['x=5', 'y=5'],
  ['52_8', '52_7'],
  ['204_5', '204'],
  ['52_8', '42'],
  ['\\text{(C)}', '\\text{(D)}'],
  ['\\text{Evelyn}', '\\text{Carla}'],
  ['x>5', 'x<5'],
  ['x>5', 'x\\ge5'],
  ['(a+5)(b+2)', 'ab+2a+5b+11'],
  ['\\sin x', '\\cos x'],
  ['\\sqrt2', '\\sqrt3'],
  ['6-5i', '6+5i'],
  ['-5', '5'],
  ['90^\\circ', '\\frac{\\pi}{3}'],
  ['x^2', 'x^3'],
  ['x', 'y'],
  ['\\infty', '-\\infty'],
  ['\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\begin{pmatrix}2\\\\1\\end{pmatrix}'],
  ['\\begin{pmatrix}1 & 2\\end{pmatrix}', '\\begin{pmatrix}1\\\\2\\end{pmatrix}'],
  ['(0,9)\\cup(9,36)', '(0,36)'],
  ['2k+2', '2k'],
  ['\\frac{1}{2}', '2'],
  ['7 = 11a+c', '11a+c'],
  ['1000', '1001'],
  ['10^{20}', '10^{20}+1'],
  ['|x|', 'x'],
  ['1 \\pm 2', '3'],
  ['', '5'],
  ['even', 'odd'],
  ['\\sin(1)', '0.8414709848'],
  ['3R^2', '3r^2'],
  ['y=2x', 'y=-2x'],
  ['1,234', '1,235'],
  ['12', '1,2'],
  ['\\{1,2\\}', '(1,2)'],
  ['x \\ne 3', 'x=3'],
  ['(1,234)', '(1,235)'],
  ['\\text{5 apples}', '\\text{6 apples}'],
  ['\\sqrt{x^2}', 'x'],
  ['0.5', '5\\%'],
  ['\\pi', 'e'],
  ['x+y', 'xy'],
  ['2^{10}', '20'],
  ['a_1', 'a_2'],
  ['10:30', '10:45'],
  ['x^2+1=0', 'x^2=1'],
  ['y \\in [-2,7]', '-2 \\le x \\le 7'],
  ['\\{1,3\\}', '(1,3)'],
  ['1,22', '1.22'],
];

describe('sameMathAnswer', () => {
  test.each(SAME)('%s is %s', (a, b) => {
    expect([sameMathAnswer(a, b), sameMathAnswer(b, a)]).toEqual([true, true]);
  });

  test.each(DIFFERENT)('%s is not %s', (a, b) => {
    expect([sameMathAnswer(a, b), sameMathAnswer(b, a)]).toEqual([false, false]);
  });

  test('every gold can be read and is itself, no gold is another', () => {
    for (const gold of GOLDS) {
      expect(readings(gold).length, gold).toBeGreaterThan(0);
      expect(GOLDS.filter((other) => sameMathAnswer(gold, other))).toEqual([gold]);
    }
  });

  test('fractions are equal exactly when their cross products are', () => {
    const whole = fc.integer({ min: -999, max: 999 });
    const divisor = fc.integer({ min: 1, max: 999 });
    fc.assert(
      fc.property(whole, divisor, whole, divisor, (a, b, c, d) => {
        expect(sameMathAnswer(`\\frac{${a}}{${b}}`, `${c}/${d}`)).toBe(a * d === c * b);
        expect(sameMathAnswer(`\\frac{${a * d}}{${b * d}}`, `${a}/${b}`)).toBe(true);
      }),
    );
  });

  test('decimals are exact', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -99_999, max: 99_999 }),
        fc.integer({ min: 0, max: 4 }),
        (digits, places) => {
          const decimal = (digits / 10 ** places).toFixed(places);
          expect(sameMathAnswer(decimal, `\\dfrac{${digits}}{${10 ** places}}`)).toBe(true);
          expect(sameMathAnswer(`${decimal}${places === 0 ? '.' : ''}1`, decimal)).toBe(false);
        },
      ),
    );
  });

  test('a gold with a digit changed is another answer', () => {
    fc.assert(
      fc.property(fc.constantFrom(...GOLDS), fc.nat(20), fc.integer({ min: 1, max: 8 }), (gold, at, step) => {
        const places = [...gold.matchAll(/[1-9]/g)].map(({ index }) => index);
        const place = places[at % places.length];
        if (place === undefined) return;
        const digit = ((Number(gold[place]) - 1 + step) % 9) + 1;
        const mutated = `${gold.slice(0, place)}${digit}${gold.slice(place + 1)}`;
        // The square of a unit is dropped with it.
        if (gold.includes('inches') && place > gold.indexOf('inches')) return;
        expect(sameMathAnswer(gold, mutated), `${gold} and ${mutated}`).toBe(false);
      }),
    );
  });

  test('a polynomial equals its factors multiplied out, and not with another constant', () => {
    const root = fc.integer({ min: -9, max: 9 });
    fc.assert(
      fc.property(root, root, root, (a, b, c) => {
        const factored = `(x - ${paren(a)})(x - ${paren(b)})(x - ${paren(c)})`;
        const [s, p, q] = [a + b + c, a * b + b * c + c * a, a * b * c];
        const expanded = `x^3 - ${paren(s)}x^2 + ${paren(p)}x - ${paren(q)}`;
        expect(sameMathAnswer(factored, expanded)).toBe(true);
        expect(sameMathAnswer(factored, `${expanded} + 1`)).toBe(false);
      }),
    );
  });

  test('square factors come out of roots', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 60 }), fc.integer({ min: 2, max: 60 }), (k, n) => {
        expect(sameMathAnswer(`\\sqrt{${k * k * n}}`, `${k}\\sqrt{${n}}`)).toBe(true);
        expect(sameMathAnswer(`\\sqrt{${k * k * n + 1}}`, `${k}\\sqrt{${n}}`)).toBe(false);
      }),
    );
  });

  test('thousands of mangled answers are judged alike both ways, without an error', () => {
    const piece = fc.constantFrom(
      ...GOLDS,
      ...'\\ { } ( ) [ ] | , ; : = < > + - * / ^ _ ! % & $ 0 1 2 9 . x i e'.split(' '),
      ...String.raw`\frac \sqrt \pm \mp \text{ \begin{pmatrix} \end{pmatrix} \\ \cup \infty \sin \log_ \overline{ ^{-1}} ^\circ \le \in`.split(
        ' ',
      ),
    );
    const mangled = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(
        mangled,
        mangled,
        (a, b) => sameMathAnswer(a, a) && sameMathAnswer(a, b) === sameMathAnswer(b, a),
      ),
      { numRuns: 2000 },
    );
  });

  test('what is long or deep is not read, and is still itself', () => {
    for (const text of [
      '('.repeat(5000),
      '9'.repeat(5000),
      '\\sqrt{'.repeat(900),
      '2^'.repeat(400) + '9',
      '{'.repeat(90) + '5' + '}'.repeat(90),
    ]) {
      expect(sameMathAnswer(text, text)).toBe(true);
      expect(sameMathAnswer(text, '5')).toBe(false);
    }
  });

  test('numbers too large to be worked out differ from small ones', () => {
    expect(sameMathAnswer('10^{10^{10}}', '10^{10^{10}}')).toBe(true);
    expect(sameMathAnswer('9^{9^{9^9}}', '9')).toBe(false);
    expect(sameMathAnswer('(x+1)^{1000}', 'x')).toBe(false);
    expect(sameMathAnswer('1/0', '0')).toBe(false);
  });
});

function paren(value: number): string {
  return `(${value})`;
}
