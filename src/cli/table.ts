/**
 * Aligned plain-text tables.
 *
 * Columns of numbers are set to the right, others to the left. No lines, no colours: what is printed can be piped
 * and read aloud. Widths count code points, so that wide scripts may stand out of line.
 */
import { oneLine } from '../lib/printable.ts';

export { printable } from '../lib/printable.ts';

export type Cell = string | number;

/**
 * Rows under their heads, two spaces between columns, without a newline at the end. A column is set to the right
 * when it holds numbers or what begins like one. Rows may be shorter than the head.
 */
export function renderTable(heads: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const texts = [heads, ...rows].map((row) => heads.map((_, column) => oneLine(String(row[column] ?? ''))));
  const widths = heads.map((_, column) => Math.max(...texts.map((row) => widthOf(row[column]!))));
  const numeric = heads.map((_, column) => {
    const filled = texts.slice(1).filter((row) => row[column] !== '');
    return filled.length > 0 && filled.every((row) => /^[-+−]?\d|^[–-]$/.test(row[column]!));
  });
  return texts
    .map((row) =>
      row
        .map((text, column) => {
          const space = ' '.repeat(widths[column]! - widthOf(text));
          return numeric[column] === true ? space + text : text + space;
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The same as a table of Markdown (GitHub's extension). */
export function renderMarkdown(heads: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const line = (cells: readonly Cell[]): string =>
    `| ${heads.map((_, i) => oneLine(String(cells[i] ?? '')).replaceAll('|', String.raw`\|`)).join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n');
}

/** In code points. */
export function widthOf(text: string): number {
  return Array.from(text).length;
}
