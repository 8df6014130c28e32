/**
 * Arbitrary text for property tests: control characters, ASCII, the rest of the basic plane and what is above it, each
 * often. Never a lone surrogate. fast-check's own `unit: 'binary'` covers the same and takes seconds to build.
 */
import * as fc from 'fast-check';

export function anyText(limits: { minLength?: number; maxLength?: number } = {}): fc.Arbitrary<string> {
  const codePoint = fc.oneof(
    fc.integer({ min: 0, max: 0x9f }),
    fc.integer({ min: 0xa0, max: 0xd7ff }),
    fc.integer({ min: 0xe000, max: 0x10ffff }),
    fc.constantFrom(0x2028, 0x2029, 0xfeff),
  );
  return fc.string({ unit: codePoint.map((code) => String.fromCodePoint(code)), ...limits });
}
