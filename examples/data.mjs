// Where the data of the examples are, which are not part of the project: in the folder that --data or FINETABLE_DATA names, or in ../shared/data
// beside the checkout.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const besideTheCheckout = fileURLToPath(new URL('../../shared/data', import.meta.url));

/**
 * The folder, or the end of the program (status 2) where a file is missing.
 *
 * @param {string} about what is needed, for people
 * @param {string[]} files paths in the folder
 * @param {string | undefined} given
 */
export function findData(about, files, given) {
  const folder = resolve(given ?? process.env.FINETABLE_DATA ?? besideTheCheckout);
  const missing = files.filter((name) => !existsSync(`${folder}/${name}`));
  if (missing.length === 0) return folder;
  console.error(`This example needs ${about}, which are not part of the project.`);
  console.error(
    `${folder} has no ${missing.join(', ')}. Name the folder with --data or FINETABLE_DATA; README.md says what goes into it.`,
  );
  process.exit(2);
}
