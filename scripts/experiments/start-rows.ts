/**
 * The start model's rows, in memory: arms that begin from one start model with one seed measure it once.
 *
 * Kept is what depends on the start model alone. What the trained model reads or writes is made for each arm.
 */
import type { RowLog } from '../../src/evaluate.ts';
import type { PartName, PartRows } from '../../src/method/evaluation-rows.ts';

type Rows = { [Name in PartName]?: PartRows[Name][] };

const OF_START_ALONE: readonly PartName[] = ['tries', 'controls', 'startStart'];

/** Gives the log of a measurement by its name; one that was made before holds its rows. */
export function makeStartRows(): (measurement: string) => RowLog {
  const measurements = new Map<string, Rows>();
  return (measurement) => {
    const rows = measurements.get(measurement) ?? {};
    measurements.set(measurement, rows);
    return {
      kept: (part) => rows[part] ?? [],
      keep(part, row) {
        if (OF_START_ALONE.includes(part)) ((rows[part] ??= []) as (typeof row)[]).push(row);
      },
    };
  };
}
