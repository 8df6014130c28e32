/** The names of the filters, for those who must not depend on the filters themselves. */

export const FILTER_NAMES: ReadonlySet<string> = new Set(
  (
    'abs attr batch capitalize center count d default dictsort e escape first float forceescape format groupby indent ' +
    'int items join last length list lower map max min reject rejectattr replace reverse round safe select selectattr ' +
    'slice sort string sum title tojson trim truncate unique upper urlencode wordcount'
  ).split(' '),
);

export function isFilter(name: string): boolean {
  return FILTER_NAMES.has(name);
}
