/** What a check on real rows found in one file or group of rows: how many rows it read and how many were as expected. */
export interface RealRowsResult {
  name: string;
  rows: number;
  passed: number;
  /** What is expected where not all rows pass, and which do not. */
  note?: string;
}
