/**
 * A template as tokens, with the white space rules of Jinja's trim_blocks and lstrip_blocks.
 *
 * Text outside of tags is cut here: the line end after a block, the blanks before one that starts its line, all white
 * space on the side of a minus sign, none on the side of a plus sign. Comments and `raw` end here, too.
 *
 * Source: Jinja's documentation (template designer: whitespace control, escaping, literals) and Python's for strings.
 */
import { TemplateError } from './errors.ts';
import { WHITE_SPACE, trimEnd } from './white-space.ts';

export type TokenType =
  | 'text'
  | 'begin-block'
  | 'end-block'
  | 'begin-print'
  | 'end-print'
  | 'name'
  | 'string'
  | 'int'
  | 'float'
  | 'operator'
  | 'end';

export interface Token {
  type: TokenType;
  /** A string literal is unescaped, a number has no underscores. */
  value: string;
  /** From 1. */
  line: number;
}

const SPACE = `[${WHITE_SPACE}]`;
const OPENING = /\{(?:%|\{|#)/g;
const RAW_BEGIN = new RegExp(`\\{%[-+]?${SPACE}*raw${SPACE}*(?:-%\\}${SPACE}*|%\\})`, 'y');
const RAW_END = new RegExp(`\\{%([-+]?)${SPACE}*endraw${SPACE}*(?:\\+%\\}|-%\\}${SPACE}*|%\\}\\n?)`, 'g');
const COMMENT_END = new RegExp(`(?:\\+#\\}|-#\\}${SPACE}*|#\\}\\n?)`, 'g');
const BLOCK_END = new RegExp(`(?:\\+%\\}|-%\\}${SPACE}*|%\\}\\n?)`, 'y');
const PRINT_END = new RegExp(`(?:-\\}\\}${SPACE}*|\\}\\})`, 'y');
const BLANKS = new RegExp(`${SPACE}+`, 'y');
const ONLY_BLANKS = new RegExp(`^${SPACE}+$`);
const FLOAT = /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INT = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{L}\p{N}_][\p{L}\p{M}\p{N}\p{Pc}]*/uy;
const STRING = /'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*"/y;
const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const CLOSERS: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Throws TemplateError for what cannot be a template. */
export function tokenize(template: string): Token[] {
  const source = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  let counted = 0;
  /** Whether what was read last ended in a line end. */
  let startsLine = true;

  const lineAt = (place: number): number => {
    for (; counted < place; counted++) if (source[counted] === '\n') line += 1;
    return line;
  };
  const fail = (what: string): never => {
    throw new TemplateError(`line ${lineAt(at)}: ${what}`);
  };
  const add = (type: TokenType, value: string): void => {
    tokens.push({ type, value, line: lineAt(at) });
  };
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  };
  const skip = (text: string): void => {
    at += text.length;
    startsLine = text.endsWith('\n');
  };
  /** Adds the text up to a tag, cut as the sign of the tag asks for. */
  const addText = (text: string, sign: string | undefined, isPrint: boolean): void => {
    let kept = text;
    if (sign === '-') kept = trimEnd(text);
    else if (sign !== '+' && !isPrint) {
      const start = text.lastIndexOf('\n') + 1;
      if ((start > 0 || startsLine) && ONLY_BLANKS.test(text.slice(start))) kept = text.slice(0, start);
    }
    if (kept !== '') add('text', kept);
  };

  while (at < source.length) {
    OPENING.lastIndex = at;
    const opening = OPENING.exec(source);
    if (opening === null) {
      add('text', source.slice(at));
      break;
    }
    const mark = opening[0];
    const text = source.slice(at, opening.index);
    const sign = /[-+]/.exec(source[opening.index + 2] ?? '')?.[0];
    addText(text, sign, mark === '{{');
    at = opening.index;

    const raw = match(RAW_BEGIN);
    if (raw !== undefined) {
      skip(raw);
      // As in Jinja, nothing is missing where the template ends right here.
      if (at === source.length) break;
      RAW_END.lastIndex = at;
      const end = RAW_END.exec(source) ?? fail('expected an endraw for this raw, got none');
      addText(source.slice(at, end.index), end[1], false);
      at = end.index;
      skip(end[0]);
      continue;
    }
    at += mark.length + (sign?.length ?? 0);
    if (mark === '{#') {
      if (at === source.length) break;
      COMMENT_END.lastIndex = at;
      const end = COMMENT_END.exec(source) ?? fail('expected #} at the end of this comment, got none');
      at = end.index;
      skip(end[0]);
      continue;
    }
    const isPrint = mark === '{{';
    add(isPrint ? 'begin-print' : 'begin-block', mark);
    readTag(isPrint);
  }
  add('end', '');
  return tokens;

  /** The tokens of a tag up to and with its end. */
  function readTag(isPrint: boolean): void {
    const open: string[] = [];
    while (at < source.length) {
      const end = open.length === 0 ? match(isPrint ? PRINT_END : BLOCK_END) : undefined;
      if (end !== undefined) {
        add(isPrint ? 'end-print' : 'end-block', end);
        skip(end);
        return;
      }
      const blanks = match(BLANKS);
      if (blanks !== undefined) {
        at += blanks.length;
        continue;
      }
      readToken(open);
    }
  }

  function readToken(open: string[]): void {
    let found = match(FLOAT);
    if (found !== undefined) add('float', found.replaceAll('_', ''));
    else if ((found = match(INT)) !== undefined) add('int', found.replaceAll('_', ''));
    else if ((found = match(NAME)) !== undefined) {
      if (/^\p{N}/u.test(found)) fail(`expected a name, got ${JSON.stringify(found)}`);
      add('name', found);
    } else if ((found = match(STRING)) !== undefined) add('string', unescape(found.slice(1, -1), fail));
    else if ((found = match(OPERATOR)) !== undefined) {
      add('operator', found);
      const closer = CLOSERS[found];
      if (closer !== undefined) open.push(closer);
      else if (found === ')' || found === ']' || found === '}') {
        const expected = open.pop();
        if (expected !== found) fail(`expected ${expected ?? 'no closing bracket'}, got ${found}`);
      }
    } else fail(`unexpected character ${JSON.stringify(source[at])}`);
    at += found?.length ?? 0;
  }
}

const ESCAPE = /\\(?:[0-7]{1,3}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[\s\S])/g;
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  "'": "'",
  '"': '"',
  '\\': '\\',
  '\n': '',
};

/** A Python string literal without its quotes. An escape that Python does not know stays as it is. */
function unescape(text: string, fail: (what: string) => never): string {
  return text.replace(ESCAPE, (escape) => {
    const code = escape.slice(1);
    const simple = SIMPLE_ESCAPES[code];
    if (simple !== undefined) return simple;
    if (/^[0-7]/.test(code)) return String.fromCodePoint(Number.parseInt(code, 8));
    if (/^[xuU]./.test(code)) {
      const point = Number.parseInt(code.slice(1), 16);
      return point <= 0x10ffff ? String.fromCodePoint(point) : fail(`expected a character, got ${escape}`);
    }
    return /^[xuUN]$/.test(code) ? fail(`expected a whole escape, got ${escape}`) : escape;
  });
}
