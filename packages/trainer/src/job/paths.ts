/** The paths of a job: relative to the job file's folder. */

/** What `map` makes of a path, or of each of several. */
export function mapPaths(paths: string | string[], map: (path: string) => string): string | string[] {
  return typeof paths === 'string' ? map(paths) : paths.map(map);
}
