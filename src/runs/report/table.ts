/**
 * A table as data, and the two ways to write it: HTML for the page, Markdown for everything else.
 *
 * Both say the same; what only a picture can say (`marks`) is for the page alone. Every text is escaped here.
 */
import { oneLine } from '../../lib/printable.ts';
import { escapeText } from '../charts.ts';
import { NOTHING } from './numbers.ts';

export interface Cell {
  text: string;
  /** Small, below the text: an interval. */
  note?: string;
}

export interface Row {
  label: string;
  cells: readonly (Cell | string)[];
  /** `control`: what the rows in bold must beat; `cost`: what they cost; `open`: says nothing either way. */
  look?: 'control' | 'cost' | 'open';
  /** A picture of the row, as HTML. */
  marks?: string;
}

export interface Table {
  caption: string;
  /** For the page alone: what the pictures show. */
  marksCaption?: string;
  /** Of the column of labels, then one for each cell. */
  head: readonly string[];
  /** Above the heads: a name for so many columns, from the second on. */
  groups?: readonly { name: string; span: number }[];
  rows: readonly Row[];
  /** `results`: rates, headline rows in bold; `plain`: texts, aligned to the left. */
  style?: 'results' | 'reflections' | 'plain';
}

export function htmlTable(table: Table): string {
  const { caption, marksCaption, head, groups, rows, style } = table;
  const marked = rows.some(({ marks }) => marks !== undefined);
  const space = marked ? '<td class="wide"></td>' : '';
  const groupRow =
    groups === undefined
      ? ''
      : `<tr><td></td>${groups.map(({ name, span }) => `<th scope="colgroup" colspan="${span}">${escapeText(name)}</th>`).join('')}${space}</tr>\n`;
  const heads = head.map((name, i) =>
    name === '' && i === 0 ? '<td></td>' : `<th scope="col">${escapeText(name)}</th>`,
  );
  const body = rows.map(({ label, cells, look, marks }) => {
    const attributes = look === undefined ? '' : ` class="${look}"`;
    return `<tr${attributes}><th scope="row">${escapeText(label)}</th>${cells.map(htmlCell).join('')}${marked ? `<td class="wide">${marks ?? ''}</td>` : ''}</tr>`;
  });
  const wide = marksCaption === undefined ? '' : `<span class="wide"> ${escapeText(marksCaption)}</span>`;
  return `<div class="scroll" role="region" aria-label="${escapeText(caption)}" tabindex="0"><table${style === undefined ? '' : ` class="${style}"`}>
<caption>${escapeText(caption)}${wide}</caption>
<thead>
${groupRow}<tr>${heads.join('')}${space}</tr>
</thead>
<tbody>${body.join('\n')}</tbody>
</table></div>`;
}

function htmlCell(cell: Cell | string): string {
  const { text, note } = typeof cell === 'string' ? { text: cell, note: undefined } : cell;
  if (text === NOTHING) return `<td class="none">${NOTHING}</td>`;
  return `<td>${escapeText(text)}${note === undefined ? '' : `<small>${escapeText(note)}</small>`}</td>`;
}

export function markdownTable({ caption, head, groups, rows }: Table): string {
  const prefixes = [
    '',
    ...(groups ?? []).flatMap(({ name, span }) => Array.from({ length: span }, () => name)),
  ];
  const heads = head.map((name, i) =>
    markdownText([prefixes[i] ?? '', name].filter((s) => s !== '').join(', ')),
  );
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const body = rows.map(({ label, cells }) => line([markdownText(label), ...cells.map(markdownCell)]));
  return [
    markdownText(caption),
    '',
    line(heads),
    line(heads.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...body,
  ].join('\n');
}

function markdownCell(cell: Cell | string): string {
  const { text, note } = typeof cell === 'string' ? { text: cell, note: undefined } : cell;
  return markdownText(note === undefined || text === NOTHING ? text : `${text} (${note})`);
}

/** On one line, and nothing in it is a mark of Markdown or of HTML. */
export function markdownText(text: string): string {
  return oneLine(text)
    .replaceAll(/[\\`*_[\]#|~]/g, String.raw`\$&`)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;');
}
