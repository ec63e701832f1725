// Where the example's data are: two folders, `numberbatch` (vectors.f16.npy, words.txt) and `banking77` (train.csv, test.csv).
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const besideTheCheckout = fileURLToPath(new URL('../../../shared/data', import.meta.url));

/** @param {string | undefined} given */
export function findData(given = process.env.FINETABLE_DATA ?? besideTheCheckout) {
  const folder = resolve(given);
  const missing = [
    'numberbatch/vectors.f16.npy',
    'numberbatch/words.txt',
    'banking77/train.csv',
    'banking77/test.csv',
  ].filter((name) => !existsSync(`${folder}/${name}`));
  if (missing.length === 0) return folder;
  console.error(`This example needs ConceptNet Numberbatch and BANKING77, which are not part of the project.`);
  console.error(
    `${folder} has no ${missing.join(', ')}. Name the folder with --data or FINETABLE_DATA; README.md says what goes into it.`,
  );
  process.exit(2);
}

/** The jobs name `data/...`; these overrides put the folder that was found in its place. */
export function jobPaths(folder) {
  return [
    `tables.words.file=${folder}/numberbatch/vectors.f16.npy`,
    `features.text.tokens.vocabulary=${folder}/numberbatch/words.txt`,
    `data.train.file=${folder}/banking77/train.csv`,
  ];
}
